"""Labelled crystals from the outputs of many calculations."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from ...core.errors import ContentError
from ...data.base import storable
from ...data.crystals import CrystalSetData
from ...data.labelled import LabelledCrystalSetData
from ..labels import labels_of
from .content import content_function


@content_function
def assemble_labelled(
    crystals: CrystalSetData, settings: Dict | None = None, failures: Dict | None = None, **runs: Any
) -> LabelledCrystalSetData:
    """Collect the labels of many crystals into one set.

    :param crystals: the crystals that were given to pw.x.
    :param settings: how the labels were computed; kept in the card.
    :param failures: {row: reason} of crystals that have no label; kept in the card.
    :param runs: for each labelled crystal, by its row i: ``bands_i``, ``parameters_i`` and ``trajectory_i`` of pw.x,
        ``projections_i`` of projwfc.x. Labels that cannot be used (a DOS that does not
        hold the electrons, a stress of 1000 GPa) are left out with the reason.
    """
    labelled, left_out = labels_of(crystals.crystals, runs, {} if settings is None else settings.get_dict())
    reasons = {**({} if failures is None else failures.get_dict()), **left_out}
    card = {
        "origin": "pw.x and projwfc.x through AiiDA",
        "crystals_sha256": crystals.sha256,
        "settings": {} if settings is None else settings.get_dict(),
        "given": len(crystals.crystals),
        "failed": reasons,
    }
    if not len(labelled):
        raise ContentError(f"no crystal has labels; the first reason: {next(iter(reasons.values()), 'none was given')}")
    return LabelledCrystalSetData(labelled, card=storable(card))
