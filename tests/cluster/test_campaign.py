"""Campaigns on a real cluster: undisturbed, and with everything that happens to clusters happening to it."""

import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_dosmatgen import setup

from ..campaigns import candidates_of, jobs, kill_daemon, rows_of, start_daemon_again, wait_for, what_failed
from .campaigns import has_parts, processes_of, start
from .loopback import ACCOUNT

TWO_MINUTES = 120

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def undisturbed(profile) -> orm.WorkChainNode:
    """A finished campaign."""
    campaign = start(setup.ensure_models())
    wait_for(lambda: campaign.is_terminated, "the end of the campaign")
    return campaign


def test_a_campaign_runs_on_the_cluster(undisturbed, cluster):
    assert undisturbed.is_finished_ok, what_failed(undisturbed)
    assert sum(row["status"] == "validated" for row in rows_of(undisturbed)) >= 1
    assert {job.computer.label for job in jobs(undisturbed)} == {"cluster"}
    assert all(int(job.get_job_id()) > 0 for job in jobs(undisturbed))  # Slurm's
    sample = jobs(undisturbed, "SampleCalculation")[0]
    folder = Path(sample.get_remote_workdir())
    assert folder.is_relative_to(cluster.home) and folder.owner() == ACCOUNT
    assert "#SBATCH --comment=gpu" in sample.base.repository.get_object_content("_aiidasubmit.sh")


def test_a_campaign_survives_what_happens_to_clusters(undisturbed, cluster):
    """scancel, kill -9, a dead node, no login, no controller, a dead daemon: the same candidates, and a whole ranking."""
    campaign = start(setup.ensure_models())

    def sampling() -> list[orm.CalcJobNode]:
        return jobs(campaign, "SampleCalculation")

    wait_for(lambda: sampling() and has_parts(sampling()[0]), "a batch")
    cluster.login(f"scancel {sampling()[0].get_job_id()}")

    wait_for(lambda: len(sampling()) > 1 and processes_of("dosmatgen", " sample "), "the second sampling")
    processes_of("dosmatgen", " sample ")[0].kill()

    wait_for(lambda: len(sampling()) > 2 and processes_of("dosmatgen", " sample "), "the third sampling")
    third = sampling()[2]
    cluster.kill("slurmd")  # and what runs on the node with it
    subprocess.run(["pkill", "-9", "-f", "slurmstepd"], check=False)
    for process in processes_of("dosmatgen"):
        process.kill()
    time.sleep(2)
    cluster.start_slurmd()

    wait_for(lambda: third.is_terminated, "the end of the job on the dead node")
    cluster.kill("slurmctld")
    time.sleep(10)
    cluster.start_slurmctld()

    wait_for(lambda: processes_of("dosmatgen", " relax "), "the relaxation")
    cluster.kill("sshd")
    time.sleep(TWO_MINUTES)
    cluster.start_sshd()

    wait_for(lambda: campaign.is_terminated or processes_of("pw.x"), "a run of pw.x")
    kill_daemon()
    start_daemon_again()

    wait_for(lambda: campaign.is_terminated, "the end of the campaign")
    assert campaign.is_finished_ok, what_failed(campaign)
    first, second, third, *others = sampling()
    assert [first.exit_status, second.exit_status] == [301, 301]
    assert third.exit_status in (140, 301) and others[-1].is_finished_ok
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid

    ours, theirs = (candidates_of(node).outputs for node in (campaign, undisturbed))
    assert ours.sampled.crystals == theirs.sampled.crystals
    np.testing.assert_allclose(
        ours.crystals.crystals.crystal_columns["energy"], theirs.crystals.crystals.crystal_columns["energy"], atol=1e-4
    )
    assert Counter(row["status"] for row in rows_of(campaign)) == Counter(row["status"] for row in rows_of(undisturbed))
