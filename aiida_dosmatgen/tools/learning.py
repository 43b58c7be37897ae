"""What models learnt from which DFT results, both ways, read off the provenance graph; and the rounds of a loop that learns.

A result enters a set by ``extend_labelled``, its density of states being an input; the set, or what other calcfunctions made of
it, is the input ``dataset`` of a training; the checkpoint of that is the input of a campaign, or the ``parent`` of another
training. These links are followed step by step: asked for ancestors, databases look through all links.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common import LinkType

from ..core.elements import SYMBOLS
from ..core.learning.extending import FOUND
from ..data.base import pk_of
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.labelled import LabelledCrystalSetData
from .campaign import CAMPAIGN
from .text import pairs

LEARN = "aiida.workflows:dosmatgen.learn"
_VALIDATE = "aiida.workflows:dosmatgen.validate"
_TRAIN = "aiida.calculations:dosmatgen.train"
_MODELS = ("candidates__checkpoint", "candidates__predictor")  # inputs of a campaign
_MOST = 200  # steps of a way; two for each round of a loop


@dataclasses.dataclass(frozen=True)
class LearntResult:
    """A DFT result that a model learnt from. Nodes are given by their uuids.

    :param formula: reduced.
    :param elements: chemical symbols, in the order of atomic numbers.
    :param id: of the crystal in the training set: a hash of its structure.
    :param dos: the crystal with its density of states.
    :param reason: why the gate let it in.
    :param extended: the set to which it was added.
    :param validation: the ``ValidateWorkChain`` that computed it; None, as what follows, if it is not in this profile.
    :param campaign: the campaign that found it.
    :param target: what the campaign calls the target that it was made for.
    :param candidate: its number; with the ``seed`` and the ``checkpoint`` it says which crystal.
    :param loop: the ``LearnWorkChain``, if it was one.
    :param round: of the loop.
    """

    formula: str
    elements: tuple[str, ...]
    id: str
    dos: str
    reason: str
    extended: str
    validation: str | None = None
    campaign: str | None = None
    target: str | None = None
    candidate: int | None = None
    seed: int | None = None
    checkpoint: str | None = None
    loop: str | None = None
    round: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a plain dictionary."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Taught:
    """What came of a DFT result. Nodes are given by their uuids.

    :param dos: the result.
    :param sets: to which it belongs.
    :param checkpoints: that learnt from it, the oldest first: ``uuid``, ``kind``, ``sha256``,
        ``accepted`` (None if there is no verdict).
    :param crystals: validated crystals of campaigns with these models, the nearest to its target first: ``formula``,
        ``distance`` (states/eV/atom), ``validation``, ``campaign``, ``checkpoint``.
    """

    dos: str
    sets: list[str]
    checkpoints: list[dict[str, Any]]
    crystals: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return it as a plain dictionary."""
        return dataclasses.asdict(self)


# --- back --------------------------------------------------------------------------------------------------------------------


def learnt_by(checkpoint: CheckpointData, elements: Iterable[str] = ()) -> list[LearntResult]:
    """Return the DFT results that a checkpoint, or one that it started from, learnt from, the oldest first.

    :param elements: chemical symbols; only crystals with all of them are returned.
    """
    wanted, found = set(elements), dict[str, LearntResult]()
    for model in lineage_of(checkpoint):
        for dataset in _trained_on(model):
            for result in _entered(dataset):
                if wanted <= set(result.elements):
                    found.setdefault(result.dos, result)
    return sorted(found.values(), key=lambda one: pk_of(orm.load_node(one.dos)))


def lineage_of(checkpoint: CheckpointData) -> list[CheckpointData]:
    """Return a checkpoint, and those that its training started from, the newest first."""
    found = [checkpoint]
    for _ in range(_MOST):
        trainings = _before([found[-1]], LinkType.CREATE, filters={"process_type": _TRAIN})
        parents = [node for node, label in _inputs(trainings) if label == "parent"]
        if not parents:
            break
        found.append(parents[0])
    return found


def verdict_on(checkpoint: CheckpointData) -> orm.Dict | None:
    """Return the newest verdict of a loop on a checkpoint, or None if there is none."""
    query = orm.QueryBuilder().append(CheckpointData, filters={"uuid": checkpoint.uuid}, tag="checkpoint")
    judge = {"attributes.process_label": "judge_checkpoint"}
    edge = {"label": "checkpoint"}
    query.append(orm.CalcFunctionNode, filters=judge, with_incoming="checkpoint", edge_filters=edge, tag="judge")
    query.append(orm.Dict, with_incoming="judge", tag="verdict")
    return query.order_by({"verdict": {"id": "desc"}}).first(flat=True)


def _trained_on(checkpoint: CheckpointData) -> list[LabelledCrystalSetData]:
    trainings = _before([checkpoint], LinkType.CREATE, filters={"process_type": _TRAIN})
    return [node for node, label in _inputs(trainings) if label == "dataset"]


def _entered(dataset: LabelledCrystalSetData) -> list[LearntResult]:
    """Return the results that entered a training set, and are still in it."""
    columns = dataset.crystals.crystal_columns
    if "source" not in columns or "id" not in columns:
        return []
    present = set(columns["id"][columns["source"] == FOUND].tolist())
    found: list[LearntResult] = []
    front: list[orm.Node] = [dataset]
    seen = {dataset.pk}
    for _ in range(_MOST):
        functions = _before(front, LinkType.CREATE, orm.CalcFunctionNode)
        front = []
        for function in functions:
            given = _inputs([function])
            if function.process_label == "extend_labelled":
                said = next(node for node, label in given if label == "report")["results"]
                for node, label in given:
                    name = label.removeprefix("dos_")
                    if label.startswith("dos_") and said[name]["hash"] in present:
                        made = function.base.links.get_outgoing(link_type=LinkType.CREATE).one().node
                        found.append(_result(node, name, said[name], made.uuid))
            front += [node for node, _ in given if isinstance(node, LabelledCrystalSetData) and node.pk not in seen]
            seen |= {node.pk for node in front}
        if not front:
            break
    return found


def _result(dos: orm.Node, name: str, said: Mapping[str, Any], extended: str) -> LearntResult:
    numbers = sorted(set(dos.crystals.numbers.tolist()))
    known: dict[str, Any] = {}
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": dos.uuid}, tag="dos")
    edge = {"type": LinkType.RETURN.value, "label": "dos"}
    query.append(orm.WorkChainNode, filters={"process_type": _VALIDATE}, with_outgoing="dos", edge_filters=edge,
                 project="uuid", tag="validation")  # fmt: skip
    query.append(orm.WorkChainNode, filters={"process_type": CAMPAIGN}, with_outgoing="validation", project="*",
                 edge_project="label", tag="campaign")  # fmt: skip
    validated = query.order_by({"validation": {"id": "asc"}}).first()
    if validated is not None:
        validation, campaign, label = validated
        target, _, candidate = label.removeprefix("validate_").rpartition("_")
        inputs = campaign.base.links.get_incoming(link_type=LinkType.INPUT_WORK)
        known = {
            "validation": validation,
            "campaign": campaign.uuid,
            "target": target,
            "candidate": int(candidate),
            "seed": inputs.get_node_by_label("candidates__seed").value,
            "checkpoint": inputs.get_node_by_label("candidates__checkpoint").uuid,
            **_loop_of(campaign),
        }
    return LearntResult(
        formula=said["formula"],
        elements=tuple(SYMBOLS[z] for z in numbers),
        id=said["hash"],
        dos=dos.uuid,
        reason=said["reason"],
        extended=extended,
        **known,
    )


def _loop_of(campaign: orm.Node) -> dict[str, Any]:
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": campaign.uuid}, tag="campaign")
    query.append(orm.WorkChainNode, filters={"process_type": LEARN}, with_outgoing="campaign", project="uuid",
                 edge_filters={"type": LinkType.CALL_WORK.value}, edge_project="label")  # fmt: skip
    found = query.first()
    return {} if found is None else {"loop": found[0], "round": int(found[1].removeprefix("campaign_"))}


# --- forth -------------------------------------------------------------------------------------------------------------------


def taught_by(node: orm.Node) -> Taught:
    """Return which models learnt from a DFT result, and which validated crystals came from them.

    :param node: the density of states, or the ``ValidateWorkChain`` that computed it.
    :raises ValueError: if it is neither.
    """
    dos = node.outputs.dos if isinstance(node, orm.WorkChainNode) and "dos" in node.outputs else node
    if not isinstance(dos, CrystalSetData):
        raise ValueError(f"{type(node).__name__}<{node.pk}> is no DFT result; give a validation, or its density of states")
    extend = {"attributes.process_label": "extend_labelled"}
    front = _after(_after([dos], LinkType.INPUT_CALC, extend, {"like": "dos\\_%"}), LinkType.CREATE)
    sets = {pk_of(one): one for one in front}
    for _ in range(_MOST):  # sets that were made of these sets
        functions = [one for one in _after(front, LinkType.INPUT_CALC, None, None, orm.CalcFunctionNode)
                     if one.process_label in _SETS]  # fmt: skip
        front = [one for one in _after(functions, LinkType.CREATE) if isinstance(one, LabelledCrystalSetData)]
        front = [one for one in front if pk_of(one) not in sets]
        sets |= {pk_of(one): one for one in front}
        if not front:
            break
    models: dict[int, Any] = {}
    trainings = _after(sets.values(), LinkType.INPUT_CALC, {"process_type": _TRAIN}, "dataset")
    for _ in range(_MOST):
        new = [one for one in _after(trainings, LinkType.CREATE) if isinstance(one, CheckpointData)]
        new = [one for one in new if pk_of(one) not in models]
        models |= {pk_of(one): one for one in new}
        if not new:
            break
        trainings = _after(new, LinkType.INPUT_CALC, {"process_type": _TRAIN}, "parent")
    checkpoints = []
    for _, model in sorted(models.items()):
        verdict, get = verdict_on(model), model.base.attributes.get
        accepted = None if verdict is None else verdict["accepted"]
        checkpoints.append({"uuid": model.uuid, "kind": get("kind"), "sha256": get("sha256"), "accepted": accepted})
    return Taught(dos.uuid, [one.uuid for _, one in sorted(sets.items())], checkpoints, _validated(models.values()))


_SETS = ("extend_labelled", "rehearse", "select_labelled", "join_labelled", "split_labelled", "part_for_learning")


def _validated(models: Iterable[CheckpointData]) -> list[dict[str, Any]]:
    """Return the validated crystals of the campaigns with some models."""
    uuids = [model.uuid for model in models]
    if not uuids:
        return []
    query = orm.QueryBuilder().append(CheckpointData, filters={"uuid": {"in": uuids}}, project="uuid", tag="model")
    query.append(orm.WorkChainNode, filters={"process_type": CAMPAIGN}, with_incoming="model", project="uuid",
                 edge_filters={"label": {"in": list(_MODELS)}}, tag="campaign")  # fmt: skip
    query.append(orm.WorkChainNode, filters={"process_type": _VALIDATE}, with_incoming="campaign", project="uuid",
                 tag="validation")  # fmt: skip
    query.append(orm.Dict, with_incoming="validation", edge_filters={"type": LinkType.RETURN.value, "label": "score"},
                 project=["attributes.formula", "attributes.mae"])  # fmt: skip
    found = {
        validation: {"formula": formula, "distance": mae, "validation": validation, "campaign": campaign, "checkpoint": model}
        for model, campaign, validation, formula, mae in query.all()
    }
    return sorted(found.values(), key=lambda row: (row["distance"] is None, row["distance"] or 0.0, row["validation"]))


# --- links -------------------------------------------------------------------------------------------------------------------


def _keys(nodes: Iterable[orm.Node]) -> list[int]:
    """Return the keys of nodes to look for; databases refuse an empty list."""
    return [pk_of(node) for node in nodes] or [-1]


def _before(
    nodes: Iterable[orm.Node], link: LinkType, cls: Any = orm.ProcessNode, filters: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the processes that created some nodes."""
    query = orm.QueryBuilder().append(orm.Node, filters={"id": {"in": _keys(nodes)}}, tag="node")
    query.append(cls, filters=dict(filters or {}), with_outgoing="node", edge_filters={"type": link.value}, tag="before")
    return query.order_by({"before": {"id": "asc"}}).distinct().all(flat=True)


def _inputs(processes: Iterable[orm.Node]) -> list[tuple[Any, str]]:
    """Return the inputs of some processes, each with its label."""
    query = orm.QueryBuilder().append(orm.Node, filters={"id": {"in": _keys(processes)}}, tag="process")
    edge = {"type": LinkType.INPUT_CALC.value}
    query.append(orm.Node, with_outgoing="process", edge_filters=edge, edge_project="label", project="*", tag="input")
    return [(node, label) for node, label in query.order_by({"input": {"id": "asc"}}).all()]


def _after(
    nodes: Iterable[orm.Node],
    link: LinkType,
    filters: Mapping[str, Any] | None = None,
    label: Any = None,
    cls: Any = orm.Node,
) -> list[Any]:
    """Return the nodes to which links of a kind, and with a label if one is given, lead from some nodes."""
    edge = {"type": link.value, **({} if label is None else {"label": label})}
    query = orm.QueryBuilder().append(orm.Node, filters={"id": {"in": _keys(nodes)}}, tag="node")
    query.append(cls, filters=dict(filters or {}), with_incoming="node", edge_filters=edge, tag="after")
    return query.order_by({"after": {"id": "asc"}}).distinct().all(flat=True)


# --- as text -----------------------------------------------------------------------------------------------------------------


def format_learnt(checkpoint: CheckpointData, results: list[LearntResult]) -> str:
    """Return what a checkpoint learnt from as text, a line for each result."""
    models = lineage_of(checkpoint)
    verdict = verdict_on(checkpoint)
    lines = [("checkpoint", f"{checkpoint.base.attributes.get('kind')}, {checkpoint.uuid}")]
    lines += [("  parent", f"{model.label or model.uuid}") for model in models[1:]]
    lines += [("training set", dataset.uuid) for dataset in _trained_on(checkpoint)]
    if verdict is not None:
        lines.append(("verdict", f"{'accepted' if verdict['accepted'] else 'rejected'}: {verdict['reason']}"))
    for one in results:
        where = f"round {one.round}, " if one.round is not None else ""
        made = f"candidate {one.candidate} of seed {one.seed} for {one.target}" if one.campaign else "its origin is unknown"
        lines.append((one.formula, f"{where}{made}; validation {one.validation or '–'}; {one.reason}"))
    if not results:
        lines.append(("DFT results", "none that a loop found"))
    return "\n".join(f"  {line}" for line in pairs(lines))


def format_taught(taught: Taught) -> str:
    """Return what came of a DFT result as text."""
    lines = [("DFT result", taught.dos)]
    for one in taught.checkpoints:
        said = {None: "", True: ", accepted", False: ", rejected"}[one["accepted"]]
        lines.append(("learnt by", f"{one['kind']} {one['uuid']}{said}"))
    for row in taught.crystals:
        distance = "–" if row["distance"] is None else f"{row['distance']:.4f} states/eV/atom"
        lines.append(("led to", f"{row['formula']}, {distance}, validation {row['validation']}"))
    if not taught.checkpoints:
        lines.append(("learnt by", "no model"))
    return "\n".join(f"  {line}" for line in pairs(lines))


def rounds_of(node: orm.WorkChainNode) -> list[dict[str, Any]]:
    """Return the summaries of the rounds of a loop, also of one that is running.

    :raises ValueError: if the node is no loop.
    """
    if node.process_type != LEARN:
        raise ValueError(f"{node.process_label or type(node).__name__}<{node.pk}> is no loop; give a LearnWorkChain")
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": node.uuid}, tag="loop")
    function = {"attributes.process_label": "sum_up_round"}
    query.append(orm.CalcFunctionNode, filters=function, with_incoming="loop", tag="sum_up")
    query.append(orm.Dict, with_incoming="sum_up", tag="summary")
    found = {one["number"]: one.get_dict() for one in query.order_by({"summary": {"id": "asc"}}).all(flat=True)}
    return [found[number] for number in sorted(found)]


def format_rounds(node: orm.WorkChainNode) -> str:
    """Return the rounds of a loop as text."""
    lines = []
    for one in rounds_of(node):
        best = ", ".join(f"{name} {'–' if value is None else f'{value:.4f}'}" for name, value in one["best"].items())
        refused = ", ".join(f"{count} {criterion}" for criterion, count in one["refused"].items())
        lines += [
            f"Round {one['number']}, seed {one['seed']}: {one['computed']} computed, {one['entered']} entered"
            + (f"; refused: {refused}" if refused else ""),
            f"  best DFT distance so far: {best} states/eV/atom; {one['spent']} DFT runs in all",
        ]
        for kind, verdict in one["verdicts"].items():
            lines.append(f"  {kind} {'accepted' if verdict['accepted'] else 'rejected'}: {verdict['reason']}")
        lines += [f"  failed: {what}: {reason}" for what, reason in one["failures"].items()]
        if one["stop"]:
            lines.append(f"  the end: {one['stop']}")
    return "\n".join(lines)
