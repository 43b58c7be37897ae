"""The outline of the loop: what a round does with what its campaign, its trainings and the daemon have left of it."""

import asyncio

import numpy as np
import plumpy
import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.engine.persistence import AiiDAPersister
from aiida.engine.processes.launcher import ProcessLauncher
from ase.build import bulk
from plumpy.process_comms import create_continue_body

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.learning.extending import FOUND
from aiida_dosmatgen.core.learning.settings import LearnSettings
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.workflows.failures import failure
from aiida_dosmatgen.workflows.learn import LearnWorkChain
from aiida_dosmatgen.workflows.learning.rounds import validations_of
from tests.core.learning.test_extending import small_set, with_projections
from tests.core.learning.test_gate import result, zincblende

from .conftest import FAMILY

SETTINGS = {"budget": 10, "max_rounds": 4, "top_k": 2, "repeats": 0, "patience": 4}
FIGURES = {"predictor": {"dos_mae": 0.1, "formation_energy_mae": 0.2}, "denoiser": {"loss": 1.0}}


@pytest.fixture
def build(codes, pseudo_family, models, target_node):
    def _build(**kwargs):
        overrides = kwargs.pop("overrides", {})
        campaign = {"validate": {"pseudo_family": FAMILY}, **overrides.pop("campaign", {})}
        dataset = LabelledCrystalSetData(small_set())
        inputs = {"codes": codes, "targets": {"a": target_node}, **models, "dataset": dataset, "protocol": "fast"}
        inputs |= {"settings": {**SETTINGS, **kwargs.pop("settings", {})}, "overrides": {"campaign": campaign, **overrides}}
        return LearnWorkChain.get_builder_from_protocol(**{**inputs, **kwargs})

    return _build


def ended(outputs=None, inputs=None, status=0, state="finished", kind=orm.WorkChainNode, **attributes):
    """A process that has ended, with what it was given and what it returned."""
    node = kind(**attributes)
    for label, value in (inputs or {}).items():
        node.base.links.add_incoming(value, LinkType.INPUT_WORK, label)
    node.store()
    for label, value in (outputs or {}).items():
        value.store().base.links.add_incoming(node, LinkType.RETURN, label)
    node.set_process_state(state)
    if state == "finished":
        node.set_exit_status(status)
        node.set_exit_message("it failed" if status else "")
    return node


def validated(atoms, status=0):
    """A validation of a crystal, with its density of states if it succeeded."""
    structure = orm.StructureData(ase=atoms).store()
    if status:
        return ended(inputs={"structure": structure}, status=status)
    dos = CrystalSetData(with_projections(result(atoms)))
    return ended({"dos": dos, "structure": structure}, {"structure": structure})


def campaign(validations, distance=0.2):
    """A campaign that has called validations, by the names of their targets and candidates."""
    node = orm.WorkChainNode(process_type="aiida.workflows:dosmatgen.campaign").store()
    for name, child in validations.items():
        add_called(node, child, f"validate_{name}")
    rows = [{"candidate": 1, "status": "validated", "dft": {"mae": distance}}]
    for label, content in (("ranking", {"targets": {"a": rows}}), ("reports__a", {"funnel": {"candidates": 9, "valid": 4}})):
        orm.Dict(content).store().base.links.add_incoming(node, LinkType.RETURN, label)
    node.set_process_state("finished")
    node.set_exit_status(0)
    return node


def add_called(node, child, label, link=LinkType.CALL_WORK):
    """Put a call on record after the fact; AiiDA does so when a child is made by a running process."""
    child.backend_entity.add_incoming(node.backend_entity, link, label)


@pytest.fixture
def begun(build, process):
    """A loop whose given models are evaluated, at the beginning of its first round."""

    def begin(**kwargs):
        chain = process(build(**kwargs))
        assert chain.setup() is None
        assert chain.ctx.wanted == [f"evaluate_0_{kind}" for kind in chain._settings.models]
        for kind in chain._settings.models:
            metrics = orm.Dict({"kind": kind, "n_crystals": 1, **FIGURES[kind]})
            chain.ctx[f"evaluate_0_{kind}"] = ended({"metrics": metrics})
        chain.inspect_children()
        assert not chain.is_left() and chain.take_figures() is None
        chain.begin_round()
        return chain

    return begin


def a_round(chain, validations, checkpoints=None, figures=None, distance=0.2):
    """Take a loop through the steps of a round.

    :param checkpoints: of the models whose training succeeds; all others fail.
    :param figures: of these checkpoints; those that have none cannot be evaluated.
    """
    number = chain.ctx.number
    assert chain.ctx.wanted == [f"campaign_{number}"]
    chain.ctx[f"campaign_{number}"] = campaign(validations, distance)
    chain.inspect_children()
    chain.begin_repeats()
    chain.ctx.wanted = []
    chain.run_gate()
    chain.begin_trainings()
    for label in chain.ctx.wanted:
        kind = label.rpartition("_")[2]
        good = {"checkpoint": checkpoints[kind]} if kind in (checkpoints or {}) else None
        chain.ctx[label] = ended(good, status=0 if good else 304)
    chain.inspect_children()
    chain.begin_evaluations()
    for label in chain.ctx.wanted:
        kind = label.rpartition("_")[2]
        found = (figures or {}).get(kind)
        metrics = {"metrics": orm.Dict({"kind": kind, "n_crystals": 1, **found})} if found else None
        chain.ctx[label] = ended(metrics, status=0 if found else 304)
    chain.inspect_children()
    chain.judge()
    chain.sum_up()
    return chain.ctx.summaries[-1].get_dict()


@pytest.fixture
def tuned(checkpoint_file):
    """Return a function that makes a checkpoint of a kind, another one each time."""
    count = iter(range(99))

    def make(kind):
        path = checkpoint_file(kind, f"tuned-{next(count)}.safetensors", elements=["C", "Si"], metrics={"n": next(count)})
        return CheckpointData(path)

    return make


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
def test_protocols_make_valid_inputs(build, process, protocol):
    chain = process(build(protocol=protocol, settings={}))
    assert chain.setup() is None
    assert chain.inputs.settings.get_dict().keys() == LearnSettings.model_fields.keys()
    assert len(chain.ctx.dataset.crystals) == 3 and len(chain.ctx.held_out.crystals) == 1  # by the column split
    assert chain.inputs.campaign.selection["exploration"] == 0.25
    assert chain.inputs.train_denoiser.parameters["model"] == "denoiser"
    assert "known" not in chain.inputs.campaign.candidates and "checkpoint" not in chain.inputs.campaign.candidates


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"settings": {"budget": 0}}, "settings: budget"),
        ({"settings": {"bugdet": 3}}, "settings: bugdet: unknown key, did you mean 'budget'"),
        ({"overrides": {"gate": {"most_forces": 1}}}, "most_forces"),
        ({"overrides": {"campaign": {"top_k": 1, "candidate": {}}}}, "unknown key 'campaign.candidate'"),
        ({"overrides": {"train_predictor": {"parameters": {"epochs": 0}}}}, "train_predictor.parameters: epochs"),
        ({"targets": {}}, "there are no targets"),
    ],
)
def test_bad_arguments_are_refused(build, process, kwargs, message):
    with pytest.raises(ValueError, match=message):
        process(build(**kwargs))


def test_a_budget_smaller_than_the_targets_is_refused(build, process, target_node):
    with pytest.raises(ValueError, match="a budget of 1 DFT runs is too small for 2 targets"):
        process(build(targets={"a": target_node, "b": target_node}, settings={"budget": 1}))


def test_without_anything_to_judge_by_nothing_begins(build, process):
    whole = LabelledCrystalSetData(small_set()[[0, 1, 2]])
    status = LearnWorkChain.exit_codes.ERROR_NO_HELD_OUT.status
    assert process(build(dataset=whole)).setup().status == status
    assert process(build(dataset=whole, settings={"models": []})).setup() is None
    assert process(build(dataset=whole, held_out=LabelledCrystalSetData(small_set()[[3]]))).setup() is None


def test_what_is_kept_for_tests_does_not_enter_whatever_judges(begun):
    """Neither the crystals of the set's own splits, test-final among them, nor those that were given to judge by."""
    given = LabelledCrystalSetData(small_set()[[3]].replace(numbers=[32, 6]))  # GeC
    splits = np.array(["train", "train", "train", "test-final"])
    dataset = LabelledCrystalSetData(small_set().with_columns(crystal={"split": splits}))
    chain = begun(dataset=dataset, held_out=given)
    found = {"a_1": validated(zincblende("Ge", "C", 5.6)), "a_2": validated(zincblende("Ge", "Si", 5.7))}
    summary = a_round(chain, found)
    assert summary["refused"] == {"held out": 2} and summary["entered"] == 0


def test_a_round_from_the_campaign_to_the_next(begun, tuned):
    chain = begun()
    given = dict(chain.ctx.models)
    new = {"predictor": tuned("predictor"), "denoiser": tuned("denoiser")}
    figures = {"predictor": {"dos_mae": 0.09, "formation_energy_mae": 0.2}, "denoiser": {"loss": 1.5}}
    validations = {"a_1": validated(zincblende("Ge", "C", 4.6)), "a_2": validated(zincblende("Si", "C", 4.36)),
                   "a_3": validated(bulk("Ge"), status=302)}  # fmt: skip
    summary = a_round(chain, validations, new, figures)
    assert (summary["computed"], summary["entered"], summary["spent"]) == (3, 1, 3)
    assert summary["refused"] == {"converged": 1, "copy": 1}
    said = chain.ctx.gates["round_1"]["results"]
    assert said["a_1"]["entered"] and said["a_3"]["reason"].startswith("no DFT result: ")
    assert chain.ctx.models["predictor"].uuid == new["predictor"].uuid  # accepted
    assert chain.ctx.models["denoiser"].uuid == given["denoiser"].uuid  # rejected, and on record
    verdict = chain.ctx.all_verdicts["round_1_denoiser"]
    assert not verdict["accepted"] and verdict.creator.inputs.checkpoint.uuid == new["denoiser"].uuid
    assert summary["held_out"]["denoiser"] == {"loss": 1.0} and summary["best"] == {"a": 0.2}
    assert summary["funnels"] == {"a": {"candidates": 9, "valid": 4}} and summary["stop"] is None
    learnt = chain.ctx.dataset.crystals
    assert learnt.crystal_columns["source"].tolist().count(FOUND) == 1 and "GeC" in learnt.formulas
    known = set(chain.ctx.known.crystals.formulas)
    assert {"GeC", "Ge", "SiC"} <= known  # what failed is not computed again either

    chain.begin_round()
    assert chain.ctx.seed.value == 2 and chain.ctx.top_k.value == 2
    _, inputs = chain._campaign("")
    assert inputs.candidates.predictor.uuid == new["predictor"].uuid and inputs.candidates.seed.value == 2
    assert inputs.candidates.checkpoint.uuid == given["denoiser"].uuid and inputs.candidates.known.uuid == chain.ctx.known.uuid
    again = {"a_1": validated(zincblende("Ge", "C", 4.61))}
    summary = a_round(chain, again, distance=0.1)
    assert summary["entered"] == 0 and summary["refused"] == {"copy": 1} and summary["verdicts"] == {}
    assert summary["best"] == {"a": 0.1} and summary["spent"] == 4 and summary["held_out"]["predictor"]["dos_mae"] == 0.09
    assert chain.finish() is None
    assert chain.outputs["predictor"].uuid == new["predictor"].uuid and len(chain.outputs["rounds"]) == 2
    assert set(chain.outputs["verdicts"]) == {"round_1_predictor", "round_1_denoiser"}


def test_what_a_round_leaves_is_linked(begun, tuned):
    """Summaries, verdicts, sets and plans come from calcfunctions; nothing is known by a uuid alone."""
    chain = begun()
    a_round(chain, {"a_1": validated(zincblende("Ge", "C", 4.6))}, {"predictor": tuned("predictor")}, FIGURES)
    for node in (*chain.ctx.summaries, *chain.ctx.gates.values(), *chain.ctx.all_verdicts.values(), chain.ctx.known):
        assert node.creator is not None
    extend = chain.ctx.dataset.creator
    assert extend.process_label == "extend_labelled" and "dos_a_1" in extend.base.links.get_incoming().all_link_labels()
    assert chain.ctx.training.creator.inputs.dataset.uuid == chain.ctx.dataset.uuid
    assert chain.ctx.seed.creator.process_label == "plan_round"


def test_targets_may_be_called_as_what_a_round_takes(begun, target_node):
    chain = begun(targets={name: target_node for name in ("number", "settings", "previous")})
    assert {"target_number", "number"} <= set(chain.ctx.seed.creator.base.links.get_incoming().all_link_labels())
    assert chain.ctx.top_k.value >= 1


def test_failures_are_on_record_and_the_loop_continues(begun, tuned):
    chain = begun()
    good = {"a_1": validated(zincblende("Ge", "C", 4.6))}
    given = dict(chain.ctx.models)
    summary = a_round(chain, good, {"predictor": tuned("predictor")})  # trained, but it cannot be evaluated
    assert "it failed" in summary["failures"]["train_denoiser"]
    assert summary["verdicts"]["predictor"]["reason"].startswith("it could not be evaluated: ")
    assert not summary["verdicts"]["predictor"]["accepted"] and chain.ctx.models == given
    chain.begin_round()
    chain.ctx.campaign_2 = ended(status=301)
    chain.inspect_children()
    chain.begin_repeats()
    chain.run_gate()
    chain.begin_trainings()
    chain.begin_evaluations()
    chain.judge()
    chain.sum_up()
    summary = chain.ctx.summaries[-1].get_dict()
    assert "it failed" in summary["failures"]["campaign"] and summary["spent"] == 1 + 2  # what it may have computed
    assert chain.is_round_left() and chain.finish() is None


def test_a_loop_without_any_result_says_why(begun):
    chain = begun(settings={"max_rounds": 1})
    chain.ctx.campaign_1 = ended(status=301)
    for step in ("inspect_children", "begin_repeats", "run_gate", "begin_trainings", "begin_evaluations", "judge", "sum_up"):
        getattr(chain, step)()
    assert not chain.is_round_left() and chain.ctx.stop == "1 rounds are done"
    code = chain.finish()
    assert code.status == LearnWorkChain.exit_codes.ERROR_NOTHING_COMPUTED.status and "campaign of round 1" in code.message


def test_a_loop_in_which_no_training_succeeded_says_so(begun):
    chain = begun()
    a_round(chain, {"a_1": validated(zincblende("Ge", "C", 4.6))})
    code = chain.finish()
    assert code.status == LearnWorkChain.exit_codes.ERROR_NOTHING_TRAINED.status and "train_predictor" in code.message
    assert chain.outputs["dataset"].uuid == chain.ctx.dataset.uuid  # what entered is there all the same


def test_without_learning_the_models_stay_and_the_gate_still_answers(begun):
    chain = begun(settings={"models": []})
    summary = a_round(chain, {"a_1": validated(zincblende("Ge", "C", 4.6))})
    assert summary["entered"] == 1 and summary["verdicts"] == {} and chain.finish() is None


def test_a_step_that_the_daemon_left_in_the_middle_is_not_done_twice(begun):
    chain = begun()
    count = orm.QueryBuilder().append(orm.CalcFunctionNode, filters={"attributes.process_label": "plan_round"}).count
    before, seed = count(), chain.ctx.seed
    add_called(chain.node, seed.creator, "plan_1", LinkType.CALL_CALC)
    chain.ctx.number = 0  # as the last checkpoint says
    chain.begin_round()
    assert count() == before and chain.ctx.seed.uuid == seed.uuid
    running = orm.WorkChainNode().store()
    running.set_process_state("waiting")
    running.set_checkpoint("where it is")
    add_called(chain.node, running, "campaign_1")
    chains = orm.QueryBuilder().append(orm.WorkChainNode).count
    before = chains()
    chain.run_children()
    assert chains() == before  # it waits for the one that it has submitted
    assert chain.submitted("campaign_1").uuid == running.uuid
    running.set_process_state("excepted")
    running.set_exception("aio_pika.exceptions.ConnectionClosed")
    assert chain.submitted("campaign_1") is None
    chain.ctx.campaign_1 = running
    chain.inspect_children()
    assert chain.ctx.wanted == ["campaign_1"]  # AiiDA failed with it: once more


@pytest.mark.parametrize("state", ["created", None])
def test_a_child_that_has_not_begun_never_runs_beside_the_one_in_its_place(begun, state):
    """The daemon died as the child was submitted; its task may be in the queue of the broker, or may not."""
    chain = begun()
    lost = orm.WorkChainNode().store()
    lost.set_process_state(state)
    add_called(chain.node, lost, "campaign_1")
    assert chain.submitted("campaign_1") is None
    assert lost.is_killed and lost.is_sealed
    with pytest.raises(plumpy.KilledError):  # what a worker does with its task
        asyncio.run(ProcessLauncher(persister=AiiDAPersister())(None, create_continue_body(lost.pk)))
    again = orm.WorkChainNode().store()
    again.set_process_state("running")
    again.set_checkpoint("where it is")
    add_called(chain.node, again, "campaign_1")
    assert chain.submitted("campaign_1").uuid == again.uuid and not again.is_sealed
    assert "killed" not in failure(chain.node)


def test_a_child_is_found_by_its_whole_label(begun):
    """Databases take an underscore for any letter, and some do not tell capitals from small letters."""
    chain = begun()
    children = {}
    for label in ("repeat_1_axb_0", "repeat_1_A_B_0", "repeat_1_a_b_0"):
        children[label] = orm.WorkChainNode().store()
        children[label].set_process_state("running")
        children[label].set_checkpoint("where it is")
        add_called(chain.node, children[label], label)
        assert chain.submitted(label).uuid == children[label].uuid
    assert {label: chain.submitted(label).uuid for label in children} == {label: node.uuid for label, node in children.items()}
    assert chain.submitted("repeat_1_a_c_0") is None


def test_of_a_candidate_that_was_validated_twice_the_one_with_a_result_counts(aiida_profile):
    broken, good = validated(bulk("Si"), status=302), validated(bulk("Si"))
    node = campaign({"a_1": good, "a_2": broken})
    add_called(node, broken, "validate_a_1")
    found = validations_of(node)
    assert found["a_1"].uuid == good.uuid and found["a_2"].uuid == broken.uuid


def test_a_few_results_are_computed_once_more(begun):
    chain = begun(settings={"repeats": 1, "budget": 3})
    chain.ctx.campaign_1 = campaign({f"a_{k}": validated(zincblende("Ge", "C", 4.6 + 0.3 * k)) for k in range(2)})
    chain.inspect_children()
    chain.begin_repeats()
    (label,) = chain.ctx.wanted
    assert label in ("repeat_1_a_0", "repeat_1_a_1")
    name = label.removeprefix("repeat_1_")
    _, inputs = chain._repeat(name)
    moved = inputs.structure.get_ase()
    original = chain.ctx.results[name].crystals
    shift = moved.get_scaled_positions() - original.fractional
    np.testing.assert_allclose(np.mod(shift, 1.0), 0.5, atol=1e-9)
    assert inputs.structure.creator.process_label == "moved_in_cell"
    other = with_projections(result(zincblende("Ge", "C", 6.0), formation_energy=1.0))
    chain.ctx[label] = ended({"dos": CrystalSetData(other)})
    chain.inspect_children()
    chain.run_gate()
    report = chain.ctx.gates["round_1"].get_dict()
    assert report["entered"] == 0 and report["repeated"] == 1 and report["refused"] == {"repeat": 2}
    assert CrystalSet.from_ase(moved).formulas == ["GeC"]
