"""Jobs that nothing but a limit ends."""

from __future__ import annotations

from pathlib import Path

from aiida import orm
from aiida.engine import submit
from aiida.engine.processes.control import kill_processes
from aiida.plugins import WorkflowFactory

from aiida_dosmatgen import setup
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData

from ..campaigns import TARGET, wait_for

DATASET = Path(__file__).parents[2] / "aiida_dosmatgen" / "datasets" / "debian-pbe" / "labelled.npz"


def inputs_of(kind: str) -> dict:
    """Return the inputs of a job of a kind that takes hours, in small parts."""
    models = setup.ensure_models()
    labelled = CrystalSet.load(DATASET)[:120]
    bare = labelled.replace(crystal_columns={}, atom_columns={})
    every = {
        "sample": {
            "checkpoint": models["dosmatgen-denoiser"],
            "target": DosTargetData.from_file(TARGET),
            "seed": 1,
            "candidates": [0, 100_000],
        },
        "relax": {
            "crystals": CrystalSetData(CrystalSet.concatenate([bare] * 20)),
            "force_field": models["dosmatgen-forcefield"],
            "parameters": {"fmax": 1e-12, "max_steps": 100},
        },
        "train": {
            "dataset": LabelledCrystalSetData(labelled[:40]),
            "parameters": {"model": "predictor", "epochs": 100_000, "validation_fraction": 0.0},
            "seed": 1,
        },
    }
    return every[kind]


def start(kind: str, **options) -> orm.WorkChainNode:
    """Submit it to the cluster."""
    options = {"device": "cpu", "threads": 1, "batch_size": 2, "withmpi": False, **options}
    job = {**inputs_of(kind), "code": orm.load_code("dosmatgen@cluster"), "metadata": {"options": options}}
    return submit(WorkflowFactory(f"dosmatgen.{kind}.base"), **{kind: job})


def runs_of(chain: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    """Return the jobs that a chain has submitted so far, the oldest first."""
    return sorted(chain.called, key=lambda node: node.pk)


def end(*chains: orm.WorkChainNode) -> None:
    """Kill chains, however busy the daemon is."""

    def ended() -> bool:
        left = [chain for chain in chains if not chain.is_terminated]
        if left:
            kill_processes(left, timeout=10)
        return not left

    wait_for(ended, "the end of the chains")
