"""Batched relaxation of crystals with a force field, cells and positions together.

Begin with :mod:`.relax`: invalid crystals are repaired (:mod:`.repair`), may be kept symmetric (:mod:`.symmetry`), and
go through a pool (:mod:`.pool`) of L-BFGS (:mod:`.lbfgs`) whose first curvature is that of springs (:mod:`.springs`);
:mod:`..parts` keeps what is finished. :mod:`.forcefields` loads force fields, and :mod:`.references` computes the energies of
the elements with them.
"""

from .relax import STATUSES, Relaxed, gather, relax

__all__ = ["STATUSES", "Relaxed", "gather", "relax"]
