"""How a crystal came to be: from its DOS or structure back to the target, the checkpoint, the training set and the codes.

Everything is read off the provenance graph with ``QueryBuilder``, so it works as well on an archive imported into another
profile, where no code, computer or daemon is set up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common import LinkType
from aiida_pseudo.data.pseudo.upf import UpfData

from ..core.screening.geometries import RELAXED
from ..data.base import pk_of
from ..data.checkpoint import CheckpointData
from ..data.conversion import formula_of
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.labelled import LabelledCrystalSetData

_MAX_STEPS = 40  # of a way back; a relaxation restarted ten times has about as many


@dataclasses.dataclass(frozen=True)
class UsedCode:
    """A code, where it ran, and what was started there."""

    label: str
    computer: str
    executable: str
    uuid: str


@dataclasses.dataclass(frozen=True)
class UsedPseudo:
    """A pseudopotential: its file and the file's md5."""

    name: str
    md5: str
    uuid: str


@dataclasses.dataclass(frozen=True)
class UsedModel:
    """A checkpoint or force field, and what it was trained on.

    :param sha256: of the model file; None for a force field that is given by name.
    :param dataset_sha256: of the file of the training set; None if the model does not say.
    :param dataset: uuid of the training set, if it is in this profile.
    :param training_run: uuid of the ``TrainCalculation``, if it is in this profile.
    :param parent_sha256: of the checkpoint that training started from.
    """

    uuid: str
    label: str
    kind: str
    sha256: str | None
    dataset_sha256: str | None = None
    dataset: str | None = None
    training_run: str | None = None
    parent_sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class UsedTemplate:
    """Crystals that sampling started from or held parts of.

    :param formula: of a single structure, None for a set of crystals.
    :param sha256: of the file of a set of crystals, None for a single structure.
    """

    uuid: str
    label: str
    formula: str | None
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Where a candidate comes from. Nodes are given by their uuids.

    :param structure: the structure that the candidate was extracted to.
    :param candidate: its number; candidate i is a function of checkpoint, target, classifier, template, parameters, ``seed``
        and i.
    :param geometry: ``relaxed`` by the force field, or ``unrelaxed``.
    :param target: None if it was sampled freely, like ``target_sha256``.
    :param sampling: the parameters of the sampling.
    :param classifier: whose gradient guided the sampling, if it did.
    :param template: the crystals that it started from, or of which parts were held, if there are any.
    :param validation: the ``ValidateWorkChain``, and ``score`` its distances to the target, if there are any.
    :param codes: by what they ran: ``sample``, ``relax``, ``predict``, ``quantumespresso.pw``, …
    :param pseudos: by element.
    """

    structure: str
    formula: str
    candidate: int
    geometry: str
    seed: int
    target: str | None
    target_sha256: str | None
    sampling: dict[str, Any]
    checkpoint: UsedModel
    classifier: UsedModel | None
    template: UsedTemplate | None
    predictor: UsedModel | None
    force_field: UsedModel
    validation: str | None
    score: dict[str, Any] | None
    codes: dict[str, UsedCode]
    pseudos: dict[str, UsedPseudo]

    def as_dict(self) -> dict[str, Any]:
        """Return the lineage as plain dictionaries."""
        return dataclasses.asdict(self)


def lineage(node: orm.Node) -> Lineage:
    """Return where a candidate comes from.

    :param node: a ``ValidateWorkChain``, or the structure, DOS or score of a validated candidate.
    :raises ValueError: if the node does not come from a candidate of this package.
    """
    start, validation = _start(node)
    extract = _nearest(start, "extract_candidate")
    if extract is None:
        raise ValueError(
            f"{type(node).__name__}<{node.pk}> does not come from a candidate; give a campaign, a validation, or the "
            "structure, DOS or score of a validated crystal"
        )
    candidate = _input(extract, "candidate").value
    jobs: dict[str, orm.Node | None] = {}
    crystals = _input(extract, "crystals")
    geometry = _geometry(crystals, candidate)
    for step, process in (("screen", "screen"), ("predict", "PredictCalculation"), ("relax", "RelaxCalculation")):
        crystals = _part(crystals, candidate)
        jobs[step] = job = _creator(crystals, process)
        if job is not None:
            crystals = _relaxed(_input(job, "crystals"))
    sample = _creator(crystals, "SampleCalculation")
    if sample is None or jobs["relax"] is None:
        raise ValueError(f"the crystals of candidate {candidate} were not sampled and relaxed by jobs")
    jobs["sample"] = sample
    structure, target = _output(extract, orm.StructureData), _input(sample, "target")
    dft = _jobs_between(structure, start)
    parameters, classifier = _input(sample, "parameters"), _input(sample, "classifier")
    predict = jobs["predict"]
    return Lineage(
        structure=structure.uuid,
        formula=formula_of(structure),
        candidate=candidate,
        geometry=geometry,
        seed=_input(sample, "seed").value,
        target=None if target is None else target.uuid,
        target_sha256=None if target is None else target.base.attributes.get("sha256"),
        sampling=parameters.get_dict() if parameters is not None else {},
        checkpoint=_model(_input(sample, "checkpoint")),
        classifier=None if classifier is None else _model(classifier),
        template=_template(_input(sample, "template")),
        predictor=None if predict is None else _model(_input(predict, "checkpoint")),
        force_field=_model(_input(jobs["relax"], "force_field")),
        validation=None if validation is None else validation.uuid,
        score=_score(validation),
        codes=_codes([jobs["sample"], jobs["relax"], predict, *dft]),
        pseudos=_pseudos(dft),
    )


# --- the way back ------------------------------------------------------------------------------------------------------------


def _start(node: orm.Node) -> tuple[orm.Node, orm.Node | None]:
    """Return the data node to walk back from, and the validation it belongs to."""
    if isinstance(node, orm.WorkChainNode):
        for label in ("dos", "structure"):
            found = _neighbour(node, LinkType.RETURN, label, outgoing=True)
            if found is not None:
                return found, node
        found = _neighbour(node, LinkType.INPUT_WORK, "structure", outgoing=False)
        if found is None:
            raise ValueError(f"{node.process_label}<{node.pk}> has no structure; give a ValidateWorkChain")
        return found, node
    validation = _validation_of(node)
    if isinstance(node, orm.StructureData) and validation is not None:
        dos = _neighbour(validation, LinkType.RETURN, "dos", outgoing=True)
        return dos or node, validation
    return node, validation


def _validation_of(node: orm.Node) -> orm.Node | None:
    """Return the newest validation that returned the node, or had it as its structure."""
    for outgoing, edge in (
        (False, {"type": LinkType.RETURN.value}),
        (True, {"type": LinkType.INPUT_WORK.value, "label": "structure"}),
    ):
        chains = _neighbours(node, edge, outgoing, orm.WorkChainNode, {"process_type": "aiida.workflows:dosmatgen.validate"})
        if chains:
            return chains[0]
    return None


def _nearest(node: orm.Node, process: str) -> orm.Node | None:
    """Return the nearest process of a name on the way back; training sets farther back may hold candidates too."""
    front = [pk_of(node)]
    seen = set(front)
    for _ in range(_MAX_STEPS):
        query = orm.QueryBuilder().append(orm.Node, filters={"id": {"in": front}}, tag="node")
        query.append(
            orm.Node,
            with_outgoing="node",
            edge_filters={"type": {"in": [LinkType.CREATE.value, LinkType.INPUT_CALC.value]}},
            project=["id", "attributes.process_label"],
            tag="before",
        )
        found = query.order_by({"before": {"id": "desc"}}).distinct().all()
        for pk, label in found:
            if label == process:
                return orm.QueryBuilder().append(orm.Node, filters={"id": pk}).first(flat=True)
        front = [pk for pk, _ in found if pk not in seen]
        seen.update(front)
        if not front:
            return None
    return None


def _neighbours(
    node: orm.Node, edge: Mapping[str, Any], outgoing: bool, cls: Any = orm.Node, filters: Mapping[str, Any] | None = None
) -> list[orm.Node]:
    """Return the nodes at the other end of a node's links, newest first."""
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": node.uuid}, tag="node")
    relation: dict[str, Any] = {"with_incoming" if outgoing else "with_outgoing": "node"}
    query.append(cls, filters=dict(filters or {}), edge_filters=dict(edge), tag="other", **relation)
    return query.order_by({"other": {"ctime": "desc"}}).all(flat=True)


def _neighbour(node: orm.Node, link: LinkType, label: str, outgoing: bool) -> orm.Node | None:
    found = _neighbours(node, {"type": link.value, "label": label}, outgoing)
    return found[0] if found else None


def _input(job: orm.Node, label: str) -> Any:
    return _neighbour(job, LinkType.INPUT_CALC, label, outgoing=False)


def _output(job: orm.Node, cls: Any) -> Any:
    return _neighbours(job, {"type": LinkType.CREATE.value}, True, cls)[0]


def _creator(node: orm.Node | None, process: str) -> orm.Node | None:
    """Return the process of a name that created a node, or None."""
    if node is None:
        return None
    found = _neighbours(node, {"type": LinkType.CREATE.value}, False, orm.ProcessNode, {"attributes.process_label": process})
    return found[0] if found else None


def _geometry(survivors: CrystalSetData, candidate: int) -> str:
    columns = survivors.crystals.crystal_columns
    if "geometry" not in columns:
        return RELAXED
    return str(columns["geometry"][columns["candidate"] == candidate][0])


def _relaxed(crystals: orm.Node) -> orm.Node:
    """Return the crystals themselves, or the relaxed part of a set of both geometries."""
    joined = _creator(crystals, "join_geometries") or _creator(crystals, "stack_forms")  # the second is its former name
    return crystals if joined is None else _input(joined, "relaxed")


def _part(crystals: orm.Node | None, candidate: int) -> orm.Node | None:
    """Return the crystals themselves, or if they were joined from several jobs those of the job that holds the candidate."""
    joined = _creator(crystals, "join_crystals")
    if joined is None:
        return crystals
    parts = _neighbours(joined, {"type": LinkType.INPUT_CALC.value}, False, CrystalSetData)
    return next((part for part in parts if candidate in part.crystals.crystal_columns["candidate"]), crystals)


# --- what is found there -----------------------------------------------------------------------------------------------------


def _jobs_between(structure: orm.Node, end: orm.Node) -> list[orm.Node]:
    """Return the jobs that come after the structure and before the end, first ones first.

    Step by step back from the end, then forward among what was met: asked for descendants, databases look through all links.
    """
    front = [pk_of(end)]
    seen = {pk_of(structure), *front}
    after: dict[int, set[int]] = {}
    types: dict[int, str] = {}
    for _ in range(_MAX_STEPS):
        query = orm.QueryBuilder().append(orm.Node, filters={"id": {"in": front}}, project="id", tag="node")
        edge = {"type": {"in": [LinkType.CREATE.value, LinkType.INPUT_CALC.value]}}
        query.append(orm.Node, with_outgoing="node", edge_filters=edge, project=["id", "node_type"])
        for pk, before, node_type in query.iterall():
            after.setdefault(before, set()).add(pk)
            types[before] = node_type
        # a target may be made from a training set, behind which there are all its labels
        front = [pk for pk, node_type in types.items() if pk not in seen and "LabelledCrystalSetData" not in node_type]
        seen.update(front)
        if not front:
            break
    reached: set[int] = set()
    front = [pk_of(structure)]
    while front:
        front = [pk for before in front for pk in after.get(before, ()) if pk not in reached]
        reached.update(front)
    jobs = [orm.load_node(pk) for pk in sorted(reached) if types.get(pk, "").startswith("process.calculation.calcjob.")]
    return sorted(jobs, key=lambda job: job.ctime)


def _codes(jobs: list[orm.Node | None]) -> dict[str, UsedCode]:
    codes: dict[str, UsedCode] = {}
    for job in jobs:
        code = None if job is None else _input(job, "code")
        if job is None or code is None:
            continue
        name = str(job.process_type).removeprefix("aiida.calculations:").removeprefix("dosmatgen.")
        computer = orm.QueryBuilder().append(orm.Node, filters={"uuid": code.uuid}, tag="code")
        computer.append(orm.Computer, with_node="code", project=["label", "hostname"])
        where = computer.first()
        codes[name] = UsedCode(
            label=code.label,
            computer="" if where is None else f"{where[0]} ({where[1]})",
            executable=str(code.base.attributes.get("filepath_executable", "")),
            uuid=code.uuid,
        )
    return codes


def _pseudos(jobs: list[orm.Node]) -> dict[str, UsedPseudo]:
    if not jobs:
        return {}
    query = orm.QueryBuilder().append(orm.CalcJobNode, filters={"id": {"in": [job.pk for job in jobs]}}, tag="job")
    query.append(UpfData, with_outgoing="job", project=["attributes.element", "attributes.filename", "attributes.md5", "uuid"])
    return {element: UsedPseudo(name, md5, uuid) for element, name, md5, uuid in sorted(query.distinct().all())}


def _model(node: CheckpointData | ForceFieldData) -> UsedModel:
    get = node.base.attributes.get
    training = get("training", None) or {}
    run = _creator(node, "TrainCalculation")
    dataset_sha256, dataset = training.get("dataset_sha256"), None
    if run is not None:
        dataset = _input(run, "dataset")
        dataset_sha256 = dataset.base.attributes.get("sha256")
    elif dataset_sha256:
        query = orm.QueryBuilder().append(LabelledCrystalSetData, filters={"attributes.sha256": dataset_sha256})
        dataset = query.order_by({LabelledCrystalSetData: {"ctime": "asc"}}).first(flat=True)
    return UsedModel(
        uuid=node.uuid,
        label=node.label or get("name", "") or "",
        kind=get("kind"),
        sha256=get("sha256", None),
        dataset_sha256=dataset_sha256,
        dataset=None if dataset is None else dataset.uuid,
        training_run=None if run is None else run.uuid,
        parent_sha256=training.get("parent_sha256"),
    )


def _template(node: CrystalSetData | orm.StructureData | None) -> UsedTemplate | None:
    if node is None:
        return None
    formula = formula_of(node) if isinstance(node, orm.StructureData) else None
    return UsedTemplate(node.uuid, node.label, formula, node.base.attributes.get("sha256", None))


def _score(validation: orm.Node | None) -> dict[str, Any] | None:
    found = None if validation is None else _neighbour(validation, LinkType.RETURN, "score", outgoing=True)
    return None if found is None else found.get_dict()
