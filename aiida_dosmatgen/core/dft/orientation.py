"""How a crystal lies in space, by which pw.x tells its symmetry: it looks for rotations about the axes of its tables only."""

from __future__ import annotations

import numpy as np
import spglib

from ..crystals import CrystalSet

_TOLERANCE = 1e-3  # Å
_ALIGNED = 1e-7


def oriented(crystal: CrystalSet) -> CrystalSet:
    """Turn one crystal as a whole so that its axes of rotation are those of spglib's standard setting, which pw.x knows.

    Vectors of the cell, atoms and columns stay as they are, so columns must not depend on the orientation.

    :return: the crystal itself if it has no rotations, or lies so already.
    """
    cell = (crystal.lattices[0], crystal.fractional, crystal.numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=_TOLERANCE)  # type: ignore[arg-type]
    except spglib.SpglibError:
        found = None
    if found is None or all(abs(np.trace(rotation)) == 3 for rotation in found.rotations):
        return crystal  # the identity and the inversion lie in any way
    rotation = np.asarray(found.std_rotation_matrix)
    if np.linalg.det(rotation) < 0.5 or np.allclose(rotation, np.eye(3), atol=_ALIGNED):
        return crystal
    left, _, right = np.linalg.svd(rotation)  # what is off by 1e-6 would be a strain
    return crystal.replace(lattices=crystal.lattices @ (left @ right).T)
