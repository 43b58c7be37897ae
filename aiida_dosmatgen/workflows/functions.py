"""Calcfunctions of the work chains."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, Int

from ..calculations.functions import content_function
from ..core.errors import ContentError
from ..data.conversion import StructureData, structure_of
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData


@content_function
def crystal_at(crystals: CrystalSetData, row: Int) -> StructureData:
    """Return one crystal of a set as a structure.

    :param row: which crystal, counted from 0.
    """
    if not 0 <= row.value < crystals.base.attributes.get("n_crystals"):
        raise ContentError(f"there is no crystal {row.value}; the set has {crystals.base.attributes.get('n_crystals')}")
    return structure_of(crystals.crystals[row.value])


@content_function
def label_report(crystals: CrystalSetData, failures: Dict, rate: Dict, labelled: LabelledCrystalSetData | None = None) -> Dict:
    """Say how many crystals of a set have labels, why the others have none, and how fast it went.

    :param failures: {row: reason} of runs that failed.
    :param rate: of :func:`~aiida_dosmatgen.workflows.timing.computed_in_this_run`.
    :param labelled: the crystals that have labels; its card holds further reasons.
    :return: ``given``, ``labelled``, ``failed`` {row: reason}, and ``computed_in_this_run``.
    """
    reasons = dict(failures.get_dict())
    if labelled is not None:
        reasons |= labelled.base.attributes.get("card").get("failed", {})
    return Dict(
        {
            "given": crystals.base.attributes.get("n_crystals"),
            "labelled": 0 if labelled is None else labelled.base.attributes.get("n_crystals"),
            "failed": reasons,
            "computed_in_this_run": rate.get_dict(),
        }
    )


@content_function
def collect_rankings(outcomes: Dict, **rankings: Dict) -> Dict:
    """Put the rankings of all targets of a campaign into one.

    :param outcomes: for each target: ``failed`` (why it has no ranking, or None) and ``validations``
        {candidate: {``structure``: uuid, ``validation``: uuid}}.
    :param rankings: of :func:`~aiida_dosmatgen.calculations.functions.rank`, by target.
    :return: ``targets``: for each the list of rows, best first; ``windows``: for each the energies ``low`` and ``high`` (eV)
        between which its rows were compared by DFT, or None; and ``failed``: {target: reason}.
    """
    targets: dict[str, list[dict[str, Any]]] = {}
    windows: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, outcome in sorted(outcomes.get_dict().items()):
        ranking = rankings[name].get_dict() if name in rankings else {}
        rows, windows[name] = ranking.get("ranking", []), ranking.get("window")
        links = outcome.get("validations", {})
        targets[name] = [{**row, **links.get(str(row["candidate"]), {})} for row in rows]
        if outcome.get("failed"):
            failed[name] = outcome["failed"]
    return Dict({"targets": targets, "windows": windows, "failed": failed})
