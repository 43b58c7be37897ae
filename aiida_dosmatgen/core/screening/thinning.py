"""The screening of many candidates while they are predicted: what fails without a prediction is not predicted.

:func:`.screen` wants the predicted curves of all candidates at once. For more than ``max_ranked`` of them :func:`thin` goes
before: it applies the criteria that need no prediction, takes one of each set of equal crystals, looks at the others in a
first, cheap prediction, and predicts in full what is near the target by that. Curves are kept of the best only. So time and
memory follow what is promising, and what is left out has its reason. :func:`.screen` then ranks what is left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..target import DosTarget
from ..target.distances import rank_key
from .candidates import Candidates, distances_of
from .criteria import ScreenCriteria
from .filters import DUPLICATE, NO_PREDICTION, beyond_the_best
from .funnel import CRITERIA
from .geometries import RELAXED
from .matching import representatives
from .screen import geometries_that_count, rows_of_geometries, score_of

LOOKED_AT = 4
"""Times ``max_ranked``: how many candidates, nearest to the target at the first look, are predicted in full.

Of the best ten by the full prediction none was lost, of the best five 0.2 % (``benchmarks/first_look.py``)."""

Predict = Callable[[np.ndarray], Iterator[tuple[np.ndarray, CrystalSet]]]
"""From rows to batches: rows, and their crystals with predictions, or at a first look with what it found."""


_FIRST_LOOK = "first_look"


def looking(predict: Predict, target: DosTarget) -> Predict:
    """Return what keeps of predictions by how far they are from a target, as a column."""

    def look(rows: np.ndarray) -> Iterator[tuple[np.ndarray, CrystalSet]]:
        for chosen, predicted in predict(rows):
            distances = np.array(_rank_keys(distances_of(predicted, k, target) for k in range(len(predicted))))
            yield chosen, predicted.replace(crystal_columns={_FIRST_LOOK: distances}, atom_columns={})

    return look


@dataclasses.dataclass(frozen=True)
class Thinned:
    """The outcome of :func:`thin`.

    :param crystals: what :func:`.screen` needs of the candidates that stay, with predictions: all geometries that it may count.
    :param left_out: the other candidates, relaxed: the columns ``candidate``, ``reason`` and ``criterion``, ``energy`` (eV per
        cell), and ``first_look`` and ``predicted_distance`` (states/eV/atom; NaN where it was not predicted).
    """

    crystals: CrystalSet
    left_out: CrystalSet


class _Best:
    """Predictions of the best candidates so far; those of the others are forgotten.

    :param rows_of: the rows of each candidate that are predicted.
    :param group: the same for candidates of which only the best counts.
    """

    def __init__(self, most: int, rows_of: Mapping[int, list[int]], group: Mapping[int, int]) -> None:
        self.most, self.rows_of, self.group = most, rows_of, group
        self.candidate_of = {j: i for i, rows in rows_of.items() for j in rows}
        self.scores: dict[int, float] = {}
        self._kept: dict[int, CrystalSet] = {}

    def add(self, rows: np.ndarray, predicted: CrystalSet) -> None:
        self._kept.update(zip(rows.tolist(), predicted, strict=True))
        if len(self._kept) > 4 * self.most:
            # geometries of a candidate may come apart from each other
            wanted = set(self.ranked()[: self.most]) | (self.rows_of.keys() - self.scores.keys())
            self._kept = {j: one for j, one in self._kept.items() if self.candidate_of[j] in wanted}

    def ranked(self) -> list[int]:
        """Return the candidates that have a distance, best first, the best of each group only."""
        taken: dict[int, int] = {}
        for i in sorted(self.scores, key=lambda i: (self.scores[i], i)):
            taken.setdefault(self.group[i], i)
        return list(taken.values())

    def crystals(self, rows: list[int]) -> list[CrystalSet]:
        return [self._kept[j] for j in rows if j in self._kept]


def thin(
    crystals: CrystalSet,
    references: Mapping[str, float],
    target: DosTarget | None,
    criteria: ScreenCriteria,
    predict: Predict,
    look: Predict | None = None,
    phases: CrystalSet | None = None,
    known: CrystalSet | None = None,
) -> Thinned:
    """Leave out what :func:`.screen` would not rank among the best ``max_ranked``; arguments as there.

    Where several candidates are equal, the one of the lowest energy is predicted and stays, if only relaxed geometries count;
    else the one with the best score in one of its geometries. Depends on nothing but the candidates.

    :param crystals: as for :func:`.screen`, without predictions.
    :param look: the first, cheap prediction, as :func:`looking` returns it; None predicts all in full.
    """
    n = len(crystals)
    of = Candidates(crystals, references, criteria, target, phases, known)
    left, unrelaxed = rows_of_geometries(crystals, of.names)
    fallen: dict[int, tuple[str, str]] = {}
    first_look, distance = np.full(n, np.nan), np.full(n, np.nan)

    def apply(criterion: str, failing: Mapping[int, str] | None) -> None:
        nonlocal left
        fallen.update({i: (criterion, reason) for i, reason in (failing or {}).items()})
        left = [i for i in left if i not in fallen]

    def score(i: int, value: float | None) -> float:
        distances = None if value is None else {"mae": value if math.isfinite(value) else None}
        return score_of(distances, of.formation_energies[i], str(of.status[i]), criteria.rank_by)

    for criterion in CRITERIA:
        if criterion.failing is not None and criterion.needs == "relaxation":
            apply(criterion.name, criterion.failing(of, left))
    alone = target is None or criteria.geometries == [RELAXED] or not unrelaxed
    first = {i: i for i in left}
    if criteria.unique:
        per_atom = np.asarray(crystals.crystal_columns["energy"], dtype=np.float64) / crystals.n_atoms
        first = representatives(crystals, sorted(left, key=lambda i: (per_atom[i], of.names[i])))
        if alone:
            apply("unique", {i: DUPLICATE for i, j in first.items() if i != j})
    most = criteria.max_ranked
    if target is None:
        apply("best", beyond_the_best(of, sorted(left, key=lambda i: (score(i, None), i))))
        stay = [part for _, part in predict(np.array(sorted(left), dtype=np.int64))]
    else:
        rows_of = geometries_that_count(of, left, unrelaxed)
        if look is not None and len(left) > LOOKED_AT * most:
            for rows, seen in look(_rows(rows_of, left)):
                first_look[rows] = seen.crystal_columns[_FIRST_LOOK]
            near = sorted(left, key=lambda i: (score(i, _least(first_look, rows_of[i])), i))
            apply("near", dict.fromkeys(near[LOOKED_AT * most :], "far from the target at a first look"))
        passing = distance.copy()  # of the geometries that fulfil all criteria of the prediction
        failed: dict[int, _Failed] = {}
        best = _Best(most, {i: rows_of[i] for i in left}, first)
        for rows, predicted in predict(_rows(rows_of, left)):
            batch = Candidates(predicted, references, criteria, target)
            distance[rows] = passing[rows] = _rank_keys(map(batch.distances, range(len(rows))))
            failing = {int(rows[k]): found for k, found in _failing(batch).items()}
            passing[list(failing)] = np.nan
            failed |= failing
            for i in {best.candidate_of[j] for j in rows.tolist()}:
                best.scores[i] = score(i, _least(passing, rows_of[i]))
            best.add(rows, predicted)
        # a candidate falls where the last of its geometries does
        for i in left:
            if failed.keys() >= set(rows_of[i]):
                fallen[i] = max((failed[j] for j in rows_of[i]), default=(0, "predicted", NO_PREDICTION))[1:]
        left = [i for i in left if i not in fallen]
        best.scores = {i: best.scores[i] for i in left}
        ranked = best.ranked()
        apply("unique", dict.fromkeys(set(left) - set(ranked), DUPLICATE))
        apply("best", beyond_the_best(of, ranked))
        bare = [i for i in left if i not in rows_of[i]]  # of these only the other geometry was predicted
        stay = [part for _, part in predict(np.array(bare, dtype=np.int64))]
        stay += best.crystals([j for i in left for j in rows_of[i]])
    kept = CrystalSet.concatenate(stay) if stay else _nothing(crystals)
    return Thinned(kept, _left_out(crystals, sorted(fallen), of.names, fallen, first_look, distance))


_Failed = tuple[int, str, str]
"""The place in the table, the name and the reason of the criterion that a geometry fell to."""


def _failing(batch: Candidates) -> dict[int, _Failed]:
    """Return for each row that fails a criterion of the prediction the first that it fails."""
    left, found = list(range(len(batch.crystals))), dict[int, _Failed]()
    for place, criterion in enumerate(CRITERIA):
        if criterion.failing is not None and criterion.needs == "prediction":
            failing = criterion.failing(batch, left) or {}
            found |= {k: (place, criterion.name, reason) for k, reason in failing.items()}
            left = [k for k in left if k not in failing]
    return found


def _rows(rows_of: Mapping[int, list[int]], left: list[int]) -> np.ndarray:
    return np.array([j for i in left for j in rows_of[i]], dtype=np.int64)


def _rank_keys(found: Iterable[dict[str, Any] | None]) -> list[float]:
    """Return by how far each crystal is from the target, NaN without a prediction."""
    return [math.nan if one is None else rank_key(one) for one in found]


def _nothing(crystals: CrystalSet) -> CrystalSet:
    none = crystals[np.zeros(0, dtype=np.int64)]
    return none.with_columns(crystal={"predicted_dos_uncertainty": np.zeros(0)}, atom={"predicted_dos": np.zeros((0, 1))})


def _least(values: np.ndarray, rows: list[int]) -> float:
    """Return the least value that is known, NaN if none is."""
    known = values[rows][np.isfinite(values[rows])]
    return float(known.min()) if len(known) else math.nan


def _left_out(
    crystals: CrystalSet,
    rows: list[int],
    names: np.ndarray,
    fallen: Mapping[int, tuple[str, str]],
    first_look: np.ndarray,
    distance: np.ndarray,
) -> CrystalSet:
    columns: dict[str, Any] = {
        "candidate": np.asarray(names)[rows].astype(np.int64),
        "criterion": np.array([fallen[i][0] for i in rows], dtype=np.str_),
        "reason": np.array([fallen[i][1] for i in rows], dtype=np.str_),
        "energy": np.asarray(crystals.crystal_columns["energy"], dtype=np.float64)[rows],
        _FIRST_LOOK: first_look[rows],
        "predicted_distance": distance[rows],
    }
    return crystals.replace(crystal_columns={}, atom_columns={})[rows].with_columns(crystal=columns)
