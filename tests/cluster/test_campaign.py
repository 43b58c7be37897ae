"""A campaign on a real cluster, with everything that happens to clusters happening to it."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiida import orm

from aiida_dosmatgen import setup

from ..campaigns import (
    TOP_K,
    candidates_of,
    jobs,
    kill_daemon,
    rows_of,
    start_daemon,
    undisturbed,
    wait_for,
    what_failed,
)
from .campaigns import has_parts, start

TWO_MINUTES = 120

pytestmark = pytest.mark.cluster


def test_a_campaign_survives_what_happens_to_clusters(profile, cluster, tmp_path):
    """scancel, kill -9, a dead node, no controller, no login, a dead daemon: undisturbed candidates, and a whole ranking."""
    campaign = start(setup.ensure_models())

    def sampling() -> list[orm.CalcJobNode]:
        return jobs(campaign, "SampleCalculation")

    wait_for(lambda: sampling() and has_parts(sampling()[0]), "a batch")
    cluster.login(f"scancel {sampling()[0].get_job_id()}")

    wait_for(lambda: len(sampling()) > 1 and cluster.account.processes("dosmatgen", " sample "), "the second sampling")
    cluster.account.processes("dosmatgen", " sample ")[0].kill()

    wait_for(lambda: len(sampling()) > 2 and cluster.account.processes("dosmatgen", " sample "), "the third sampling")
    third = sampling()[2]
    cluster.kill("slurmd")  # and what runs on the node with it
    wait_for(lambda: "down" in cluster.login("sinfo -h -o %T").stdout, "a dead node")
    cluster.start_slurmd()

    wait_for(lambda: third.is_terminated, "the end of the job on the dead node")
    cluster.kill("slurmctld")
    time.sleep(10)
    cluster.start_slurmctld()

    wait_for(lambda: cluster.account.processes("dosmatgen", " relax "), "the relaxation")
    cluster.kill("sshd")
    time.sleep(TWO_MINUTES)
    cluster.start_sshd()

    wait_for(lambda: campaign.is_terminated or cluster.account.processes("pw.x"), "a run of pw.x")
    kill_daemon()
    start_daemon()

    wait_for(lambda: campaign.is_terminated, "the end of the campaign")
    assert campaign.is_finished_ok, what_failed(campaign)
    first, second, third, *others = sampling()
    assert [first.exit_status, second.exit_status] == [301, 301]
    assert third.exit_status in (140, 301) and others[-1].is_finished_ok
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid

    ours = candidates_of(campaign).outputs
    assert ours.sampled.crystals == undisturbed(first, tmp_path / "sample")
    (*_, relaxation) = jobs(campaign, "RelaxCalculation")
    energies = undisturbed(relaxation, tmp_path / "relax").crystal_columns["energy"]
    relaxed = relaxation.outputs.crystals.crystals.crystal_columns["energy"]
    np.testing.assert_allclose(relaxed, energies, atol=1e-4)
    assert Counter(row["status"] for row in rows_of(campaign))["validated"] == TOP_K

    assert {job.computer.label for job in jobs(campaign)} == {"cluster"}
    assert all(int(job.get_job_id()) > 0 for job in jobs(campaign) if job.is_finished_ok)  # Slurm's
    folder = Path(others[-1].get_remote_workdir())
    assert folder.is_relative_to(cluster.home) and folder.stat().st_uid == cluster.account.id
    assert "#SBATCH --comment=gpu" in others[-1].base.repository.get_object_content("_aiidasubmit.sh")
