"""Two rounds of a loop that learns: shipped models, real pw.x, a real daemon that is killed while a model is trained."""

import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.engine import submit

from aiida_dosmatgen.tools.learning import learnt_by, taught_by

from ..campaigns import (
    TARGET_NAME,
    configure,
    kill_daemon,
    prepare,
    start_daemon,
    stop_daemon,
    wait_for_end,
    wait_for_running,
    what_failed,
)
from ..learning import SETTINGS, builder_of, ids_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, aiida_config_factory, aiida_profile_factory):
    """A finished loop whose daemon was killed while pw.x ran, and again while a model was trained."""
    folder = tmp_path_factory.mktemp("learn")
    with (
        aiida_config_factory(folder) as config,
        aiida_profile_factory(config, broker_backend="core.zeromq") as profile,
    ):
        configure(config, profile)
        parts = prepare(folder)
        start_daemon()
        try:
            node = submit(builder_of(parts))
            for job in ("PwCalculation", "TrainCalculation"):
                wait_for_running(node, job)
                kill_daemon()
                start_daemon()
            wait_for_end(node)
            yield node
        finally:
            stop_daemon()


def called(node, prefix):
    """Return what a loop has called under labels that begin so, by label."""
    links = node.base.links.get_outgoing(link_type=(LinkType.CALL_WORK, LinkType.CALL_CALC)).all()
    return {entry.link_label: entry.node for entry in links if entry.link_label.startswith(prefix)}


def summaries(node):
    """Return the summaries of the rounds."""
    return [node.outputs.rounds[f"round_{number}"].get_dict() for number in range(1, len(node.outputs.rounds) + 1)]


def test_the_loop_survives_the_daemon(learnt):
    assert learnt.is_finished_ok, what_failed(learnt)
    rounds = summaries(learnt)
    assert [one["seed"] for one in rounds] == list(range(1, len(rounds) + 1))
    assert rounds[-1]["stop"] and all(one["stop"] is None for one in rounds[:-1])
    assert rounds[-1]["spent"] <= SETTINGS["budget"]


def test_nothing_is_computed_or_learnt_twice(learnt):
    rounds = summaries(learnt)
    assert len(called(learnt, "campaign_")) == len(rounds)
    assert len(called(learnt, "gate_")) == len(learnt.outputs.gates)
    found = ids_of(learnt.outputs.dataset)
    assert len(found) == len(set(found)) == sum(one["entered"] for one in rounds)
    chains = orm.QueryBuilder().append(orm.WorkChainNode, filters={"attributes.process_label": {"in": ["ValidateWorkChain"]}})
    assert chains.count() == sum(one["computed"] for one in rounds)


def test_every_dft_result_has_an_answer(learnt):
    entered = {}
    for report in learnt.outputs.gates.values():
        for one in report["results"].values():
            assert one["reason"] and isinstance(one["entered"], bool)
            if one["entered"]:
                entered[one["hash"]] = one["formula"]
    assert sorted(entered) == sorted(ids_of(learnt.outputs.dataset))
    extended = learnt.outputs.dataset.base.attributes.get("card").get("entered", {})
    assert extended == entered


def test_a_checkpoint_is_linked_to_what_it_learnt_from(learnt):
    """Checkpoint, training, rehearsed set, extended set, DFT result, validation, campaign: all by links."""
    rounds = summaries(learnt)
    assert any(one["entered"] for one in rounds), f"nothing entered: {[one['refused'] for one in rounds]}"
    trained = {label: node for label, node in called(learnt, "train_").items() if node.is_finished_ok}
    assert trained
    for label, chain in trained.items():
        number = int(label.split("_")[1])
        results = learnt_by(chain.outputs.checkpoint)
        assert {one.id for one in results} == set(ids_of(chain.inputs.train.dataset))
        assert {one.round for one in results} <= set(range(1, number + 1)) and {one.loop for one in results} == {learnt.uuid}
        for one in results:
            assert (one.target, one.seed) == (TARGET_NAME, one.round)
            campaign = called(learnt, f"campaign_{one.round}")[f"campaign_{one.round}"]
            assert one.campaign == campaign.uuid and one.checkpoint == campaign.inputs.candidates.checkpoint.uuid
            assert chain.outputs.checkpoint.uuid in {model["uuid"] for model in taught_by(orm.load_node(one.dos)).checkpoints}
    assert len(learnt.outputs.verdicts) == len(trained)
    for verdict in learnt.outputs.verdicts.values():
        port = "checkpoint" if verdict["kind"] == "denoiser" else "predictor"
        if not verdict["accepted"]:
            assert verdict.creator.inputs.checkpoint.uuid != learnt.outputs[port].uuid
