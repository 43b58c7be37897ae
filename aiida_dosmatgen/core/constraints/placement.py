"""The places of atoms that constraints fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..contacts import reduce_lattices
from ..crystals import CrystalSet
from ..errors import ContentError
from .restrictions import atoms_of
from .sites import SiteConstraint

CLOSEST = 0.5
"""Å; no two atoms of a crystal are nearer to each other."""


class Place(NamedTuple):
    """Fractional coordinates of an atom, and who asks for them."""

    source: str
    fractional: tuple[float, ...]


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
