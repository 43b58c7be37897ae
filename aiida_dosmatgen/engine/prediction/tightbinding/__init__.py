"""Densities of states by tight binding with fitted parameters, the baseline that the networks correct.

Begin with :mod:`.model`, the Hamiltonian and its parameters. It is made of :mod:`.overlap` and :mod:`.bloch` (matrices),
:mod:`.spectrum` (from matrices to curves) and :mod:`.elements` (where the fit of the parameters starts).
"""

from .model import N_SHELLS, TightBinding

__all__ = ["N_SHELLS", "TightBinding"]
