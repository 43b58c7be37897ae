"""Screening, the selection for DFT, and the final ranking, as calcfunctions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from aiida.orm import Dict, Int

from ...core.errors import ContentError
from ...core.screening import ScreenCriteria
from ...core.screening import screen as screen_crystals
from ...core.screening.selection import SelectionWeights, select
from ...core.target.distances import with_distance
from ...data.base import storable
from ...data.crystals import CrystalSetData
from ...data.target import DosTargetData
from ..ranking import over_common_window, ranked
from .content import checked, content_function, reasons_of
from .scoring import scored_curves


@content_function
def screen(
    crystals: CrystalSetData,
    references: Dict,
    criteria: Dict,
    target: DosTargetData | None = None,
    phases: CrystalSetData | None = None,
    known: CrystalSetData | None = None,
    left_out: CrystalSetData | None = None,
) -> dict:
    """Keep the candidates that meet the criteria, best first, each in the geometry that is nearer to the target.

    :param crystals: with energies and predictions; relaxed, or in both geometries (:func:`.join_geometries`).
    :param references: ``energies`` of the elements in eV/atom, with the force field of the crystals' energies.
    :param target: what they are ranked by; without one it is their formation energy.
    :param criteria: as in :class:`~aiida_dosmatgen.core.screening.ScreenCriteria`.
    :param phases: known phases relaxed with the same force field, for the hull.
    :param known: crystals that are known already.
    :param left_out: further candidates, which a job left out as it predicted them; they are counted.
    :return: ``crystals``, the survivors, and ``report``: the funnel, the rejected by reason, the ranking.
    """
    given = crystals.crystals
    screened = screen_crystals(
        given,
        {symbol: energy for symbol, energy in references.get_dict()["energies"].items() if energy is not None},
        None if target is None else target.target,
        checked(ScreenCriteria, criteria, "criteria"),
        None if phases is None else phases.crystals,
        None if known is None else known.crystals,
        None if left_out is None else left_out.crystals,
    )
    ranking = screened.ranking
    survivors = given[[row["index"] for row in ranking]].with_columns(
        crystal={
            "rank": np.array([row["rank"] for row in ranking], dtype=np.int64),
            **{
                name: np.array([np.nan if row[name] is None else row[name] for row in ranking], dtype=np.float64)
                for name in (
                    "formation_energy",
                    "relaxation_energy",
                    "hull_distance",
                    "predicted_distance",
                    "predicted_distance_total",
                    "wasserstein",
                    "score",
                    *(("distance", "missed") if any("missed" in row for row in ranking) else ()),
                )
            },
        }
    )
    return {"crystals": CrystalSetData(survivors), "report": Dict(storable(dataclasses.asdict(screened)))}


@content_function
def select_candidates(crystals: CrystalSetData, report: Dict, count: Int, weights: Dict) -> Dict:
    """Choose which of the ranked candidates are computed by DFT.

    :param crystals: the survivors of :func:`screen`, in the order of its report.
    :param weights: as in :class:`~aiida_dosmatgen.core.screening.selection.SelectionWeights`.
    :return: ``selected``: {``candidate``, ``reason``} in the order in which they were taken.
    """
    rows, survivors = report.get_dict()["ranking"], crystals.crystals
    if len(rows) != len(survivors):
        raise ContentError(f"the report ranks {len(rows)} candidates, but there are {len(survivors)} crystals")
    curves = None
    if "predicted_dos" in survivors.atom_columns and len(survivors):
        sums = np.add.reduceat(survivors.atom_columns["predicted_dos"], survivors.offsets[:-1], axis=0)
        curves = sums / survivors.n_atoms[:, None]
    taken = select(
        np.array([np.inf if row["score"] is None else row["score"] for row in rows]),
        np.array([np.nan if row.get("uncertainty") is None else row["uncertainty"] for row in rows]),
        curves,
        count.value,
        checked(SelectionWeights, weights, "weights"),
    )
    return Dict({"selected": [{"candidate": rows[one.place]["candidate"], "reason": one.reason} for one in taken]})


@content_function
def rank(
    report: Dict,
    selection: Dict | None = None,
    target: DosTargetData | None = None,
    **validated: Any,
) -> Dict:
    """Put candidates in their final order: by DFT distance where there is one, then as the screening ranked them.

    :param report: of :func:`screen`.
    :param selection: of :func:`select_candidates`.
    :param target: what they are compared with once more, over the energies that are known of all of them: else one whose
        bands end earlier would seem nearer. Without it their own distances count, each over a window of its own.
    :param validated: the scores of :func:`.score_dos`, as ``candidate_<number>``, and what they were made of, as
        ``dos_<number>``; for those whose validation failed ``failure_<number>``, a Dict with its ``reason``: they come last.
    :return: ``window``: ``low`` and ``high`` (eV) of the comparison, None where each has its own, and ``ranking``: the rows of
        the report with ``rank``, ``status`` (``validated``, ``not validated``, ``failed``), and ``dft`` (the score) or
        ``reason``, and ``selected`` (why it was computed by DFT).
    """
    by_candidate = {
        int(name.removeprefix("candidate_")): score.get_dict()
        for name, score in validated.items()
        if name.startswith("candidate_")
    }
    curves = {int(name.removeprefix("dos_")): node.crystals for name, node in validated.items() if name.startswith("dos_")}
    window = None
    if target is not None and curves and set(curves) == set(by_candidate):
        wanted = target.target
        window, distances = over_common_window({i: scored_curves(c, wanted) for i, c in curves.items()}, wanted)
        by_candidate = {i: with_distance({**score, **distances.get(i, {})}) for i, score in by_candidate.items()}
    reasons = {int(candidate): reason for candidate, reason in reasons_of(validated).items()}
    rows = report.get_dict()["ranking"]
    if selection is not None:
        chosen = {one["candidate"]: one["reason"] for one in selection.get_dict()["selected"]}
        rows = [{**row, "selected": chosen.get(row["candidate"])} for row in rows]
    return Dict(storable({"ranking": ranked(rows, by_candidate, reasons), "window": window}))
