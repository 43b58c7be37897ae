"""What is held of a candidate: elements, coordinates, lattice, composition."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .strict import Strict

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class SiteConstraint(Strict):
    """What holds for some atoms of a candidate.

    :param sites: indices of the atoms, from 0.
    :param element: chemical symbol that each of them has, or ``template`` for those that they have there.
    :param allowed: symbols of which each has one.
    :param forbidden: symbols that none has.
    :param coordinates: fractional coordinates, one for each site, or ``template`` for those that they have there.
    """

    sites: list[int] | Literal["all"]
    element: str | None = None
    allowed: list[str] | None = None
    forbidden: list[str] | None = None
    coordinates: list[Vector] | Literal["template"] | None = None


class LatticeConstraint(Strict):
    """What is held of the cell; ``template`` takes it from the template.

    :param matrix: lattice vectors as rows in Å.
    :param volume: of the cell in Å³.
    :param shape: lattice vectors as rows, of which only lengths relative to each other, and angles, are held.
    """

    matrix: Matrix | Literal["template"] | None = None
    volume: float | Literal["template"] | None = None
    shape: Matrix | Literal["template"] | None = None


class Constraints(Strict):
    """All that is held of a candidate, at once.

    :param composition: how many atoms of each element, exactly, {"Ga": 2, "As": 2}.
    :param formula: the proportions of the elements, ``GaAs``; the number of atoms is a multiple of the formula's.
    """

    sites: list[SiteConstraint] = []
    lattice: LatticeConstraint | None = None
    composition: dict[str, int] | None = None
    formula: str | None = Field(None, min_length=1)
