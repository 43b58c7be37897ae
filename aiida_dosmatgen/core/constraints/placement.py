"""The places of atoms, and the cell, that constraints fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..contacts import reduce_lattices
from ..crystals import CrystalSet
from ..errors import ContentError
from .restrictions import atoms_of

if TYPE_CHECKING:
    from .constraints import LatticeConstraint, SiteConstraint

SAME_CELL = 1e-6
"""Relative difference up to which two descriptions of one cell agree."""

CLOSEST = 0.5
"""Å; no two atoms of a crystal are nearer to each other."""


class Place(NamedTuple):
    """Fractional coordinates of an atom, and who asks for them."""

    source: str
    fractional: tuple[float, ...]


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


def places_of(sites: Sequence[SiteConstraint], n_atoms: int, template: CrystalSet | None) -> dict[int, Place]:
    """Return where which atoms are put.

    :param template: one crystal; None leaves out what is taken from there.
    :raises ContentError: if one atom is put at two places.
    """
    places: dict[int, Place] = {}
    for i, constraint in enumerate(sites):
        if constraint.coordinates is None or (constraint.coordinates == "template" and template is None):
            continue
        for row, atom in enumerate(atoms_of(constraint, n_atoms)):
            if constraint.coordinates == "template":
                assert template is not None
                place = Place(f"sites[{i}]", tuple(template.fractional[atom].tolist()))
            else:
                place = Place(f"sites[{i}]", constraint.coordinates[row])
            first = places.setdefault(atom, place)
            if first.fractional != place.fractional:
                raise ContentError(
                    f"{first.source} puts atom {atom} at {_text(first)}, but {place.source} puts it at {_text(place)}"
                )
    return places


def _text(place: Place) -> str:
    return "(" + ", ".join(f"{x:.6g}" for x in place.fractional) + ")"


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


def check_distances(places: dict[int, Place], lattice: np.ndarray | None) -> None:
    """Refuse atoms that are put on top of each other: nearer than :data:`CLOSEST`, or at one place if the cell is not known.

    :param lattice: lattice vectors as rows in Å, shape (3, 3), or None.
    :raises ContentError: naming two atoms, and who puts them there.
    """
    if lattice is not None:
        reduced = reduce_lattices(lattice[None])[0]
        shortest = float(np.sqrt((reduced**2).sum(1)).min())
        if shortest < CLOSEST:
            raise ContentError(f"lattice.matrix puts every atom {shortest:.2g} Å from its own image; give a larger cell")
    atoms = sorted(places)
    steps = np.arange(-2, 3)
    images = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    for n, i in enumerate(atoms[:-1]):
        rest = atoms[n + 1 :]
        apart = np.array([places[j].fractional for j in rest]) - np.array(places[i].fractional)
        if lattice is None:
            distances, limit, unit = np.abs(apart - np.round(apart)).max(-1), 1e-3, "of the lattice vectors"
        else:
            inside = apart @ lattice @ np.linalg.inv(reduced)
            vectors = (inside - np.round(inside))[:, None] + images
            distances, limit, unit = np.sqrt(((vectors @ reduced) ** 2).sum(-1)).min(-1), CLOSEST, "Å"
        if distances.min() < limit:
            j = rest[int(distances.argmin())]
            raise ContentError(
                f"{places[i].source} puts atom {i} and {places[j].source} puts atom {j} only {distances.min():.2g} {unit} "
                f"apart; held atoms need {limit:g} at least"
            )
