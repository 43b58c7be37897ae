"""A small campaign on the cluster, and looks at what it is doing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
from aiida import orm
from aiida.engine import submit
from aiida.engine.daemon.client import get_daemon_client
from aiida.manage import get_manager

from aiida_dosmatgen.cmdline import setup
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.campaign import CampaignWorkChain

from .loopback import ACCOUNT, HOST, LoopbackCluster

TARGET = Path(__file__).parents[2] / "examples" / "targets" / "zincblende_SiC.csv"
TARGET_NAME = "silicon_carbide"
N_CANDIDATES = 12
OVERRIDES = {
    "candidates": {
        "sample": {"parameters": {"steps": 100}},
        # what is tested is the chain, not the quality of so few candidates
        "criteria": {"max_formation_energy": 3.0, "require_converged": False},
    },
    "validate": {
        "cutoffs_stringency": "fast",
        "pdos": {"scf": {"kpoints_distance": 0.5}, "nscf": {"kpoints_distance": 0.5}},
    },
}


def answers(cluster: LoopbackCluster, engine: Path) -> dict:
    """Return what a user writes into the YAML file that describes the cluster."""
    options = {"max_wallclock_seconds": 1200, "withmpi": False}
    qe = {"prepend_text": "export OMP_NUM_THREADS=1", "options": options}
    engine_options = {**options, "device": "cpu", "threads": 1, "custom_scheduler_commands": "#SBATCH --comment=gpu"}
    return {
        "label": "cluster",
        "hostname": HOST,
        "work_dir": f"{cluster.home}/jobs",
        "use_login_shell": False,
        "safe_interval": 0,
        "minimum_job_poll_interval": 1,
        "codes": {
            "dosmatgen": {"filepath_executable": str(engine), "options": engine_options},
            **{name: {"filepath_executable": f"{name}.x", **qe} for name in ("pw", "dos", "projwfc")},
        },
    }


def start(models: dict[str, orm.Data]) -> orm.WorkChainNode:
    """Submit a campaign of a dozen candidates, two of them validated."""
    builder = CampaignWorkChain.get_builder_from_protocol(
        codes={name: f"{name}@cluster" for name in ("dosmatgen", "pw", "dos", "projwfc")},
        targets={TARGET_NAME: DosTargetData.from_file(TARGET)},
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


def wait_for(condition, what: str, seconds: float = 600) -> None:
    """Wait for a condition.

    :raises TimeoutError: with the end of the daemon's log.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            log = Path(get_daemon_client().daemon_log_file).read_text()[-4000:]
            raise TimeoutError(f"{what} did not happen; end of the daemon's log:\n{log}")
        time.sleep(0.1)


def jobs(campaign: orm.WorkChainNode, label: str | None = None) -> list[orm.CalcJobNode]:
    """Return the jobs below a campaign, or those of a kind, the oldest first."""
    found = [node for node in campaign.called_descendants if isinstance(node, orm.CalcJobNode)]
    return sorted((node for node in found if label in (None, node.process_label)), key=lambda node: node.pk)


def candidates_of(campaign: orm.WorkChainNode) -> orm.WorkChainNode:
    """Return the work chain that made the candidates of a campaign."""
    (chain,) = (node for node in campaign.called if node.process_label == "CandidatesWorkChain")
    return chain


def rows_of(campaign: orm.WorkChainNode) -> list[dict]:
    """Return the rows of a campaign's ranking."""
    return campaign.outputs.ranking.get_dict()["targets"][TARGET_NAME]


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


def has_parts(job: orm.CalcJobNode) -> bool:
    """Whether a sampling job has written its first batch."""
    folder = job.get_remote_workdir()
    return folder is not None and any(Path(folder).glob(".candidates.npz.parts/*/*.npz"))


def kill_daemon() -> None:
    """``kill -9`` of the daemon and of all its children, workers and broker; and a new one."""
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
