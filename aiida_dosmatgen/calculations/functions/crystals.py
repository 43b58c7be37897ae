"""Sets of crystals: joined, collected, and single crystals taken out."""

from __future__ import annotations

import numpy as np
from aiida.orm import Int, List

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.screening import geometries
from ...data.conversion import StructureData, crystal_of, structure_of
from ...data.crystals import CrystalSetData
from .content import content_function


@content_function
def join_crystals(**parts: CrystalSetData) -> CrystalSetData:
    """Put the crystals of several jobs into one set, in the order of their candidates.

    :param parts: with the column ``candidate``; any names.
    """
    crystals = CrystalSet.concatenate([part.crystals for part in parts.values()])
    if "candidate" not in crystals.crystal_columns:
        raise ContentError("the crystals have no column 'candidate', by which they are put in order")
    order = np.argsort(crystals.crystal_columns["candidate"], kind="stable")
    if not np.array_equal(order, np.arange(len(crystals))):  # a copy of all that is needed seldom
        crystals = crystals[order]
    return CrystalSetData(crystals, check=False)


@content_function
def join_geometries(relaxed: CrystalSetData, unrelaxed: CrystalSetData) -> CrystalSetData:
    """Put the relaxed and the unrelaxed geometry of each candidate into one set.

    :param relaxed: with the columns of a relaxation; both with the column ``candidate``.
    :return: first all relaxed ones, then the unrelaxed ones, with the column ``geometry`` (``core/screening/geometries.py``).
    """
    return CrystalSetData(geometries.join_geometries(relaxed.crystals, unrelaxed.crystals), check=False)


@content_function
def collect_crystals(elements: List | None = None, **parts: CrystalSetData) -> CrystalSetData:
    """Put crystals of any origin into one set, without their columns.

    :param elements: crystals with other elements are left out.
    :param parts: any names.
    """
    crystals = CrystalSet.concatenate(
        part.crystals.replace(crystal_columns={}, atom_columns={}) for _, part in sorted(parts.items())
    )
    if elements is not None:
        allowed = np.array([SYMBOLS.index(symbol) for symbol in elements.get_list()])
        foreign = np.unique(crystals.crystal_of_atom[~np.isin(crystals.numbers, allowed)])
        crystals = crystals[np.setdiff1d(np.arange(len(crystals)), foreign)]
    return CrystalSetData(crystals)


@content_function
def extract_candidate(crystals: CrystalSetData, candidate: Int) -> StructureData:
    """Return one crystal as a structure, with its formula as the label.

    :param candidate: its number in the column ``candidate``, or its row where crystals have no such column.
    """
    given = crystals.crystals  # reads the file
    return structure_of(given[row_of(given, candidate.value)])


@content_function
def crystals_from_structure(structure: StructureData) -> CrystalSetData:
    """Return a structure as a set of one crystal."""
    return CrystalSetData(crystal_of(structure))


def row_of(crystals: CrystalSet, candidate: int) -> int:
    """Return the row of a candidate.

    :raises ContentError: if there is none, or more than one (sets of several seeds).
    """
    if "candidate" not in crystals.crystal_columns:
        rows = np.arange(len(crystals))[candidate : candidate + 1] if candidate >= 0 else np.array([], int)
    else:
        rows = np.flatnonzero(crystals.crystal_columns["candidate"] == candidate)
    if len(rows) != 1:
        raise ContentError(f"{len(rows)} of the {len(crystals)} crystals have the number {candidate}; one is needed")
    return int(rows[0])
