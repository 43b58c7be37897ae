"""Densities of states by tight binding with fitted parameters, the baseline that the networks correct."""

from .model import N_SHELLS, TightBinding

__all__ = ["N_SHELLS", "TightBinding"]
