import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain
from aiida_dosmatgen.workflows.functions import collect_rankings
from aiida_dosmatgen.workflows.interruptions import excepted_process

from .conftest import FAMILY


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


def test_what_pw_x_relaxes_is_ranked_relaxed(build):
    def geometries(**kwargs):
        return ScreenCriteria.model_validate(build(**kwargs).candidates["criteria"].get_dict()).geometries

    assert sorted(geometries()) == ["relaxed", "unrelaxed"]
    assert geometries(relax=True) == ["relaxed"]
    assert geometries(relax=True, overrides={"candidates": {"criteria": {"geometries": ["unrelaxed"]}}}) == ["unrelaxed"]


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
    values = nodes_of(build()._inputs(prune=True), {})
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
        chain.add_child(name, orm.WorkChainNode())
        assert chain.may_start_target() is more
    chain.collect()
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
    node = orm.WorkChainNode().store()
    node.set_process_state("finished")
    node.set_exit_status(302)
    node.set_exit_message("the bands could not be computed")
    chain.add_child("a_b_12", node)
    chain.inspect_validations()
    assert chain.ctx.failures == {"a_b": {"12": "the bands could not be computed"}}


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
    for order in (["a", "b", "a"], ["a", "b", "a", "a"]):
        chain.add_child("a", broken())
        assert chain.inspect_candidates() is None
        assert chain.ctx.order == order and chain.may_start_target() and chain.ctx.outcomes["a"]["failed"] is None
    chain.add_child("a", broken())
    chain.inspect_candidates()
    assert chain.ctx.order == order and "excepted: aio_pika.exceptions.ConnectionClosed" in chain.ctx.outcomes["a"]["failed"]

    chain.ctx.queue, chain.ctx.next_validation = [[0, "b", 4]], 1
    chain.add_child("b_4", broken())
    chain.inspect_validations()
    assert chain.ctx.queue[1:] == [[1, "b", 4]] and chain.may_start_validation() and chain.ctx.failures["b"] == {}


def test_which_of_the_processes_of_a_failed_chain_aiida_failed_with(aiida_profile):
    def chain(*ends):
        parent = orm.WorkChainNode().store()
        parent.set_process_state("finished")
        parent.set_exit_status(305)
        children = []
        for k, (kind, state, status) in enumerate(ends):
            child = kind()
            link = LinkType.CALL_CALC if kind is orm.CalcJobNode else LinkType.CALL_WORK
            child.base.links.add_incoming(parent, link, f"child_{k}")
            child.store()
            child.set_process_state(state)
            if status is not None:
                child.set_exit_status(status)
            children.append(child)
        return parent, children

    broken, fine = (orm.WorkChainNode, "excepted", None), (orm.WorkChainNode, "finished", 0)
    broken_job, failed_job = (orm.CalcJobNode, "excepted", None), (orm.CalcJobNode, "finished", 310)
    parent, children = chain(broken, fine)  # a later one that went well does not hide it
    assert excepted_process(parent).uuid == children[0].uuid
    assert excepted_process(chain(fine)[0]) is None
    parent, children = chain(failed_job, broken_job)
    assert excepted_process(parent).uuid == children[1].uuid
    assert excepted_process(chain(broken_job, failed_job)[0]) is None  # it was repeated, and failed by itself


def test_a_campaign_in_which_nothing_was_found_still_says_why(build, process):
    chain = process(build())
    chain.setup()
    chain.ctx.outcomes["a"]["failed"] = "the sampler crashed"
    exit_code = chain.finish()
    assert exit_code.status == CampaignWorkChain.exit_codes.ERROR_NO_CANDIDATES.status
    assert exit_code.message == "no target has candidates: a: the sampler crashed"
    assert chain.outputs["ranking"].get_dict() == {
        "targets": {"a": []},
        "windows": {"a": None},
        "failed": {"a": "the sampler crashed"},
    }


def test_the_ranking_of_all_targets_keeps_the_window_of_each(aiida_profile):
    row = {"candidate": 3, "status": "validated", "rank": 1}
    ranked = orm.Dict({"ranking": [row], "window": {"low": -8.0, "high": 5.5}})
    outcomes = orm.Dict({"a": {"failed": None, "validations": {}}, "b": {"failed": "no crystal", "validations": {}}})
    content = collect_rankings(outcomes=outcomes, a=ranked).get_dict()
    assert content["windows"] == {"a": {"low": -8.0, "high": 5.5}, "b": None}
    assert content["targets"] == {"a": [row], "b": []} and content["failed"] == {"b": "no crystal"}
