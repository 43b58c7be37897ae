"""Calcfunctions of the work chains."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict, Int, KpointsData

from ..calculations.functions import content_function
from ..core.dft.settings import LabelParameters, kpoints_mesh
from ..core.errors import ContentError
from ..data.conversion import structure_of
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData


@content_function
def prepare_label(crystals: CrystalSetData, row: Int, parameters: Dict) -> dict | ExitCode:
    """Return the structure and the k-points of one crystal of a set.

    :param row: which crystal, counted from 0.
    :param parameters: as in :class:`~aiida_dosmatgen.core.dft.LabelParameters`.
    :return: ``structure`` and ``kpoints``.
    """
    if not 0 <= row.value < crystals.base.attributes.get("n_crystals"):
        raise ContentError(f"there is no crystal {row.value}; the set has {crystals.base.attributes.get('n_crystals')}")
    crystal = crystals.crystals[row.value]
    kpoints = KpointsData()
    distance = LabelParameters.model_validate(parameters.get_dict()).kpoints_distance
    structure = structure_of(crystal)
    kpoints.set_kpoints_mesh(kpoints_mesh(crystal.lattices[0], distance))
    return {"structure": structure, "kpoints": kpoints}


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
    :return: ``targets``: for each the list of rows, best first, and ``failed``: {target: reason}.
    """
    targets: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for name, outcome in sorted(outcomes.get_dict().items()):
        rows = rankings[name].get_dict()["ranking"] if name in rankings else []
        links = outcome.get("validations", {})
        targets[name] = [{**row, **links.get(str(row["candidate"]), {})} for row in rows]
        if outcome.get("failed"):
            failed[name] = outcome["failed"]
    return Dict({"targets": targets, "failed": failed})
