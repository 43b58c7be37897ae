"""What holds for the cell of a candidate, as a job states it, and the cell that it fixes."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ..crystals import CrystalSet
from ..errors import ContentError
from ..strict import Strict
from .sites import Finite, Vector

Matrix = tuple[Vector, Vector, Vector]

SAME_CELL = 1e-6
"""Relative difference up to which two descriptions of one cell agree."""


class LatticeConstraint(Strict):
    """The constraints of the cell; ``template`` takes them from the template.

    :param matrix: lattice vectors as rows in Å.
    :param volume: of the cell in Å³.
    :param shape: lattice vectors as rows, of which only lengths relative to each other, and angles, are fixed.
    """

    matrix: Matrix | Literal["template"] | None = None
    volume: Annotated[Finite, Field(gt=0)] | Literal["template"] | None = None
    shape: Matrix | Literal["template"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LatticeConstraint:
        if self.matrix is None and self.volume is None and self.shape is None:
            raise ContentError("nothing is constrained; give matrix, volume or shape")
        for name, cell in (("matrix", self.matrix), ("shape", self.shape)):
            if isinstance(cell, tuple):
                check_cell(np.array(cell), name)
                if np.linalg.det(cell) < 0:
                    raise ContentError(f"{name} is left-handed; turn the sign of its three vectors, and of all coordinates")
        if "template" not in (self.matrix, self.volume, self.shape):
            cell_of(self, None)
        return self


def cell_of(
    lattice: LatticeConstraint | None, template: CrystalSet | None
) -> tuple[np.ndarray | None, float | None, np.ndarray | None]:
    """Return the one of lattice (3, 3), volume and shape (3, 3) that is held, the others as None.

    :param template: one crystal, if anything is taken from there.
    :raises ContentError: if they disagree.
    """
    if lattice is None:
        return None, None, None
    there = None if template is None else template.lattices[0]

    def array(value: object) -> np.ndarray | None:
        return None if value is None else there if value == "template" else np.array(value, dtype=np.float64)

    matrix, shape = array(lattice.matrix), array(lattice.shape)
    volume = lattice.volume
    if volume == "template":
        assert there is not None
        volume = abs(float(np.linalg.det(there)))
    assert not isinstance(volume, str)
    for name, cell in (("matrix", matrix), ("shape", shape)):
        if cell is not None:
            check_cell(cell, f"lattice.{name}")
    if matrix is not None:
        _check_agreement(matrix, volume, shape)
        return matrix, None, None
    if shape is not None and volume is not None:
        return shape * (volume / abs(np.linalg.det(shape))) ** (1 / 3), None, None
    return None, volume, shape


def _check_agreement(matrix: np.ndarray, volume: float | None, shape: np.ndarray | None) -> None:
    """Refuse a lattice that has another volume or shape than is asked for.

    :raises ContentError: naming both.
    """
    own = abs(float(np.linalg.det(matrix)))
    if volume is not None and abs(own - volume) > SAME_CELL * own:
        raise ContentError(
            f"lattice.matrix has the volume {own:g} Å^3, but lattice.volume is {volume:g}; leave one of them out"
        )
    if shape is not None and not same_shape(matrix, shape):
        raise ContentError("lattice.matrix and lattice.shape disagree about lengths and angles; leave one of them out")


def check_cell(matrix: np.ndarray, name: str) -> None:
    """Refuse lattice vectors, shape (3, 3), that span no volume.

    :raises ContentError: naming the cell.
    """
    lengths = np.sqrt((matrix**2).sum(1))
    if abs(np.linalg.det(matrix)) < 1e-6 * lengths.prod() or not lengths.all():
        raise ContentError(f"{name} is no cell: its lattice vectors lie in a plane; give three that span a volume")


def same_shape(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two lattices, shape (3, 3), are the same up to their size and orientation."""
    first, second = (m @ m.T / abs(np.linalg.det(m)) ** (2 / 3) for m in (a, b))
    return bool(np.abs(first - second).max() <= SAME_CELL * np.abs(first).max())
