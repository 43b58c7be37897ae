"""Sets of labelled crystals: split for tests, chosen from, and joined."""

from __future__ import annotations

import numpy as np
from aiida.orm import Dict
from pydantic import Field

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.job import Splits
from ...core.labelled.prototypes import prototypes_of
from ...core.labelled.splits import assign, chosen, summary
from ...core.strict import Strict
from ...data.base import storable
from ...data.labelled import LabelledCrystalSetData
from .content import checked, content_function


class Selection(Strict):
    """Which crystals of a set are taken; empty lists take all.

    :param splits: values of the column ``split``.
    :param kinds: values of the column ``kind``; ``["real"]`` are real crystals alone.
    """

    splits: list[str] = Field(default=[])
    kinds: list[str] = Field(default=[])


@content_function
def split_labelled(dataset: LabelledCrystalSetData, splits: Dict) -> LabelledCrystalSetData:
    """Say of each crystal of a set whether it is learnt from, or kept for which test, by hashes of names.

    :param splits: as in ``core.job.Splits``.
    :return: the set with the columns ``prototype`` and ``split``; trainings leave out what is kept for tests.
    """
    settings, crystals = checked(Splits, splits, "splits"), dataset.crystals
    named = crystals.with_columns(crystal={"prototype": np.array(prototypes_of(crystals))})
    split = named.with_columns(crystal={"split": assign(named, **settings.model_dump())})
    return _like(dataset, split, {"splits": {**settings.model_dump(), "counts": summary(split)}})


@content_function
def select_labelled(dataset: LabelledCrystalSetData, selection: Dict) -> LabelledCrystalSetData:
    """Take the crystals of some splits, or of some kinds, from a set.

    :param selection: as in :class:`Selection`.
    """
    wanted = checked(Selection, selection, "selection")
    return _like(dataset, chosen(dataset.crystals, wanted.splits, wanted.kinds), {"selection": wanted.model_dump()})


@content_function
def join_labelled(**parts: LabelledCrystalSetData) -> LabelledCrystalSetData:
    """Put several sets with curves on the same energies into one, in the order of their names.

    :param parts: any names.
    """
    nodes = [part for _, part in sorted(parts.items())]
    sets = [node.crystals for node in nodes]
    columns: list[set[str]] = [set(one.crystal_columns) | {f"atom {name}" for name in one.atom_columns} for one in sets]
    lacking = sorted(name for name in set().union(*columns) if any(name not in own for own in columns))
    if lacking:
        raise ContentError(f"not all sets have the column {lacking[0]!r}; give sets with the same")
    if not sets:
        raise ContentError("there are no sets to join")
    if any(node.grid != nodes[0].grid for node in nodes):
        raise ContentError("the curves of the sets are on different energies; put them on the same")
    cards = {name: part.base.attributes.get("card", {}) for name, part in sorted(parts.items())}
    return LabelledCrystalSetData(CrystalSet.concatenate(sets), grid=nodes[0].grid, card=storable({"joined": cards}))


def _like(dataset: LabelledCrystalSetData, crystals: CrystalSet, card: dict) -> LabelledCrystalSetData:
    card = storable({**dataset.base.attributes.get("card", {}), **card})
    return LabelledCrystalSetData(crystals, grid=dataset.grid, card=card)
