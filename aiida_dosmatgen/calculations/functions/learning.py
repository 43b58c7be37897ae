"""The steps of a loop that learns: the gate, the extended set, what is trained on, the verdict on a checkpoint, the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.orm import Data, Dict, Int, List

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.labelled.splits import SPLIT_NAMES, chosen, without_test
from ...core.learning import rounds
from ...core.learning.extending import extended, rehearsed
from ...core.learning.gate import check_results
from ...core.learning.settings import GateCriteria, LearnSettings
from ...data.base import storable
from ...data.checkpoint import CheckpointData
from ...data.conversion import StructureData, crystal_of, structure_of
from ...data.crystals import CrystalSetData
from ...data.labelled import LabelledCrystalSetData
from ...data.target import DosTargetData
from .content import checked, content_function, reasons_of


@content_function
def part_for_learning(dataset: LabelledCrystalSetData) -> dict:
    """Divide a set by its column ``split``.

    :return: ``learnt``: what is trained on, the whole set if it is not split; if there are such crystals, ``kept``: all that is
        kept for tests, and ``held_out``: what checkpoints may be evaluated on, which is ``kept`` without ``test-final``.
    """
    crystals = dataset.crystals
    found = {"learnt": _like(dataset, without_test(crystals)[0], "what is learnt from")}
    for name, splits in (("kept", SPLIT_NAMES[1:]), ("held_out", SPLIT_NAMES[1:3])):
        if "split" in crystals.crystal_columns and np.isin(crystals.crystal_columns["split"], splits).any():
            found[name] = _like(dataset, chosen(crystals, splits), f"the splits {' '.join(splits)}")
    return found


@content_function
def plan_round(settings: Dict, number: Int, previous: Dict | None = None, **targets: DosTargetData) -> dict:
    """Return the ``seed`` of a round, and ``top_k``: how many candidates of each target it computes by DFT.

    :param settings: as in :class:`~aiida_dosmatgen.core.learning.settings.LearnSettings`.
    :param number: of the round, counted from 1.
    :param previous: the summary of the round before.
    :param targets: as ``target_<name>``.
    """
    spent = 0 if previous is None else previous.get_dict()["spent"]
    planned = rounds.plan(checked(LearnSettings, settings, "settings"), number.value, len(targets), spent)
    return {name: Int(value) for name, value in planned.items()}


@content_function
def choose_repeats(settings: Dict, seed: Int, previous: Dict | None = None, **results: Data) -> Dict:
    """Choose the DFT results of a round that are computed once more, as far as the budget goes.

    :param previous: the summary of the round before.
    :param results: as of :func:`gate`.
    :return: ``repeats``: their names.
    """
    names, wanted = sorted(_named(results, "dos_")), checked(LearnSettings, settings, "settings")
    spent = len(results) + (0 if previous is None else previous.get_dict()["spent"])
    count = max(0, min(wanted.repeats, len(names), wanted.budget - spent))
    taken = np.random.default_rng(seed.value).choice(len(names), count, replace=False)
    return Dict({"repeats": sorted(names[i] for i in taken)})


@content_function
def moved_in_cell(dos: CrystalSetData) -> StructureData:
    """Return the crystal of a DFT result with all atoms moved by half of each lattice vector, to be computed once more.

    It is the same crystal, but not the same input: no cached result answers for it.
    """
    one = dos.crystals
    return structure_of(CrystalSet(one.n_atoms, one.numbers, one.fractional + 0.5, one.lattices))


@content_function
def gate(
    dataset: LabelledCrystalSetData,
    criteria: Dict,
    held_out: LabelledCrystalSetData | None = None,
    kept: LabelledCrystalSetData | None = None,
    reserved: List | None = None,
    **results: Data,
) -> Dict:
    """Say of each DFT result of a round whether it enters the training set, and why.

    :param criteria: as in :class:`~aiida_dosmatgen.core.learning.settings.GateCriteria`.
    :param held_out: crystals on which checkpoints are evaluated; they never enter.
    :param kept: further crystals that are kept for tests.
    :param reserved: chemical systems of which no crystal enters.
    :param results: ``dos_<name>``: one crystal with its density of states; ``failure_<name>``: a Dict with the ``reason`` why
        there is none; ``repeat_<name>``: a second run; ``unrepeated_<name>``: a Dict with the ``reason`` why that failed.
    :return: ``results``: {name: {``entered``, ``reason``, ``criterion``, and what was measured}}; ``entered``: how many;
        ``refused``: {criterion: how many}; ``repeated``: how many second runs there were.
    """
    repeats = {key: node.crystals for key, node in _named(results, "repeat_").items()}
    failures, unrepeated = reasons_of(results), _named(results, "unrepeated_")
    passages = check_results(
        {key: node.crystals for key, node in _named(results, "dos_").items()},
        dataset.crystals,
        checked(GateCriteria, criteria, "criteria"),
        _bare(held_out, kept),
        () if reserved is None else reserved.get_list(),
        repeats,
    )
    said = {key: passage.as_dict() for key, passage in passages.items()}
    for key, reason in failures.items():
        said[key] = {"entered": False, "reason": f"no DFT result: {reason}", "criterion": "converged"}
    for key, node in unrepeated.items():
        said[key] |= {"unrepeated": node.get_dict()["reason"]}
    refused = [one["criterion"] for one in said.values() if not one["entered"]]
    return Dict(
        storable(
            {
                "results": dict(sorted(said.items())),
                "entered": len(said) - len(refused),
                "refused": {name: refused.count(name) for name in sorted(set(refused))},
                "repeated": len(repeats) + len(unrepeated),
            }
        )
    )


@content_function
def extend_labelled(dataset: LabelledCrystalSetData, report: Dict, **entries: CrystalSetData) -> LabelledCrystalSetData:
    """Add what entered to a labelled set.

    :param report: of :func:`gate`. What it does not say to have entered is refused, and so is a set that leaves one out.
    :param entries: as ``dos_<name>``.
    """
    said = report.get_dict()["results"]
    given = _named(entries, "dos_")
    missing = sorted(name for name, one in said.items() if one["entered"] and name not in given)
    if missing:
        raise ContentError(f"{missing[0]} entered, but is not among the results")
    crystals = extended(dataset.crystals, dataset.grid, {key: node.crystals for key, node in given.items()}, said)
    lost = sorted({*dataset.crystals.crystal_columns, *dataset.crystals.atom_columns}
                  - {*crystals.crystal_columns, *crystals.atom_columns})  # fmt: skip
    card = dataset.base.attributes.get("card", {})
    entered = {**card.get("entered", {}), **{said[key]["hash"]: said[key]["formula"] for key in sorted(given)}}
    card = {**card, "entered": entered, "columns_left_out": sorted({*card.get("columns_left_out", []), *lost})}
    return LabelledCrystalSetData(crystals, grid=dataset.grid, card=storable(card))


@content_function
def rehearse(dataset: LabelledCrystalSetData, settings: Dict, seed: Int) -> LabelledCrystalSetData:
    """Return what a round trains on: the crystals that the loop found, and ``rehearsal`` times as many known ones.

    :param settings: as in :class:`~aiida_dosmatgen.core.learning.settings.LearnSettings`.
    """
    share = checked(LearnSettings, settings, "settings").rehearsal
    return _like(dataset, rehearsed(dataset.crystals, share, seed.value), f"{share:g} known crystals for each that was found")


@content_function
def add_known(known: CrystalSetData, **structures: StructureData) -> CrystalSetData:
    """Return known crystals, without their columns, and further ones.

    :param structures: any names.
    """
    bare = known.crystals.replace(crystal_columns={}, atom_columns={})
    return CrystalSetData(CrystalSet.concatenate([bare, *(crystal_of(node) for _, node in sorted(structures.items()))]))


@content_function
def judge_checkpoint(
    settings: Dict,
    checkpoint: CheckpointData,
    parent: CheckpointData,
    before: Dict,
    after: Dict | None = None,
    failure: Dict | None = None,
) -> Dict:
    """Say whether a checkpoint is accepted: no figure on held-out crystals may be worse than its parent's by more than a share.

    :param settings: as in :class:`~aiida_dosmatgen.core.learning.settings.LearnSettings`.
    :param before: the errors of the parent, ``after`` those of the checkpoint, by the same job on the same crystals.
    :param failure: the ``reason`` why there are none; then it is not accepted.
    :return: see :func:`~aiida_dosmatgen.core.learning.rounds.verdict_on`; and ``kind``.
    """
    kind = checkpoint.base.attributes.get("kind")
    if kind != parent.base.attributes.get("kind"):
        raise ContentError(f"the checkpoint is a {kind}, its parent a {parent.base.attributes.get('kind')}")
    if after is None:
        reason = "no figures" if failure is None else failure.get_dict()["reason"]
        return Dict({"kind": kind, "accepted": False, "reason": f"it could not be evaluated: {reason}", "figures": []})
    old, new = before.get_dict(), after.get_dict()
    if old.get("n_crystals") != new.get("n_crystals"):
        raise ContentError(f"the figures are of {old.get('n_crystals')} and {new.get('n_crystals')} crystals")
    share = checked(LearnSettings, settings, "settings").most_worse
    return Dict(storable({"kind": kind, **rounds.verdict_on(kind, old, new, share)}))


@content_function
def sum_up_round(settings: Dict, number: Int, seed: Int, top_k: Int, **found: Data) -> Dict:
    """Sum up a round, and say whether the loop ends with it.

    :param settings: as in :class:`~aiida_dosmatgen.core.learning.settings.LearnSettings`.
    :param found: ``target_<name>``: the targets; ``previous``: the summary of the round before; ``ranking`` of the campaign;
        ``screening_<target>``: its reports; ``gate``: the report of the gate; ``verdict_<kind>``: of
        :func:`judge_checkpoint`; ``held_out_<kind>``: the errors of the models that the round began with;
        ``failure_<what>``: a Dict with the ``reason`` of what failed.
    :return: ``number``, ``seed``; ``distances`` of the round and ``best`` of all rounds so far, by target (states/eV/atom, None
        if nothing was validated); ``funnels`` by target; ``computed``, ``repeated`` and ``entered`` (how many), ``refused``
        {criterion: how many}; ``verdicts`` by kind; ``failures`` {what: reason}; ``spent`` (DFT runs of all rounds so far);
        ``distance_gained``, ``curves_gained``; ``history`` of what stops the loop, and ``stop``, why it ends, or None.
    """
    wanted = checked(LearnSettings, settings, "settings")
    before: dict[str, Any] = found["previous"].get_dict() if "previous" in found else {"best": {}, "spent": 0, "history": []}
    targets = sorted(_named(found, "target_"))
    now = rounds.distances(found["ranking"].get_dict()) if "ranking" in found else {}
    best = rounds.best_so_far(dict.fromkeys(targets) | before["best"], now)
    report: dict[str, Any] = (
        found["gate"].get_dict() if "gate" in found else {"results": {}, "entered": 0, "refused": {}, "repeated": 0}
    )
    verdicts = {name: node.get_dict() for name, node in _named(found, "verdict_").items()}
    failures = reasons_of(found)
    computed = len(report["results"]) if "gate" in found else top_k.value * len(targets)
    spent = before["spent"] + computed + report["repeated"]
    step = {
        "spent": spent,
        "distance_gained": rounds.gained(before["best"], best, wanted.distance_gain or 0.0),
        "curves_gained": _curves_gained(verdicts.get("predictor"), wanted.curves_gain or 0.0),
    }
    history = [*before["history"], step]
    figures = {name: _figures(name, node.get_dict()) for name, node in _named(found, "held_out_").items()}
    for name, verdict in verdicts.items():
        if verdict["accepted"]:
            figures[name] = {row["figure"]: row["after"] for row in verdict["figures"]}
    return Dict(
        storable(
            {
                "number": number.value,
                "seed": seed.value,
                "distances": {name: now.get(name) for name in targets},
                "best": best,
                "funnels": {name: node.get_dict().get("funnel", {}) for name, node in _named(found, "screening_").items()},
                "computed": computed,
                "repeated": report["repeated"],
                "entered": report["entered"],
                "refused": report["refused"],
                "verdicts": verdicts,
                "held_out": figures,
                "failures": failures,
                **step,
                "history": history,
                "stop": rounds.stop_reason(wanted, history, len(targets)),
            }
        )
    )


def _figures(kind: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in rounds.FIGURES[kind] if name in metrics}


def _curves_gained(verdict: Mapping[str, Any] | None, least: float) -> bool:
    """Say whether the curves of held-out crystals got better by a share, and the predictor that knows them is kept."""
    if verdict is None or not verdict["accepted"]:
        return False
    row = next((row for row in verdict["figures"] if row["figure"] == rounds.CURVES), None)
    return row is not None and row["change"] is not None and -row["change"] >= max(least, 1e-12)


def _named(nodes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the nodes whose names have a prefix, by what follows it."""
    return {name.removeprefix(prefix): node for name, node in sorted(nodes.items()) if name.startswith(prefix)}


def _bare(*sets: LabelledCrystalSetData | None) -> CrystalSet:
    """Return the crystals of all sets that are there, without their columns."""
    given = [one.crystals.replace(crystal_columns={}, atom_columns={}) for one in sets if one is not None]
    return CrystalSet.concatenate(given)


def _like(dataset: LabelledCrystalSetData, crystals: CrystalSet, part: str) -> LabelledCrystalSetData:
    card = storable({**dataset.base.attributes.get("card", {}), "part": part})
    return LabelledCrystalSetData(crystals, grid=dataset.grid, card=card)
