"""How a crystal lies in space, by which pw.x tells its symmetry.

It looks for rotations about the axes of its tables only, and drops those whose translation is not one of its grid, as it is
not where the origin is anywhere.
"""

from __future__ import annotations

import numpy as np
import spglib

from ..crystals import CrystalSet

_TOLERANCE = 1e-3  # Å
_ALIGNED = 1e-7
_PARTS = 24  # of the vectors of a cell: translations of the standard settings are multiples of them


def oriented(crystal: CrystalSet) -> CrystalSet:
    """Turn and shift one crystal as a whole to the axes and the origin of spglib's standard setting, which pw.x knows.

    The shape of the cell, the order of atoms and columns stay as they are, so columns must not depend on the orientation.

    :return: the crystal itself if it has no rotations, or lies so already.
    """
    cell = (crystal.lattices[0], crystal.fractional, crystal.numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=_TOLERANCE)  # type: ignore[arg-type]
    except spglib.SpglibError:
        found = None
    if found is None or len(found.rotations) == 1:
        return crystal
    parts = found.translations * _PARTS
    if np.abs(parts - np.round(parts)).max() > _ALIGNED * _PARTS:
        shift = np.linalg.solve(found.transformation_matrix, found.origin_shift)
        # one that lies at the origin already has rounded positions, which no shift corrects
        if np.linalg.norm((shift - np.round(shift)) @ crystal.lattices[0]) > _TOLERANCE:
            crystal = crystal.replace(fractional=crystal.fractional + shift)
    rotation = np.asarray(found.std_rotation_matrix)
    if all(abs(np.trace(one)) == 3 for one in found.rotations):
        return crystal  # the identity and the inversion lie in any way
    if np.linalg.det(rotation) < 0.5 or np.allclose(rotation, np.eye(3), atol=_ALIGNED):
        return crystal
    left, _, right = np.linalg.svd(rotation)  # what is off by 1e-6 would be a strain
    return crystal.replace(lattices=crystal.lattices @ (left @ right).T)
