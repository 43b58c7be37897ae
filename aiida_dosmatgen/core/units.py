"""Atomic units in eV and Å, of the newest table of CODATA that scipy has."""

from scipy.constants import physical_constants

HARTREE: float = physical_constants["Hartree energy in eV"][0]
"""eV"""

RYDBERG = HARTREE / 2
"""eV"""

BOHR: float = physical_constants["Bohr radius"][0] * 1e10
"""Å"""
