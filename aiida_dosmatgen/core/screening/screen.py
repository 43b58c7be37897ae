"""The screening: the criteria in their order, then the ranking."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contacts import closest_contacts
from ..crystals import CrystalSet
from ..curve_columns import curves_of
from ..errors import ContentError
from ..target import DosTarget
from ..target.distances import rank_key
from ..thermo import formation_energy
from .criteria import RankWeights, ScreenCriteria
from .filters import above_hull, invalid, unconverged, unstable
from .geometries import RELAXED, UNRELAXED
from .hull import energy_above_hull
from .matching import duplicates, known_as

CRITERIA = (
    "valid", "converged", "formation energy", "hull", "near", "predicted", "close", "certain", "unique", "novel", "best"
)  # fmt: skip
"""What a candidate can fall to, in the order of the funnel; ``near`` is the first look of :func:`.thin`."""

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
    names = crystals.crystal_columns.get("candidate", np.arange(len(crystals)))
    uncertainties = crystals.crystal_columns.get("predicted_dos_uncertainty", np.full(len(crystals), np.nan))
    energies = formation_energy(crystals.crystal_columns["energy"], crystals, references)
    status = crystals.crystal_columns["status"]
    contacts = closest_contacts(crystals)
    left, unrelaxed = rows_of_geometries(crystals, names)
    relaxation_energies = {i: float(energies[j] - energies[i]) for i, j in unrelaxed.items()}
    rejected: dict[str, list[int]] = {}
    total, fallen = len(left) + (0 if left_out is None else len(left_out)), Counter[str]()
    if left_out is not None:
        _count_left_out(left_out, rejected, fallen)

    def apply(criterion: str, failing: Mapping[int, str]) -> None:
        nonlocal left
        for i, reason in failing.items():
            rejected.setdefault(reason, []).append(int(names[i]))
        left = [i for i in left if i not in failing]
        fallen[criterion] += len(failing)

    apply("valid", invalid(crystals, left, contacts, criteria))
    apply("converged", unconverged(left, status, criteria.require_converged))
    apply("formation energy", unstable(left, energies, criteria))
    hull = np.full(len(crystals), np.nan)
    if phases is not None or criteria.max_hull_distance is not None:
        chosen = np.array(left, dtype=np.int64)
        hull[chosen] = energy_above_hull(crystals[chosen], references, phases)
    if criteria.max_hull_distance is not None:
        apply("hull", above_hull(left, hull, criteria.max_hull_distance))
    geometry = {i: i for i in left}
    distances: dict[int, dict[str, Any]] = {}
    meaning = None
    if target is not None:
        geometries = geometries_that_count(crystals, left, unrelaxed, relaxation_energies, contacts, criteria)
        found = {j: d for i in left for j in geometries[i] if (d := distances_of(crystals, j, target)) is not None}
        meaning = _meanings(crystals, target, found)
        apply("predicted", {i: "no predicted density of states" for i in left if not any(j in found for j in geometries[i])})
        limit = math.inf if criteria.max_uncertainty is None else criteria.max_uncertainty
        for i in left:  # of two that are equally near the relaxed one, which comes first
            geometry[i] = min(
                (j for j in geometries[i] if j in found), key=lambda j: (uncertainties[j] > limit, rank_key(found[j]))
            )
            distances[i] = found[geometry[i]]
    if criteria.max_predicted_distance is not None:
        limit = criteria.max_predicted_distance
        apply("close", {i: "predicted distance too large" for i in left if not rank_key(distances[i]) <= limit})
    if criteria.max_uncertainty is not None:
        limit = criteria.max_uncertainty
        apply("certain", {i: "prediction too uncertain" for i in left if not uncertainties[geometry[i]] <= limit})
    scores = {i: score_of(distances.get(i), energies[i], str(status[i]), criteria.rank_by) for i in left}
    left.sort(key=lambda i: (scores[i], i))
    if criteria.unique:
        apply("unique", {i: "duplicate" for i in duplicates(crystals, left)})
    same = {} if known is None else known_as(crystals, left, known)
    if criteria.novel:
        apply("novel", {i: "known" for i in same})
    if len(left) > criteria.max_ranked or fallen["best"]:
        apply("best", dict.fromkeys(left[criteria.max_ranked :], beyond(criteria.max_ranked)))

    ranking = [
        {
            "rank": rank,
            "candidate": int(names[i]),
            "geometry": RELAXED if geometry[i] == i else UNRELAXED,
            "index": geometry[i],
            "formula": crystals[i].formulas[0],
            "n_atoms": int(crystals.n_atoms[i]),
            "formation_energy": _number(energies[i]),
            "relaxation_energy": 0.0 if geometry[i] == i else _number(relaxation_energies[i]),
            "hull_distance": _number(hull[i]),
            "predicted_distance": _number(distances.get(i, {}).get("mae")),
            "predicted_distance_total": _number(distances.get(i, {}).get("mae_total")),
            "wasserstein": _number(distances.get(i, {}).get("wasserstein")),
            **{name: distances[i][name] for name in _OF_WISHES if name in distances.get(i, {})},
            "uncertainty": _number(float(uncertainties[geometry[i]])),
            "known": same.get(i),
            "status": str(status[i]),
            "score": _number(scores[i]),
        }
        for rank, i in enumerate(left, 1)
    ]
    rejected = {reason: sorted(candidates) for reason, candidates in sorted(rejected.items())}
    return Screened(ranking, _funnel(total, fallen), rejected, meaning)


def beyond(most: int) -> str:
    """Return the reason of those that come after the ones that are ranked."""
    return f"beyond the best {most}"


def _count_left_out(left_out: CrystalSet, rejected: dict[str, list[int]], fallen: Counter[str]) -> None:
    for name in ("reason", "criterion", "candidate"):
        if name not in left_out.crystal_columns:
            raise ContentError(f"the candidates that were left out have no column {name!r}")
    columns = left_out.crystal_columns
    for reason, candidate in zip(columns["reason"].tolist(), columns["candidate"].tolist(), strict=True):
        rejected.setdefault(reason, []).append(candidate)
    fallen.update(columns["criterion"].tolist())


def _funnel(total: int, fallen: Mapping[str, int]) -> dict[str, int]:
    """Return how many are left after each criterion that was applied."""
    funnel = {"candidates": total}
    for criterion in CRITERIA:
        if criterion in fallen:
            funnel[criterion] = total = total - fallen[criterion]
    return funnel


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


def geometries_that_count(
    crystals: CrystalSet,
    left: list[int],
    unrelaxed: Mapping[int, int],
    relaxation_energies: Mapping[int, float],
    contacts: np.ndarray,
    criteria: ScreenCriteria,
) -> dict[int, list[int]]:
    """Return the rows of each candidate's geometries whose DOS counts: an unrelaxed one must be valid and not too strained."""
    limit, counting = criteria.max_relaxation_energy, {i: [i] if RELAXED in criteria.geometries else [] for i in left}
    if UNRELAXED in criteria.geometries:
        near = {i: unrelaxed[i] for i in left if i in unrelaxed and (limit is None or relaxation_energies[i] <= limit)}
        poor = invalid(crystals, list(near.values()), contacts, criteria)
        for i, j in near.items():
            counting[i] += [j] if j not in poor else []
    return counting


def distances_of(crystals: CrystalSet, i: int, target: DosTarget) -> dict[str, Any] | None:
    """Compare the predicted DOS of one crystal with the target; None if there is no prediction."""
    offsets = crystals.offsets
    dos = crystals.atom_columns["predicted_dos"][offsets[i] : offsets[i + 1]]
    if not np.isfinite(dos).all():
        return None
    by_channel = target.wishes and "predicted_channels" in crystals.atom_columns
    resolved = curves_of(crystals, i, "predicted_channels") if by_channel else None
    return target.distances(curves_of(crystals, i, "predicted_dos"), resolved=resolved)


def _meanings(crystals: CrystalSet, target: DosTarget, found: Mapping[int, Any]) -> dict[str, str] | None:
    if not found:
        return None
    predicted = curves_of(crystals, next(iter(found)), "predicted_dos").meaning
    return None if predicted == target.dos.meaning else {"target": target.dos.meaning, "predicted": predicted}


def score_of(distances: Mapping[str, Any] | None, energy: float, status: str, weights: RankWeights) -> float:
    late = 0.0 if status == "converged" else 1.0
    if distances is None:
        return (float(energy) if np.isfinite(energy) else math.inf) + weights.relaxation * late
    above = max(0.0, float(energy)) if np.isfinite(energy) else 0.0
    return weights.distance * rank_key(distances) + weights.formation_energy * above + weights.relaxation * late


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
