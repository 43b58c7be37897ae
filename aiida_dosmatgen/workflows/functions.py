"""Calcfunctions of the work chains."""

from __future__ import annotations

from aiida.orm import Data, Dict, Int, Str

from ..calculations.functions import content_function
from ..calculations.functions.content import reasons_of
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
def note_failure(subject: Data, reason: Str) -> Dict:
    """Return why a process failed, as data that later steps can take.

    :param subject: what the process was about: the crystal, the target.
    """
    return Dict({"reason": reason.value})


@content_function
def label_report(crystals: CrystalSetData, labelled: LabelledCrystalSetData | None = None, **failures: Dict) -> Dict:
    """Say how many crystals of a set have labels, and why the others have none.

    :param labelled: the crystals that have labels; its card holds further reasons.
    :param failures: of :func:`note_failure`, as ``failure_<row>``.
    :return: ``given``, ``labelled`` and ``failed`` {row: reason}.
    """
    reasons = reasons_of(failures)
    if labelled is not None:
        reasons |= labelled.base.attributes.get("card").get("failed", {})
    return Dict(
        {
            "given": crystals.base.attributes.get("n_crystals"),
            "labelled": 0 if labelled is None else labelled.base.attributes.get("n_crystals"),
            "failed": reasons,
        }
    )


@content_function
def collect_rankings(**inputs: Dict) -> Dict:
    """Put the rankings of all targets of a campaign into one.

    :param inputs: for each target its ``ranking_<target>`` of :func:`~aiida_dosmatgen.calculations.functions.rank`, or its
        ``failure_<target>`` of :func:`note_failure`.
    :return: ``targets``: for each the list of rows, best first; ``windows``: for each the energies ``low`` and ``high`` (eV)
        between which its rows were compared by DFT, or None; and ``failed``: {target: reason}. Which validation and structure
        a row has is in the links of the campaign.
    """
    rankings = {key.removeprefix("ranking_"): node.get_dict() for key, node in inputs.items() if key.startswith("ranking_")}
    failed = reasons_of(inputs)
    names = sorted({*rankings, *failed})
    return Dict(
        {
            "targets": {name: rankings.get(name, {}).get("ranking", []) for name in names},
            "windows": {name: rankings.get(name, {}).get("window") for name in names},
            "failed": failed,
        }
    )
