"""Cells in the form that all models are trained on."""

from __future__ import annotations

import numpy as np
import spglib

from ..core.crystals import CrystalSet


def niggli(crystals: CrystalSet) -> CrystalSet:
    """Reduce every cell to its Niggli cell, right-handed, without rotating the crystal or reordering its atoms.

    Coordinates come back in [0, 1). Cells that spglib cannot reduce stay as they are. Forces and stresses stay valid.
    """
    lattices, fractional = np.empty_like(crystals.lattices), np.empty_like(crystals.fractional)
    offsets = crystals.offsets
    for i, lattice in enumerate(crystals.lattices):
        reduced = spglib.niggli_reduce(lattice, eps=1e-5) if crystals[i].defect() is None else None
        reduced = lattice if reduced is None else np.asarray(reduced)
        if np.linalg.det(reduced) < 0:
            reduced = -reduced
        atoms = slice(offsets[i], offsets[i + 1])
        lattices[i] = reduced
        # a singular cell has no inverse; it must not stop the other crystals
        change = lattice @ np.linalg.pinv(reduced) if np.isfinite(reduced).all() else np.eye(3)
        wrapped = crystals.fractional[atoms] @ change % 1.0
        fractional[atoms] = np.where(wrapped >= 1.0, 0.0, wrapped)
    return crystals.replace(lattices=lattices, fractional=fractional)
