"""A campaign on PostgreSQL and RabbitMQ with two daemon workers, all of which are killed while it runs."""

import shutil
import subprocess
import time
from collections import Counter

import pytest
from aiida import orm
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager

from aiida_dosmatgen.workflows.retries import outputs_were_lost

from .. import campaigns

pytestmark = pytest.mark.services

WORKERS = 2
AWAY = 3  # seconds


@pytest.fixture(scope="module")
def profile(tmp_path_factory, aiida_config_factory, aiida_profile_factory, storage_config, broker_config):
    """A profile on both services."""
    with (
        aiida_config_factory(tmp_path_factory.mktemp("services")) as config,
        aiida_profile_factory(
            config,
            storage_backend="core.psql_dos",
            storage_config=storage_config,
            broker_backend="core.rabbitmq",
            broker_config=broker_config,
        ) as profile,
    ):
        campaigns.configure(config, profile)
        yield profile


@pytest.fixture(scope="module")
def campaign(profile, tmp_path_factory, postgres, rabbitmq):
    """A campaign that ended, and during which the broker, the database and the daemon were killed, one after another."""
    parts = campaigns.prepare(tmp_path_factory.mktemp("work"))
    campaigns.start_daemon(WORKERS)
    assert len(get_daemon_client().get_worker_info()["info"]) == WORKERS
    try:
        node = campaigns.start_here(parts, steps=500)
        uuid = node.uuid

        campaigns.wait_for_running(node, "SampleCalculation")
        rabbitmq.kill()  # whatever begins or ends in this moment
        time.sleep(AWAY)
        rabbitmq.start()  # the workers find it again by themselves

        campaigns.wait_for_running(node, "RelaxCalculation")
        campaigns.wait_for_rest(node)
        get_manager().reset_profile_storage()  # of this process; the workers are hit in the middle of what they do
        del node
        postgres.kill()
        time.sleep(AWAY)
        postgres.start()
        repair(profile.name)
        node = orm.load_node(uuid)

        # of both validations
        enough = lambda: len(campaigns.jobs(node, "PwCalculation")) >= campaigns.TOP_K  # noqa: E731
        campaigns.wait_for(enough, "runs of pw.x", campaign=node)
        campaigns.wait_for_running(node, "PwCalculation")
        campaigns.wait_for_rest(node)
        campaigns.kill_daemon()
        campaigns.start_daemon(WORKERS)

        campaigns.wait_for(lambda: node.is_terminated, "the end of the campaign")
        yield node
    finally:
        campaigns.stop_daemon()


def repair(profile: str) -> None:
    """What docs/services.md says to do when the database went away under a running daemon."""
    verdi = [str(shutil.which("verdi")), "-p", profile]
    for command in (["daemon", "stop"], ["process", "repair"], ["daemon", "start", str(WORKERS)]):
        done = subprocess.run([*verdi, *command], input="y\n", capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"


def aiidas_fault(node: orm.ProcessNode) -> bool:
    """Tell whether AiiDA lost the outputs of a process that has them, or failed with one below it."""
    return any(outputs_were_lost(each) or each.is_excepted for each in (node, *node.called_descendants))


def test_the_campaign_ends_with_a_ranking(campaign):
    assert campaign.is_finished_ok, campaigns.what_failed(campaign)
    rows = campaigns.rows_of(campaign)
    report = campaign.outputs.reports[campaigns.TARGET_NAME].get_dict()
    rejected = [candidate for candidates in report["rejected"].values() for candidate in candidates]
    assert sorted([row["candidate"] for row in rows] + rejected) == list(range(campaigns.N_CANDIDATES))
    assert [row["status"] for row in rows[: campaigns.TOP_K]] == ["validated"] * campaigns.TOP_K


def test_nothing_was_lost(campaign):
    """Each job and each step is there and finished as often as an undisturbed campaign has it, or more often.

    More often, because RabbitMQ hands out again what was not acknowledged when it went, and a worker that still has it
    continues.
    What AiiDA failed with, because it began or ended without a broker, or because two workers had it, was begun again.
    """
    assert orm.QueryBuilder().append(orm.WorkChainNode, filters={"id": campaign.pk}).count() == 1
    failed = [node for node in campaign.called_descendants if node.is_finished and not node.is_finished_ok]
    assert all(aiidas_fault(node) for node in failed), campaigns.what_failed(campaign)
    found = Counter(node.process_label for node in campaign.called_descendants if node.is_finished_ok)
    once = ("SampleCalculation", "ReferencesCalculation", "RelaxCalculation", "PredictCalculation", "screen", "rank")
    each = {"PwCalculation": 2, "ProjwfcCalculation": 1, "count_states": 1, "score_dos": 1}  # scf and bands
    expected = Counter(dict.fromkeys(once, 1) | {name: n * campaigns.TOP_K for name, n in each.items()})
    assert not expected - found, expected - found
