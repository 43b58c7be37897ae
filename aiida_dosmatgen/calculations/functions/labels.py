"""Labelled crystals from the densities of states of many."""

from __future__ import annotations

import numpy as np
from aiida.orm import Dict

from ...core.crystals import CrystalSet
from ...core.dft.labels import outlier
from ...core.errors import ContentError
from ...data.base import storable
from ...data.crystals import CrystalSetData
from ...data.labelled import LabelledCrystalSetData
from .content import content_function, reasons_of


@content_function
def assemble_labelled(
    crystals: CrystalSetData, recipe: Dict | None = None, **computed: CrystalSetData | Dict
) -> LabelledCrystalSetData:
    """Collect the labels of many crystals into one set.

    The crystals keep their columns. Curves are kept in half precision, as ``dosmatgen label`` keeps them.

    :param crystals: the crystals that were computed.
    :param recipe: how; kept in the card.
    :param computed: for each labelled crystal, by its row i, ``dos_i`` of :func:`.count_states`; for each other one
        ``failure_i``, a Dict with its ``reason``, which the card keeps. Labels of forces that nobody meets are left out with
        the reason.
    """
    given = crystals.crystals
    rows: dict[int, CrystalSet] = {}
    reasons = reasons_of(computed)
    for name, node in computed.items():
        if name.startswith("failure_"):
            continue
        number = name.removeprefix("dos_")
        if not name.startswith("dos_") or not number.isdigit() or int(number) >= len(given):
            raise ContentError(f"{name!r} is not dos_ with the row of a crystal, e.g. 'dos_0'")
        rows[int(number)] = node.crystals
    done = []
    for row in sorted(rows):
        try:
            labelled = _labelled(given[row], rows[row])
        except ContentError as exception:
            reasons[str(row)] = str(exception)
            continue
        reason = outlier(labelled)
        if reason is None:
            done.append(labelled)
        else:
            reasons[str(row)] = reason
    card = {
        "origin": "pw.x and projwfc.x through AiiDA",
        "crystals_sha256": crystals.sha256,
        "settings": {} if recipe is None else recipe.get_dict(),
        "given": len(given),
        "failed": reasons,
    }
    if not done:
        raise ContentError(f"no crystal has labels; the first reason: {next(iter(reasons.values()), 'none was given')}")
    return LabelledCrystalSetData(CrystalSet.concatenate(done), card=storable(card))


def _labelled(crystal: CrystalSet, computed: CrystalSet) -> CrystalSet:
    if len(computed) != 1 or not np.array_equal(computed.numbers, crystal.numbers):
        raise ContentError("the density of states is of another crystal")
    columns = {**computed.crystal_columns, "status": np.array(["ok"])}
    atoms = {name: values for name, values in computed.atom_columns.items() if name != "projections"}
    atoms["dos"] = atoms["dos"].astype(np.float16)
    return crystal.with_columns(crystal=columns, atom=atoms)
