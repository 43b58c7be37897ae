import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain
from aiida_dosmatgen.workflows.failures import CALLED_OFF, failure, noted
from aiida_dosmatgen.workflows.functions import collect_rankings
from aiida_dosmatgen.workflows.protocols.utils import inputs_of
from aiida_dosmatgen.workflows.retries import LIMIT, aiida_failed, ended_from_outside, was_interrupted

from .conftest import FAMILY
from .test_learn import add_called


@pytest.fixture
def build(codes, pseudo_family, models, target_node):
    def _build(**kwargs):
        overrides = kwargs.pop("overrides", {})
        validate = {"pseudo_family": FAMILY, **overrides.pop("validate", {})}
        inputs = {"codes": codes, "targets": {"a": target_node}, **models, "protocol": "fast"}
        return CampaignWorkChain.get_builder_from_protocol(
            **{**inputs, "overrides": {"validate": validate, **overrides}, **kwargs}
        )

    return _build


def nodes_of(inputs, found):
    """Collect the distinct nodes among nested inputs."""
    for value in inputs.values():
        if isinstance(value, orm.Node):
            found[id(value)] = value
        elif hasattr(value, "values"):
            nodes_of(value, found)
    return list(found.values())


def test_the_geometries_that_are_ranked_can_be_chosen(build):
    def geometries(**kwargs):
        return ScreenCriteria.model_validate(build(**kwargs).candidates["criteria"].get_dict()).geometries

    assert geometries() == ["relaxed"]
    assert geometries(overrides={"candidates": {"criteria": {"geometries": ["unrelaxed"]}}}) == ["unrelaxed"]


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
def test_protocols_make_valid_inputs(build, process, protocol):
    chain = process(build(protocol=protocol))
    chain.setup()
    chain.open_window()
    assert chain.targets_left()
    assert not chain.validations_left()
    assert set(chain.inputs.validate.dos.pseudos) == {"C", "Si"}  # of the family, what the denoiser can make


def test_inputs_are_few_nodes(build):
    """Everything before DFT is to stay within 40 nodes, and 22 of them are processes and what they make."""
    values = nodes_of(inputs_of(build()), {})
    assert sum(isinstance(node, orm.Dict | orm.Int | orm.Float | orm.Bool) for node in values) <= 16


def test_without_validation_no_quantum_espresso_is_needed(build, codes, process):
    chain = process(build(codes={"dosmatgen": codes["dosmatgen"]}, top_k=0))
    assert "validate" not in chain.inputs


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"overrides": {"candidate": {}}}, "unknown key 'candidate'.*'candidates'"),
        ({"overrides": {"candidates": {"relax": {"parameterz": {}}}}}, "unknown key 'candidates.relax.parameterz'"),
        ({"overrides": {"validate": {"dos": {"pww": {}}}}}, "unknown key 'validate.dos.pww'.*'pw'"),
        ({"targets": {}}, "there are no targets"),
        ({"codes": {}}, "codes lacks 'dosmatgen'"),
        ({"codes": {"dosmatgen": "a", "dos": "b"}}, "codes: there is no code 'dos' any more: dos.x is not run.* leave it out"),
        ({"codes": {"dosmatgen": "a", "vasp": "b"}}, "codes: unknown code 'vasp'; there are dosmatgen, pw, projwfc"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_concurrent": 0}, "max_concurrent is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"overrides": {"selection": {"diversity": -1}}}, "selection: diversity: .*greater than or equal to 0"),
        ({"overrides": {"selection": {"novelty": 1}}}, "novelty"),
        ({"overrides": {"candidates": {"criteria": {"novel": True}}}}, "novel leaves out known crystals"),
        ({"n_candidates": 0}, "n_candidates is 0"),
    ],
)
def test_bad_arguments_are_refused(build, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_template_and_classifier_are_for_all_targets(build, process, target, target_node, crystals, checkpoint_file):
    classifier = CheckpointData(checkpoint_file("classifier", "classifier.safetensors", elements=["C", "Si"]))
    template, overrides = CrystalSetData(crystals[1]), {"candidates": {"sample": {"parameters": {"start_time": 0.5}}}}
    chain = process(build(template=template, classifier=classifier, overrides=overrides))
    assert chain.inputs.candidates.sample.template is template
    assert chain.inputs.candidates.sample.classifier is classifier
    assert chain.inputs.candidates.sample.parameters["guidance"] == "classifier"
    assert "target" not in chain.inputs.candidates


def test_the_target_that_does_not_fit_is_named(build, process, target, target_node):
    larger = DosTargetData(DosTarget(target.curves, sites=(0, 5)))
    overrides = {"candidates": {"sample": {"parameters": {"n_atoms": 2}}}}
    with pytest.raises(ValueError, match="target large: the target has a curve for atom 5, counted from 0, but n_atoms is 2"):
        process(build(targets={"small": target_node, "large": larger}, overrides=overrides))


def test_no_more_targets_and_validations_are_begun_than_there_is_room_for(build, process, target_node):
    chain = process(build(targets={name: target_node for name in "cab"}, max_concurrent=2))
    chain.setup()
    chain.open_window()
    assert chain.ctx.names == ["a", "b", "c"]
    for name, more in (("a", True), ("b", False)):
        assert chain.may_start_target()
        chain.ctx.next_target += 1
        chain.add_child(name, orm.WorkChainNode().store())
        assert chain.may_start_target() is more
    assert not chain.collect()
    for node in chain.ctx.running.values():
        node.set_process_state("finished")
    assert sorted(chain.collect()) == ["a", "b"]
    assert chain.may_start_target()

    chain.ctx.queue = [[0, "a", 4], [0, "b", 9], [1, "a", 2]]
    chain.ctx.next_validation = 3
    assert not chain.validations_left()
    chain.add_child("a_2", orm.WorkChainNode())
    assert chain.validations_left() and not chain.may_start_validation()


def test_why_validations_failed_is_noted_by_target_and_candidate(build, process, target_node):
    chain = process(build(targets={"a_b": target_node}))
    chain.setup()
    chain.open_window()
    structure = orm.StructureData(ase=bulk("Si")).store()
    node = orm.WorkChainNode()
    node.base.links.add_incoming(structure, LinkType.INPUT_WORK, "structure")
    node.store()
    node.set_process_state("finished")
    node.set_exit_status(302)
    node.set_exit_message("the bands could not be computed")
    chain.ctx.validating = {"a_b_12": ["a_b", 12], "a_b_13": ["a_b", 13]}
    chain.add_child("a_b_12", node)
    killed = orm.WorkChainNode()
    killed.base.links.add_incoming(structure, LinkType.INPUT_WORK, "structure")
    killed.store().set_process_state("killed")
    chain.add_child("a_b_13", killed)
    chain.inspect_validations()
    reasons = {candidate: reason["reason"] for candidate, reason in chain.ctx.failures["a_b"].items()}
    assert reasons == {"12": "the bands could not be computed", "13": "process was killed"}
    assert all(reason.creator.process_label == "note_failure" for reason in chain.ctx.failures["a_b"].values())
    chain.ctx.queue = [[0, "a_b", 12], [1, "a_b", 13]]
    exit_code = chain.finish()
    assert exit_code.status == CampaignWorkChain.exit_codes.ERROR_NOTHING_VALIDATED.status
    assert exit_code.message.endswith("no validation succeeded: process was killed; the bands could not be computed")


def test_a_chain_that_aiida_failed_with_is_begun_again(build, process, target_node):
    def broken():
        node = orm.WorkChainNode().store()
        node.set_process_state("excepted")
        node.set_exception("aio_pika.exceptions.ConnectionClosed")
        return node

    chain = process(build(targets={"a": target_node, "b": target_node}))
    chain.setup()
    chain.open_window()
    chain.ctx.next_target = 2
    for order in [["a", "b", *["a"] * times] for times in range(1, LIMIT)]:
        chain.add_child("a", broken())
        assert chain.inspect_candidates() is None
        assert chain.ctx.order == order and chain.may_start_target() and not chain.ctx.failed
    chain.add_child("a", broken())
    chain.inspect_candidates()
    assert chain.ctx.order == order and "excepted: aio_pika.exceptions.ConnectionClosed" in chain.ctx.failed["a"]["reason"]

    chain.ctx.queue, chain.ctx.next_validation = [[0, "b", 4]], 1
    chain.ctx.validating = {"b_4": ["b", 4]}
    chain.add_child("b_4", broken())
    chain.inspect_validations()
    assert chain.ctx.queue[1:] == [[1, "b", 4]] and chain.may_start_validation() and chain.ctx.failures["b"] == {}


def test_a_chain_that_goes_on_though_its_end_was_announced_is_waited_for(build, process, target_node):
    """Two workers ran it, and one of them failed with it."""
    chain = process(build(targets={"a": target_node}))
    chain.setup()
    chain.open_window()
    chain.ctx.next_target = 1
    child = orm.WorkChainNode().store()
    child.set_process_state("running")
    child.set_checkpoint("where it is")
    chain.add_child("a", child)
    chain.inspect_candidates()
    assert chain.ctx.running == {"a": child} and chain.targets_left() and not chain.ctx.failed
    child.set_process_state("killed")
    chain.inspect_candidates()
    assert not chain.ctx.running and not chain.targets_left() and list(chain.ctx.failed) == ["a"]


def test_a_chain_that_nobody_can_go_on_with_is_begun_again(build, process, target_node):
    """Of two workers one failed with it and removed its checkpoint, and the other had noted that it was running."""
    chain = process(build(targets={"a": target_node}))
    chain.setup()
    chain.open_window()
    lost, instead = (orm.WorkChainNode().store() for _ in range(2))
    lost.set_process_state("running")
    add_called(chain.node, lost, "candidates_a")
    lost.seal()
    chain.ctx.next_target = 1
    chain.add_child("a", lost)
    chain.inspect_candidates()
    assert not chain.ctx.failed and chain.may_start_target() and chain.submitted("candidates_a") is None
    instead.set_process_state("running")
    instead.set_checkpoint("where it is")
    add_called(chain.node, instead, "candidates_a")
    chain.run_candidates()
    assert chain.ctx.running["a"].uuid == instead.uuid
    assert failure(lost) == "process was lost with a worker of the daemon"


def test_what_another_worker_called_off_is_what_it_began_instead(build, process, target_node):
    chain = process(build(targets={"a": target_node}))
    chain.setup()
    chain.open_window()
    called_off, instead = (orm.WorkChainNode().store() for _ in range(2))
    called_off.set_process_status(CALLED_OFF)
    for node, state in ((called_off, "killed"), (instead, "running")):
        node.set_process_state(state)
        node.set_checkpoint("where it is")
        add_called(chain.node, node, "candidates_a")
    chain.ctx.next_target = 1
    chain.add_child("a", called_off)
    chain.inspect_candidates()
    assert not chain.ctx.failed and chain.may_start_target()
    chain.run_candidates()
    assert chain.ctx.running["a"].uuid == instead.uuid


def test_what_was_submitted_as_the_daemon_died_is_not_submitted_again(build, process, target_node):
    """The step begins again: with what it has called by then, but with the context from before."""
    chain = process(build(targets={"a": target_node}))
    chain.setup()
    chain.open_window()
    called = {}
    for label, state in (("candidates_a", "finished"), ("validate_a_0", "waiting")):
        called[label] = orm.WorkChainNode().store()
        called[label].set_process_state(state)
        called[label].set_exit_status(0)
        called[label].set_checkpoint("where it is")
        add_called(chain.node, called[label], label)
    one = CrystalSetData(CrystalSet([2], [14, 14], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3)[None] * 4)).store()
    one.base.links.add_incoming(called["candidates_a"], LinkType.RETURN, "crystals")
    chain.ctx.candidates["a"], chain.ctx.queue = called["candidates_a"], [[0, "a", 0]]

    def steps():
        chain.ctx.next_target = chain.ctx.next_validation = 0
        chain.run_candidates()
        chain.run_validation()
        return {key: node.uuid for key, node in chain.ctx.running.items()}

    count = orm.QueryBuilder().append(orm.ProcessNode).count
    running = steps()
    assert running == {"a": called["candidates_a"].uuid, "a_0": called["validate_a_0"].uuid}
    before = count()
    assert steps() == running and count() == before + 1  # the extraction, which has no call of its own in a bare node


def test_what_was_interrupted_and_what_was_not(aiida_profile):
    """A chain of aiida-quantumespresso is repeated for what it failed with last."""

    def chain(*ends):
        parent = orm.WorkChainNode().store()
        parent.set_process_state("finished")
        parent.set_exit_status(305)
        for k, (kind, state, said) in enumerate(ends):
            child = kind(process_type="aiida.calculations:quantumespresso.pw") if kind is orm.CalcJobNode else kind()
            link = LinkType.CALL_CALC if kind is orm.CalcJobNode else LinkType.CALL_WORK
            child.base.links.add_incoming(parent, link, f"child_{k}")
            child.store()
            child.set_process_state(state)
            if said is not None:
                child.set_exception(said) if state == "excepted" else child.set_exit_status(said)
        return parent

    broker, mistake = "aio_pika.exceptions.ConnectionClosed", "ValueError: there is a vacancy"
    fine, broken = (orm.WorkChainNode, "finished", 0), (orm.WorkChainNode, "excepted", broker)
    wrong = (orm.WorkChainNode, "excepted", mistake)
    job = orm.CalcJobNode
    assert was_interrupted(chain(broken, fine))  # a later one that went well does not hide it
    assert not was_interrupted(chain(fine)) and not was_interrupted(chain(wrong))
    assert was_interrupted(chain((job, "finished", 410), (job, "excepted", broker)))
    assert not was_interrupted(chain((job, "excepted", broker), (job, "finished", 410)))  # the first was repeated
    assert was_interrupted(chain((job, "finished", 312))) and was_interrupted(chain((job, "finished", 140)))
    assert not was_interrupted(chain((job, "finished", 350)))
    assert not was_interrupted(chain((job, "killed", None)))
    assert was_interrupted(chain((job, "finished", None)))  # two workers wrote down its end


@pytest.mark.parametrize(
    ("exception", "failed"),
    [
        ("aiormq.exceptions.ChannelInvalidStateError: no active transport", True),
        ("kiwipy.communications.TimeoutError", True),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", True),
        ("psycopg.OperationalError: the server closed\n\nThe above …\n\nsqlalchemy.exc.OperationalError: the server", True),
        ("aiida.common.exceptions.ModificationNotAllowed: cannot add a link to a sealed node", True),
        ('ValueError: node<123> already has an outgoing LinkType.CREATE link with label "remote_folder"', True),
        ("KeyError: \"duplicate label 'retrieved' in namespace ''\"", True),
        ("ValueError: kinds SiA and SiB have no pseudopotential", False),
        ("aiida.common.exceptions.ValidationError: ConnectionError in the label", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", False),
        ("KeyError: 'output_band'", False),
    ],
)
def test_with_which_exceptions_aiida_failed(aiida_profile, exception, failed):
    node = orm.WorkChainNode().store()
    node.set_process_state("excepted")
    node.set_exception(exception)
    assert aiida_failed(node) is failed and ended_from_outside(node) is failed


def test_a_campaign_in_which_nothing_was_found_still_says_why(build, process):
    chain = process(build())
    chain.setup()
    chain.ctx.failed["a"] = noted(chain.inputs.targets["a"], "the sampler crashed")
    exit_code = chain.finish()
    assert exit_code.status == CampaignWorkChain.exit_codes.ERROR_NO_CANDIDATES.status
    assert exit_code.message == "no target has candidates: a: the sampler crashed"
    assert chain.outputs["ranking"].get_dict() == {
        "targets": {"a": []},
        "windows": {"a": None},
        "failed": {"a": "the sampler crashed"},
    }


def test_a_campaign_of_which_no_candidate_passed_the_screening_has_finished(build, process, target_node):
    chain = process(build(targets={"a": target_node, "b": target_node}))
    chain.setup()
    chain.open_window()
    for name in "ab":
        node = orm.WorkChainNode().store()
        outputs = {"crystals": CrystalSetData(CrystalSet([], [], np.zeros((0, 3)), np.zeros((0, 3, 3)))), "report": orm.Dict()}
        for label, output in outputs.items():
            output.store().base.links.add_incoming(node, LinkType.RETURN, label)
        node.set_process_state("finished")
        node.set_exit_status(0)
        chain.add_child(name, node)
    assert chain.inspect_candidates() is None and not chain.validations_left()
    assert chain.finish() is None
    failed = chain.outputs["ranking"].get_dict()["failed"]
    assert all(reason.startswith("no candidate passed the screening") for reason in failed.values()) and len(failed) == 2


def test_a_target_that_cannot_be_ranked_costs_the_others_nothing(build, process, target_node):
    """A report of other crystals than those that came: neither a choice for DFT nor a ranking can be made of it."""
    chain = process(build(targets={"a": target_node, "b": target_node}))
    chain.setup()
    chain.open_window()
    one = CrystalSet([2], [14, 14], [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3)[None] * 4)
    row = {"candidate": 0, "score": 0.5, "uncertainty": None}
    for name, ranking in (("a", [row, {**row, "candidate": 0}]), ("b", [row])):
        node = orm.WorkChainNode().store()
        for label, output in {"crystals": CrystalSetData(one), "report": orm.Dict({"ranking": ranking})}.items():
            output.store().base.links.add_incoming(node, LinkType.RETURN, label)
        node.set_process_state("finished")
        node.set_exit_status(0)
        chain.add_child(name, node)
    chain.inspect_candidates()
    assert chain.ctx.queue == [[0, "b", 0]]
    assert chain.ctx.failed["a"]["reason"].startswith("nothing could be chosen for DFT: the report ranks 2 candidates")
    assert chain.ctx.failed["a"].creator.process_label == "note_failure"
    chain.ctx.queue = []
    assert chain.finish() is None
    content = chain.outputs["ranking"].get_dict()
    assert [row["candidate"] for row in content["targets"]["b"]] == [0] and set(content["failed"]) == {"a"}


def test_the_ranking_of_all_targets_keeps_the_window_of_each(aiida_profile):
    row = {"candidate": 3, "status": "validated", "rank": 1}
    ranked = orm.Dict({"ranking": [row], "window": {"low": -8.0, "high": 5.5}})
    content = collect_rankings(ranking_a=ranked, failure_b=orm.Dict({"reason": "no crystal"})).get_dict()
    assert content["windows"] == {"a": {"low": -8.0, "high": 5.5}, "b": None}
    assert content["targets"] == {"a": [row], "b": []} and content["failed"] == {"b": "no crystal"}
