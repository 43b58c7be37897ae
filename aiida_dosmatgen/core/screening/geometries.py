"""The two geometries of a candidate: relaxed by the force field, and unrelaxed, as it was sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from ..crystals import CrystalSet
from ..errors import ContentError

RELAXED: Final = "relaxed"
UNRELAXED: Final = "unrelaxed"
GEOMETRIES = (RELAXED, UNRELAXED)


def join_geometries(relaxed: CrystalSet, unrelaxed: CrystalSet) -> CrystalSet:
    """Return both geometries of candidates in one set, first all relaxed ones, with the crystal column ``geometry``.

    A candidate that was not relaxed is left out, because its stability is unknown. An unrelaxed crystal has the energy that
    its relaxation started from, the status ``unrelaxed``, and neither forces nor stress. Numbers that only one of the
    geometries has, such as predictions, are NaN for the other.

    :param relaxed: with the columns of a relaxation and, like ``unrelaxed``, the column ``candidate``.
    :raises ContentError: if a candidate occurs twice, or its two geometries have different atoms.
    """
    for name, crystals in ((RELAXED, relaxed), (UNRELAXED, unrelaxed)):
        if "candidate" not in crystals.crystal_columns:
            raise ContentError(f"the {name} crystals have no column 'candidate', by which the two geometries are matched")
        numbers = crystals.crystal_columns["candidate"]
        if len(np.unique(numbers)) < len(numbers):
            raise ContentError(f"the {name} crystals hold a candidate twice; give each once")
    _, rows, others = np.intersect1d(
        relaxed.crystal_columns["candidate"], unrelaxed.crystal_columns["candidate"], assume_unique=True, return_indices=True
    )
    order = np.argsort(rows)
    start, other = relaxed[rows[order]], unrelaxed[others[order]]
    if not np.array_equal(start.n_atoms, other.n_atoms) or not np.array_equal(start.numbers, other.numbers):
        raise ContentError("the relaxed and the unrelaxed crystals have different atoms; they are of different candidates")
    start_energy = start.crystal_columns.get("start_energy", np.full(len(start), np.nan))
    texts = {"status": np.full(len(other), UNRELAXED), "geometry": np.full(len(other), UNRELAXED)}
    other = other.with_columns(crystal={"energy": start_energy, "start_energy": start_energy, **texts})
    relaxed = relaxed.with_columns(crystal={"geometry": np.full(len(relaxed), RELAXED)})
    return CrystalSet.concatenate([_completed(relaxed, other), _completed(other, relaxed)])


def _completed(crystals: CrystalSet, like: CrystalSet) -> CrystalSet:
    """Return crystals with the columns that only the others have, empty: NaN, 0, or no text."""
    empty = {"f": np.nan, "U": ""}

    def missing(own: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        return {
            name: np.full((rows, *column.shape[1:]), empty.get(column.dtype.kind, 0), column.dtype)
            for name, column in theirs.items()
            if name not in own
        }

    return crystals.with_columns(
        missing(crystals.crystal_columns, like.crystal_columns, len(crystals)),
        missing(crystals.atom_columns, like.atom_columns, len(crystals.numbers)),
    )
