"""A small campaign on the cluster, and looks at what it is doing there."""

from __future__ import annotations

from pathlib import Path

from aiida import orm
from aiida.engine import submit

from .. import campaigns, learning
from .loopback import HOST, LoopbackCluster


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
        "minimum_job_poll_interval": 3,
        "codes": {
            "dosmatgen": {"filepath_executable": str(engine), "options": engine_options},
            **{name: {"filepath_executable": f"{name}.x", **qe} for name in ("pw", "projwfc")},
        },
    }


def start(models: dict[str, orm.Data]) -> orm.WorkChainNode:
    """Submit a campaign in small batches, so that there is something to lose."""
    codes = {name: f"{name}@cluster" for name in campaigns.CODES}
    return campaigns.start({"codes": codes, **campaigns.ports(models)}, steps=100, options={"batch_size": 2})


def start_loop(models: dict[str, orm.Data]) -> orm.WorkChainNode:
    """Submit a loop of two rounds that learns."""
    codes = {name: f"{name}@cluster" for name in campaigns.CODES}
    return submit(learning.builder_of({"codes": codes, **campaigns.ports(models)}))


def has_parts(job: orm.CalcJobNode) -> bool:
    """Whether a sampling job has written its first batch."""
    folder = job.get_remote_workdir()
    return folder is not None and any(Path(folder).glob(".candidates.npz.parts/*/*.npz"))
