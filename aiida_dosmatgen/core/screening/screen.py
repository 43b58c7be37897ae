"""The screening: the criteria in their order, then the ranking."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..curve_columns import curves_of
from ..errors import ContentError
from ..target import DosTarget
from ..target.distances import rank_key
from .candidates import Candidates
from .criteria import RankWeights, ScreenCriteria
from .filters import NO_PREDICTION, invalid
from .funnel import CRITERIA, counted
from .geometries import RELAXED, UNRELAXED

_OF_WISHES = ("distance", "wishes", "missed")


@dataclasses.dataclass(frozen=True)
class Screened:
    """The outcome of :func:`screen`, JSON values only (no NaN: what is not known is None).

    :param ranking: one dictionary for each candidate that is left, best first: ``rank`` (from 1), ``candidate``, ``geometry``
        (``relaxed`` or ``unrelaxed``, whichever is closer to the target), ``index`` (the row of that geometry in the set),
        ``formula``, ``n_atoms``, ``formation_energy`` (eV/atom, relaxed), ``relaxation_energy`` (of this geometry above the
        relaxed one, eV/atom), ``hull_distance`` (eV/atom, relaxed; None without known phases), ``predicted_distance``
        (states/eV/atom, per site), ``predicted_distance_total`` (the same of the total curve), ``wasserstein`` (eV),
        ``uncertainty`` (expected error of the predicted DOS, states/eV/atom), ``known`` (row of the known crystal that it
        equals, or None), ``status`` (of its relaxation), ``score``. The distances are None if there is no target, or one of
        wishes alone. With wishes also ``distance``, ``wishes`` and ``missed`` (:func:`..target.distances.measured_wishes`), as
        far as predicted curves tell.
    :param funnel: how many are left after each criterion, in order, the first entry being all candidates.
    :param rejected: for each reason the candidates that fell to it; each candidate is in one list or in the ranking.
    :param meaning: what the curves of ``target`` and ``predicted`` hold, if that is not the same; then part of the distances is
        what projectors do not see, of all candidates alike.
    """

    ranking: list[dict[str, Any]]
    funnel: dict[str, int]
    rejected: dict[str, list[int]]
    meaning: dict[str, str] | None = None


def screen(
    crystals: CrystalSet,
    references: Mapping[str, float],
    target: DosTarget | None,
    criteria: ScreenCriteria | None = None,
    phases: CrystalSet | None = None,
    known: CrystalSet | None = None,
    left_out: CrystalSet | None = None,
) -> Screened:
    """Apply the criteria one after another, and rank what is left.

    A candidate with two geometries (:func:`.join_geometries`) counts once. The relaxed geometry decides whether it is stable,
    a duplicate, or known. Its DOS is that of the geometry closer to the target, if that geometry is a valid crystal.

    :param crystals: with the crystal columns ``energy`` (eV per cell) and ``status`` of the relaxation, the atom column
        ``predicted_dos`` if there is a target, and ``candidate`` if candidates have numbers of their own.
    :param target: None ranks by formation energy; then only relaxed geometries count.
    :param references: energy per atom, in eV, of each element with the force field that gave the energies.
    :param phases: known phases with the crystal column ``energy``, of the same force field, for the hull.
    :param known: crystals that are known: the training set, earlier campaigns.
    :param left_out: further candidates that :func:`.thin` left out, with its columns ``reason`` and ``criterion``.
    :raises ContentError: if a column is missing, or a criterion lacks what it needs.
    """
    criteria = criteria or ScreenCriteria()
    check(crystals, target, criteria, known)
    of = Candidates(crystals, references, criteria, target, phases, known)
    left, unrelaxed = rows_of_geometries(crystals, of.names)
    geometry = {i: i for i in left}  # the row of each that is compared with the target
    scores: dict[int, float] = {}
    meaning = None
    rejected: dict[str, list[int]] = {}
    total, fallen = len(left) + (0 if left_out is None else len(left_out)), Counter[str]()
    if left_out is not None:
        _count_left_out(left_out, rejected, fallen)

    def apply(criterion: str, failing: Mapping[int, str]) -> None:
        nonlocal left
        for i, reason in failing.items():
            rejected.setdefault(reason, []).append(int(of.names[i]))
        left = [i for i in left if i not in failing]
        fallen[criterion] += len(failing)

    for needs, group in itertools.groupby(CRITERIA, key=lambda criterion: criterion.needs):
        if needs == "prediction" and target is not None:
            counting = geometries_that_count(of, left, unrelaxed)
            meaning = _meanings(of, counting)
            geometry = _closest(of, counting)
            apply("predicted", {i: NO_PREDICTION for i in left if i not in geometry})
        if needs == "ranking":
            scores = {i: _score(of, i, geometry[i]) for i in left}
            left.sort(key=lambda i: (scores[i], i))
        for criterion in group:
            if criterion.failing is None:
                continue
            rows = {i: geometry[i] if needs == "prediction" else i for i in left}
            failing = criterion.failing(of, list(rows.values()))
            if failing is not None:
                apply(criterion.name, {i: failing[j] for i, j in rows.items() if j in failing})

    wanted = phases is not None or criteria.max_hull_distance is not None
    above = of.above_hull(left) if wanted else np.full(len(crystals), np.nan)
    same = of.known_as(left)
    ranking = [
        {
            "rank": rank,
            "candidate": int(of.names[i]),
            "geometry": RELAXED if geometry[i] == i else UNRELAXED,
            "index": geometry[i],
            "formula": crystals[i].formulas[0],
            "n_atoms": int(crystals.n_atoms[i]),
            "formation_energy": _number(of.formation_energies[i]),
            "relaxation_energy": 0.0 if geometry[i] == i else _number(of.relaxation_energy(i, geometry[i])),
            "hull_distance": _number(above[i]),
            **_distances(of, geometry[i]),
            "uncertainty": _number(float(of.uncertainties[geometry[i]])),
            "known": same.get(i),
            "status": str(of.status[i]),
            "score": _number(scores[i]),
        }
        for rank, i in enumerate(left, 1)
    ]
    rejected = {reason: sorted(candidates) for reason, candidates in sorted(rejected.items())}
    return Screened(ranking, counted(total, fallen), rejected, meaning)


def _count_left_out(left_out: CrystalSet, rejected: dict[str, list[int]], fallen: Counter[str]) -> None:
    for name in ("reason", "criterion", "candidate"):
        if name not in left_out.crystal_columns:
            raise ContentError(f"the candidates that were left out have no column {name!r}")
    columns = left_out.crystal_columns
    for reason, candidate in zip(columns["reason"].tolist(), columns["candidate"].tolist(), strict=True):
        rejected.setdefault(reason, []).append(candidate)
    fallen.update(columns["criterion"].tolist())


def check(crystals: CrystalSet, target: DosTarget | None, criteria: ScreenCriteria, known: CrystalSet | None) -> None:
    """Refuse crystals without the columns that are needed, and criteria that lack what they need."""
    if criteria.novel and known is None:
        raise ContentError("criteria: novel leaves out known crystals, but none are given")
    if criteria.max_predicted_distance is not None and target is None:
        raise ContentError("criteria: max_predicted_distance needs a target, but none is given")
    if criteria.max_uncertainty is not None and "predicted_dos_uncertainty" not in crystals.crystal_columns:
        raise ContentError(
            "criteria: max_uncertainty needs the column 'predicted_dos_uncertainty'; use a predictor that gives it"
        )
    if target is not None and criteria.geometries == [UNRELAXED] and "geometry" not in crystals.crystal_columns:
        raise ContentError("criteria: only unrelaxed geometries are to count, but the crystals have no column 'geometry'")
    for name in ("energy", "status"):
        if name not in crystals.crystal_columns:
            raise ContentError(f"the crystals have no column {name!r}; relax them first")
    if target is not None and "predicted_dos" not in crystals.atom_columns:
        raise ContentError("the crystals have no column 'predicted_dos'; predict their densities of states first")


def rows_of_geometries(crystals: CrystalSet, names: np.ndarray) -> tuple[list[int], dict[int, int]]:
    """Return the rows of the relaxed geometries, and {row: row of the unrelaxed geometry} where there is one."""
    if "geometry" not in crystals.crystal_columns:
        return list(range(len(crystals))), {}
    geometries = crystals.crystal_columns["geometry"]
    relaxed = np.flatnonzero(geometries == RELAXED).tolist()
    rows = {int(names[j]): int(j) for j in np.flatnonzero(geometries == UNRELAXED)}
    return relaxed, {i: rows[int(names[i])] for i in relaxed if int(names[i]) in rows}


def geometries_that_count(of: Candidates, left: list[int], unrelaxed: Mapping[int, int]) -> dict[int, list[int]]:
    """Return the rows of each candidate's geometries whose DOS counts: an unrelaxed one must be valid and not too strained."""
    limit, wanted = of.criteria.max_relaxation_energy, of.criteria.geometries
    counting = {i: [i] if RELAXED in wanted else [] for i in left}
    if UNRELAXED in wanted:
        near = {i: unrelaxed[i] for i in left if i in unrelaxed}
        near = {i: j for i, j in near.items() if limit is None or of.relaxation_energy(i, j) <= limit}
        poor = invalid(of, list(near.values()))
        for i, j in near.items():
            counting[i] += [j] if j not in poor else []
    return counting


def _closest(of: Candidates, counting: Mapping[int, list[int]]) -> dict[int, int]:
    """Return of each candidate the geometry that is nearest to the target, of equally near ones the first.

    Those that are certain enough come before the others, and those without a prediction last. A candidate of which no geometry
    counts has none.
    """
    limit = math.inf if of.criteria.max_uncertainty is None else of.criteria.max_uncertainty

    def order(j: int) -> tuple[bool, bool, float]:
        found = of.distances(j)
        return found is None, bool(of.uncertainties[j] > limit), rank_key(found)

    return {i: min(rows, key=order) for i, rows in counting.items() if rows}


def _meanings(of: Candidates, counting: Mapping[int, list[int]]) -> dict[str, str] | None:
    first = next((j for rows in counting.values() for j in rows if of.distances(j) is not None), None)
    if first is None or of.target is None:
        return None
    predicted, wanted = curves_of(of.crystals, first, "predicted_dos").meaning, of.target.dos.meaning
    return None if predicted == wanted else {"target": wanted, "predicted": predicted}


def _distances(of: Candidates, row: int) -> dict[str, Any]:
    """Return the entries of a ranking that say how far a geometry is from the target."""
    found = of.distances(row) or {}
    return {
        "predicted_distance": _number(found.get("mae")),
        "predicted_distance_total": _number(found.get("mae_total")),
        "wasserstein": _number(found.get("wasserstein")),
        **{name: found[name] for name in _OF_WISHES if name in found},
    }


def _score(of: Candidates, i: int, geometry: int) -> float:
    return score_of(of.distances(geometry), of.formation_energies[i], str(of.status[i]), of.criteria.rank_by)


def score_of(distances: Mapping[str, Any] | None, energy: float, status: str, weights: RankWeights) -> float:
    late = 0.0 if status == "converged" else 1.0
    if distances is None:
        return (float(energy) if np.isfinite(energy) else math.inf) + weights.relaxation * late
    above = max(0.0, float(energy)) if np.isfinite(energy) else 0.0
    return weights.distance * rank_key(distances) + weights.formation_energy * above + weights.relaxation * late


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
