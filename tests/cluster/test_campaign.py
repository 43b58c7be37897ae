"""Campaigns on a real cluster: undisturbed, and with everything that happens to clusters happening to it."""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from aiida import orm
from aiida.engine import submit
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager

from aiida_dosmatgen.cmdline import setup
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

from .loopback import ACCOUNT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

TARGET = Path(__file__).parents[2] / "examples" / "targets" / "zincblende_SiC.csv"
N_CANDIDATES = 12
OVERRIDES = {
    "candidates": {
        "sample": {"parameters": {"steps": 100}},
        "criteria": {"max_formation_energy": 3.0, "require_converged": False},
    },
    "validate": {
        "cutoffs_stringency": "fast",
        "pdos": {"scf": {"kpoints_distance": 0.5}, "nscf": {"kpoints_distance": 0.5}},
    },
}


def wait_for(condition, what: str, seconds: float = 600) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            log = Path(get_daemon_client().daemon_log_file)
            pytest.fail(f"{what} did not happen; end of the daemon's log:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def start(models) -> orm.WorkChainNode:
    """Submit a small campaign."""
    names = ("dosmatgen", "pw", "dos", "projwfc")
    builder = CampaignWorkChain.get_builder_from_protocol(
        codes={name: f"{name}@cluster" for name in names},
        targets={"silicon_carbide": DosTargetData.from_file(TARGET)},
        checkpoint=models["dosmatgen-denoiser"],
        predictor=models["dosmatgen-predictor"],
        force_field=models["dosmatgen-forcefield"],
        protocol="fast",
        overrides=OVERRIDES,
        options={"batch_size": 2},
        seed=1,
        n_candidates=N_CANDIDATES,
        top_k=2,
    )
    return submit(builder)


def jobs(campaign: orm.WorkChainNode, label: str) -> list[orm.CalcJobNode]:
    """Return the jobs of a kind below a campaign, the oldest first."""
    found = [node for node in campaign.called_descendants if node.process_label == label]
    return sorted(found, key=lambda node: node.pk)


def what_failed(campaign: orm.WorkChainNode) -> str:
    """Say of each failed process below a campaign what it had."""
    failed = [node for node in (campaign, *campaign.called_descendants) if not node.is_finished_ok]
    return "\n".join(f"{n.process_label}<{n.pk}> {n.process_state} [{n.exit_status}] {n.exit_message}" for n in failed)


def processes_of(*words: str) -> list[psutil.Process]:
    """Return the account's processes whose command line has all words."""
    found = []
    for process in psutil.process_iter(["username", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["username"] == ACCOUNT and all(word in line for word in words):
            found.append(process)
    return found


def running(kind: str) -> bool:
    """Whether the executable is at work on a kind of job, and has written something."""
    return bool(processes_of("dosmatgen", f" {kind} ", "job.json"))


def kill_daemon() -> None:
    """``kill -9`` of the daemon and of all its children: workers and broker."""
    pid = get_daemon_client().get_daemon_pid()
    assert pid is not None
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=20)
    setup.ensure_daemon()
    get_manager().reset_runner()
    get_manager().reset_broker()  # its broker is a new one, of which this process knows nothing


def has_parts(job: orm.CalcJobNode) -> bool:
    """Whether a sampling job has written its first batch."""
    folder = job.get_remote_workdir()
    return folder is not None and any(Path(folder).glob(".candidates.npz.parts/*/*.npz"))


@pytest.fixture(scope="module")
def undisturbed(profile):
    """A finished campaign."""
    campaign = start(setup.ensure_models())
    wait_for(lambda: campaign.is_terminated, "the end of the campaign")
    return campaign


def test_a_campaign_runs_on_the_cluster(undisturbed, cluster):
    assert undisturbed.is_finished_ok, what_failed(undisturbed)
    rows = undisturbed.outputs.ranking.get_dict()["targets"]["silicon_carbide"]
    assert sum(row["status"] == "validated" for row in rows) >= 1
    all_jobs = [node for node in undisturbed.called_descendants if isinstance(node, orm.CalcJobNode)]
    assert {job.computer.label for job in all_jobs} == {"cluster"}
    assert all(int(job.get_job_id()) > 0 for job in all_jobs)  # Slurm's
    sample = jobs(undisturbed, "SampleCalculation")[0]
    folder = Path(sample.get_remote_workdir())
    assert folder.is_relative_to(cluster.home) and folder.owner() == ACCOUNT
    assert "#SBATCH --comment=gpu" in sample.base.repository.get_object_content("_aiidasubmit.sh")


def test_a_campaign_survives_what_happens_to_clusters(undisturbed, cluster):
    """scancel, kill -9, a dead node, no login, no controller, a dead daemon: the same candidates, and a whole ranking."""
    campaign = start(setup.ensure_models())

    wait_for(lambda: jobs(campaign, "SampleCalculation") and has_parts(jobs(campaign, "SampleCalculation")[0]), "a batch")
    cluster.login(f"scancel {jobs(campaign, 'SampleCalculation')[0].get_job_id()}")

    wait_for(lambda: len(jobs(campaign, "SampleCalculation")) > 1 and running("sample"), "the second sampling")
    (process,) = processes_of("dosmatgen", " sample ")
    process.kill()

    wait_for(lambda: len(jobs(campaign, "SampleCalculation")) > 2 and running("sample"), "the third sampling")
    cluster.kill("slurmd")  # and what runs on the node with it
    subprocess.run(["pkill", "-9", "-f", "slurmstepd"], check=False)
    for process in processes_of("dosmatgen"):
        process.kill()
    third = jobs(campaign, "SampleCalculation")[2]
    time.sleep(2)
    cluster.start_slurmd()

    wait_for(lambda: third.is_terminated, "the end of the job on the dead node")
    cluster.kill("slurmctld")
    time.sleep(10)
    cluster.start_slurmctld()

    wait_for(lambda: running("relax"), "the relaxation")
    cluster.kill("sshd")
    time.sleep(10)
    cluster.start_sshd()

    wait_for(lambda: campaign.is_terminated or processes_of("pw.x"), "a run of pw.x")
    kill_daemon()

    wait_for(lambda: campaign.is_terminated, "the end of the campaign")
    assert campaign.is_finished_ok, what_failed(campaign)
    first, second, third, *others = jobs(campaign, "SampleCalculation")
    assert [first.exit_status, second.exit_status] == [301, 301]
    assert third.exit_status in (140, 301) and others[-1].is_finished_ok
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid

    ours, theirs = (
        orm.load_node(next(node for node in c.called if node.process_label == "CandidatesWorkChain").uuid).outputs
        for c in (campaign, undisturbed)
    )
    assert ours.sampled.crystals == theirs.sampled.crystals
    np.testing.assert_allclose(
        ours.crystals.crystals.crystal_columns["energy"], theirs.crystals.crystals.crystal_columns["energy"], atol=1e-4
    )
    statuses = [
        Counter(row["status"] for row in c.outputs.ranking.get_dict()["targets"]["silicon_carbide"])
        for c in (campaign, undisturbed)
    ]
    assert statuses[0] == statuses[1]
