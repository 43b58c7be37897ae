"""Which crystals are the same: among themselves, and as known ones.

Two crystals are equal if they have one reduced composition, volumes per atom within 15 %, energies per atom within
:data:`SAME_ENERGY` where both are known, fingerprints (:mod:`.fingerprints`) within :data:`SAME_FINGERPRINT` of each other in
every entry, and if pymatgen's ``StructureMatcher`` maps the one on the other and the other on the one. Its default tolerances
alone call crystals equal whose energies differ by tenths of an eV/atom, and it would have to see all pairs. The other
conditions leave it few, which a tree finds, so that time grows with the number of crystals and not with that of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contacts import valid_crystals
from ..crystals import CrystalSet
from ..elements import Composition, atomic_number, composition, parse_formula
from .fingerprints import fingerprints

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

SAME_ENERGY = 0.025
"""eV/atom."""
SAME_FINGERPRINT = 0.05
"""In units of the cube root of the volume per atom. Crystals that are displaced and strained at random, then relaxed to
0.05 eV/Å, come back to within 0.045; of 300 relaxed crystals of one composition three pairs are nearer than 0.05."""
KNOWN_FINGERPRINT = 0.1
"""The same between a candidate and a known crystal, which may be strained, or relaxed by something else."""

_SAME_VOLUME = math.log(1.15)  # of the ratio of volumes per atom


class Equality:
    """The relation of being equal between some crystals of one set. It is symmetric, and the others have no part in it.

    :param rows: of valid crystals.
    :param fingerprint: tolerance.
    :param scaled: whether volumes are scaled to each other; then neither volumes nor energies are compared.
    """

    def __init__(
        self, crystals: CrystalSet, rows: Sequence[int], fingerprint: float = SAME_FINGERPRINT, scaled: bool = False
    ) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self.rows = [int(i) for i in rows]
        self._crystals = crystals
        self._matcher = StructureMatcher(scale=scaled, primitive_cell=False)
        self._structures: dict[int, Any] = {}
        prints = fingerprints(crystals, np.array(self.rows, dtype=np.int64))
        volumes = np.log(crystals.volumes / crystals.n_atoms) / _SAME_VOLUME if not scaled else np.zeros(len(crystals))
        energies = np.asarray(crystals.crystal_columns.get("energy", np.full(len(crystals), np.nan)), dtype=np.float64)
        energies = energies / crystals.n_atoms / SAME_ENERGY if not scaled else np.zeros(len(crystals))
        # along each axis one tolerance is one unit
        self.features = {
            i: np.concatenate([[energies[i], volumes[i]], own / fingerprint]) for i, own in zip(self.rows, prints, strict=True)
        }
        self.groups: dict[Composition, list[int]] = {}
        """The rows of each reduced composition, in order."""
        for i in self.rows:
            self.groups.setdefault(_composition(crystals, i), []).append(i)

    def equal(self, one: int, other: int) -> bool:
        """Say whether two rows of one composition are equal."""
        apart = np.abs(self.features[one] - self.features[other])
        return not (apart > 1).any() and self.match(one, other)  # an unknown energy is unlike none

    def match(self, one: int, other: int) -> bool:
        """Return the matcher's part in it, which is the same in both directions."""
        a, b = self._structure(one), self._structure(other)
        return len(a) == len(b) and bool(self._matcher.fit(a, b, symmetric=True, skip_structure_reduction=True))

    def _structure(self, row: int) -> Any:
        if row not in self._structures:
            # reduced once here, and not by the matcher each time
            primitive = self._crystals[row].to_pymatgen()[0].get_primitive_structure()
            self._structures[row] = primitive.get_reduced_structure("niggli")
        return self._structures[row]

    def forget(self, rows: Iterable[int]) -> None:
        """Give back the memory of what is compared no more."""
        for row in rows:
            self._structures.pop(row, None)


class _Near:
    """Points to which points are added, and which of them are within 1 of a point along each axis.

    Most are in a tree. It is made anew when those that came later have become many, so that its cost is spread over all.
    """

    def __init__(self, axes: int) -> None:
        self._points = np.zeros((64, axes))
        self._n = self._in_tree = 0
        self._tree: cKDTree | None = None

    def add(self, point: np.ndarray) -> None:
        if self._n == len(self._points):
            self._points = np.concatenate([self._points, np.zeros_like(self._points)])
        self._points[self._n] = point
        self._n += 1
        if self._n - self._in_tree > 64 + self._in_tree // 8:
            from scipy.spatial import cKDTree

            # energies are not in the tree: they may be unknown
            self._tree, self._in_tree = cKDTree(self._points[: self._n, 1:].copy()), self._n

    def to(self, point: np.ndarray) -> list[int]:
        """Return the points that are near one, in the order in which they were added."""
        found = np.arange(self._in_tree, self._n)
        if self._tree is not None:
            inside = self._tree.query_ball_point(point[1:], 1 + 1e-6, p=np.inf, return_sorted=True)
            found = np.concatenate([np.array(inside, dtype=np.int64), found])
        return found[~(np.abs(self._points[found] - point) > 1).any(1)].tolist()


def representatives(crystals: CrystalSet, order: Sequence[int]) -> dict[int, int]:
    """Return for each row of ``order`` the first one before it that it equals and that equals none before itself, else itself.

    :param order: rows of valid crystals, each once. The outcome depends on what comes first, not on the rows.
    """
    equality = Equality(crystals, order)
    first = {i: i for i in equality.rows}
    for rows in equality.groups.values():
        near, kept = _Near(len(equality.features[rows[0]])), list[int]()
        for i in rows:
            for j in (kept[k] for k in near.to(equality.features[i])):
                if equality.match(j, i):
                    first[i] = j
                    equality.forget([i])
                    break
            else:
                kept.append(i)
                near.add(equality.features[i])
        equality.forget(rows)
    return first


def duplicates(crystals: CrystalSet, order: Sequence[int]) -> list[int]:
    """Return those of ``order`` that equal one before them which is no duplicate itself."""
    return [row for row, first in representatives(crystals, order).items() if row != first]


def known_as(crystals: CrystalSet, chosen: Iterable[int], known: CrystalSet) -> dict[int, int]:
    """Return for those of the chosen crystals that are known the row of the first known crystal that they equal.

    Compositions must agree, and fingerprints within :data:`KNOWN_FINGERPRINT`; volumes are scaled to each other, so that a
    strained crystal is known as what it was made from.
    """
    rows = list(chosen)
    wanted = {_composition(crystals, i) for i in rows}
    usable = valid_crystals(known)
    others = [j for j in range(len(known)) if usable[j] and _composition(known, j) in wanted]
    if not others:
        return {}
    n_known = len(others)
    both = CrystalSet.concatenate([s.replace(crystal_columns={}, atom_columns={}) for s in (known[others], crystals[rows])])
    equality = Equality(both, range(len(both)), KNOWN_FINGERPRINT, scaled=True)
    found: dict[int, int] = {}
    for group in equality.groups.values():
        ours, near = [i for i in group if i < n_known], _Near(len(equality.features[group[0]]))
        for j in ours:
            near.add(equality.features[j])
        for i in group[len(ours) :]:
            same = next((ours[k] for k in near.to(equality.features[i]) if equality.match(ours[k], i)), None)
            if same is not None:
                found[rows[i - n_known]] = others[same]
            equality.forget([i])
        equality.forget(group)
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
