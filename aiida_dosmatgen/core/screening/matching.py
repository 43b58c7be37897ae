"""Which crystals are the same: among themselves, and as known ones (pymatgen's ``StructureMatcher``)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..elements import Composition, atomic_number, composition, parse_formula

_SAME_VOLUME = 0.15  # relative difference per atom up to which two candidates can be one


def duplicates(crystals: CrystalSet, order: list[int]) -> list[int]:
    """Return those of ``order`` that equal one before them, volumes included.

    Only crystals of one composition are compared, and each only with those that are no duplicates themselves.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(scale=False, primitive_cell=False)
    rank = {i: place for place, i in enumerate(order)}
    found = []
    by_composition = sorted(order, key=lambda i: (_composition(crystals, i), rank[i]))
    for _, group in itertools.groupby(by_composition, key=lambda i: _composition(crystals, i)):
        members = list(group)
        if len(members) < 2:
            continue
        kept: list[tuple[float, Any]] = []
        for i in members:
            structure = _primitive(crystals, i)
            per_atom = structure.volume / len(structure)
            if any(abs(per_atom / volume - 1) < _SAME_VOLUME and matcher.fit(structure, other) for volume, other in kept):
                found.append(i)
            else:
                kept.append((per_atom, structure))
    return found


def known_as(crystals: CrystalSet, chosen: Iterable[int], known: CrystalSet) -> dict[int, int]:
    """Return for those of the chosen crystals that are known the row of the first known crystal that they equal.

    Compositions must agree; volumes are scaled to each other, so that a strained crystal is known as what it was made from.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(scale=True, primitive_cell=False)
    rows: dict[Composition, list[int]] = {}
    for i in range(len(known)):
        rows.setdefault(_composition(known, i), []).append(i)
    structures: dict[int, Any] = {}
    found: dict[int, int] = {}
    for i in chosen:
        same = rows.get(_composition(crystals, i), [])
        if not same:
            continue
        structure = _primitive(crystals, i)
        for j in same:
            if j not in structures:
                structures[j] = _primitive(known, j)
            if len(structures[j]) == len(structure) and matcher.fit(structure, structures[j]):
                found[i] = j
                break
    return found


def composition_of(numbers: np.ndarray) -> Composition:
    """Return the reduced composition of atoms: a supercell is the same crystal."""
    return _reduced(composition(numbers))


def reduced_composition(formula: str) -> Composition:
    """Return the reduced composition of a formula such as ``GaAs`` or ``Ga2As2``.

    :raises ContentError: if it is none.
    """
    return _reduced(tuple(sorted((atomic_number(symbol), count) for symbol, count in parse_formula(formula).items())))


def _reduced(counts: Composition) -> Composition:
    divisor = math.gcd(*(count for _, count in counts))
    return tuple((element, count // divisor) for element, count in counts)


def _composition(crystals: CrystalSet, i: int) -> Composition:
    return composition_of(crystals.numbers[crystals.offsets[i] : crystals.offsets[i + 1]])


def _primitive(crystals: CrystalSet, i: int) -> Any:
    return crystals[i].to_pymatgen()[0].get_primitive_structure()
