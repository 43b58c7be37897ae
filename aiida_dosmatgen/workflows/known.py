"""Known crystals, for the hull and for novelty."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm

from ..calculations.functions import collect_crystals
from ..data.crystals import CrystalSetData

_CANDIDATES = "aiida.workflows:dosmatgen.candidates"


def known_crystals(*given: CrystalSetData, elements: Iterable[str] | None = None) -> CrystalSetData:
    """Return the given crystals, and those that passed the screening of every earlier campaign, as one node linked to all.

    :param given: a training set, a list of known phases; any number of sets.
    :param elements: crystals with other elements are left out.
    :raises ValueError: if there are none.
    """
    earlier = (
        orm.QueryBuilder()
        .append(orm.WorkChainNode, filters={"process_type": _CANDIDATES}, tag="candidates")
        .append(
            CrystalSetData,
            with_incoming="candidates",
            edge_filters={"label": "crystals"},
            filters={"attributes.n_crystals": {">": 0}},
        )
        .distinct()
        .all(flat=True)
    )
    parts = {f"given_{number}": node for number, node in enumerate(given)} | {f"earlier_{node.pk}": node for node in earlier}
    if not parts:
        raise ValueError("no crystals are given, and no campaign has found any")
    chosen = {} if elements is None else {"elements": orm.List(sorted(elements))}
    result, node = collect_crystals.run_get_node(**chosen, **parts)
    if not node.is_finished_ok:
        raise ValueError(node.exit_message)
    return result
