"""What was found for each target, in one row, and whether it is a crystal that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common import LinkType

from ..core.crystals import CrystalSet
from ..core.elements import formula_of
from ..core.screening.matching import known_as
from ..core.target.distances import distance_of, in_short, rank_key
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from ..tools.ancestry import Ancestor
from ..tools.campaign import CampaignResults, RankedCrystal
from ..tools.learnt import learnt, learnt_by
from ..tools.ranking import wishes_of
from .curves import sparkline

CLOSE = 0.1
"""DFT distance in states/eV/atom up to which a target without wishes counts as met."""


def overview(campaign: orm.WorkChainNode, results: CampaignResults, nodes: Mapping[int, Ancestor]) -> list[dict[str, Any]]:
    """Return one row for each target, by names, with the best crystal that was found for it.

    The best is the nearest one by DFT, or the first of the ranking if DFT computed none.

    :param nodes: the ancestors of the validated crystals.
    :return: ``target`` and ``formula``; without a crystal the formula is None and ``failed`` says why; else ``place`` in the
        ranking, ``validated``, ``distance`` (by DFT, in states/eV/atom), ``met`` (as text) and ``missed`` (to sort by),
        ``hull_distance`` (eV/atom), ``known`` (as which crystal, as text; empty if it is new, None if there is nothing to
        compare it with) and ``sparkline``.
    """
    best = best_of(results)
    known = _known(campaign, nodes, best.values())
    rows = []
    for target in sorted(results.targets):
        crystal = best.get(target)
        row: dict[str, Any] = {"target": target, "formula": None}
        if crystal is None:
            row["failed"] = results.failed.get(target, "no candidate passed the screening")
        else:
            row |= {
                "place": results.crystals.index(crystal),
                "formula": crystal.row["formula"],
                "validated": crystal.validated,
                "distance": distance_of(crystal.row.get("dft") or {}),
                **_met(crystal),
                "hull_distance": crystal.row.get("hull_distance"),
                "known": known[target] if known else None,
                "sparkline": None if crystal.dft is None else sparkline(results.targets[target], crystal),
            }
        rows.append(row)
    return rows


def best_of(results: CampaignResults) -> dict[str, RankedCrystal]:
    """Return the best crystal of each target that has any, by the names of the targets."""
    found: dict[str, RankedCrystal] = {}
    for crystal in results.crystals:
        before = found.get(crystal.target)
        if before is None or _order(crystal) < _order(before):
            found[crystal.target] = crystal
    return found


def _order(crystal: RankedCrystal) -> tuple[bool, float]:
    return not crystal.validated, rank_key(crystal.row.get("dft")) if crystal.validated else crystal.row["rank"]


def _met(crystal: RankedCrystal) -> dict[str, Any]:
    """Say whether a crystal meets its target; where it has wishes, how many of them."""
    dft = crystal.row.get("dft") or {}
    if wishes := wishes_of(crystal.row):
        return {"met": in_short(wishes).split(" (")[0], "missed": dft.get("missed", crystal.row.get("missed"))}
    distance = distance_of(dft)
    if distance is None:
        return {"met": "", "missed": None}
    return {"met": "yes" if distance <= CLOSE else "no", "missed": distance}


def _known(campaign: orm.WorkChainNode, nodes: Mapping[int, Ancestor], crystals: Iterable[RankedCrystal]) -> dict[str, str]:
    """Say of crystals, by their targets, as which crystal of which set they are known; nothing if there is no set.

    What models learnt from that is in no set here is known by its fingerprint in their checkpoints.
    """
    crystals, found = list(crystals), {}
    sets = _sets(campaign, nodes)
    models = learnt_by(campaign, [node.sha256 for _, node in sets])
    if not sets and not models:
        return {}
    for crystal in crystals:
        found[crystal.target] = ""
        formula = formula_of(crystal.crystal.compositions[0])
        for what, node in sets:
            formulas = node.base.attributes.get("formulas", None)
            if formulas is not None and formula not in formulas:
                continue
            known = node.crystals
            if rows := known_as(crystal.crystal, [0], known):
                found[crystal.target] = f"in {what}{_named(known, rows[0])}"
                break
        else:
            if kind := learnt(crystal.crystal, models):
                found[crystal.target] = f"one of the crystals that the {kind} learnt from, by its fingerprint"
    return found


def _sets(campaign: orm.WorkChainNode, nodes: Mapping[int, Ancestor]) -> list[tuple[str, CrystalSetData]]:
    """Return the training sets that crystals come from, and the known crystals that were given."""
    trained = [key for key, node in nodes.items() if node.type == "LabelledCrystalSetData"]
    sets: list[tuple[str, CrystalSetData]] = []
    if trained:
        query = orm.QueryBuilder().append(LabelledCrystalSetData, filters={"id": {"in": trained}}, tag="set")
        sets += [("the training set", node) for node in query.order_by({"set": {"uuid": "asc"}}).all(flat=True)]
    given = campaign.base.links.get_incoming(link_type=LinkType.INPUT_WORK, link_label_filter="candidates__known").first()
    if given is not None and isinstance(given.node, CrystalSetData):
        sets.append(("the known crystals", given.node))
    return sets


def _named(known: CrystalSet, row: int) -> str:
    """Return the source and name of a crystal, if the set says them."""
    columns = known.crystal_columns
    if not {"source", "id"} <= columns.keys():
        return f", crystal {row}"
    return f": {columns['source'][row]} {columns['id'][row]}"
