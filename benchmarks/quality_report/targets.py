"""What is asked for: crystals of chemical systems that no model has seen, near to equilibrium, each of another kind."""

from __future__ import annotations

import itertools

import numpy as np
from ase.units import GPa

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS


def chemical_systems(crystals: CrystalSet) -> list[str]:
    """Return the elements of each crystal, ``B-N``."""
    offsets = crystals.offsets
    return ["-".join(sorted({SYMBOLS[z] for z in crystals.numbers[a:b]})) for a, b in itertools.pairwise(offsets)]


def near_equilibrium(crystals: CrystalSet, largest_force: float = 1.0, largest_pressure: float = 10 * GPa) -> np.ndarray:
    """Tell which labelled crystals have forces and a pressure below these limits by their labels, shape (N,) bool.

    :param largest_force: in eV/Å; ``largest_pressure`` in eV/Å³.
    """
    force = np.zeros(len(crystals))
    np.maximum.at(force, crystals.crystal_of_atom, np.linalg.norm(crystals.atom_columns["forces"], axis=1))
    pressure = np.abs(np.trace(crystals.crystal_columns["stress"], axis1=1, axis2=2)) / 3
    return (force < largest_force) & (pressure < largest_pressure)
