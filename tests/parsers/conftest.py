"""Jobs of each kind for the tests of their parsers, with tiny models."""

import pytest
import torch

from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.engine.checkpoint import build_model, save_model
from tests.parsers.jobs import SIZES, Job, lennard_jones


@pytest.fixture
def model(tmp_path):
    """Return a function that writes an untrained model of a kind."""

    def make(kind):
        torch.manual_seed(0)
        header = CheckpointHeader(
            kind=kind,
            architecture=SIZES[kind],
            elements=["B", "C", "N", "Si"],
            grid={"emin": -10, "emax": 10, "n": 400},
            sigma=0.3,
            training={"dataset_sha256": "0" * 64, "n_crystals": 0, "seed": 0, "epochs": 0, "parameters": {}},
            engine_version="0",
        )
        save_model(tmp_path / f"{kind}.safetensors", build_model(header), header)
        return CheckpointData.from_file(tmp_path / f"{kind}.safetensors").store()

    return make


@pytest.fixture
def start(make_job, tmp_path, capfd):
    return lambda kind, **inputs: Job(make_job(kind, **inputs), tmp_path / "work", capfd)


@pytest.fixture
def sample_job(start, model, target):
    return start(
        "sample",
        checkpoint=model("denoiser"),
        target=DosTargetData(target).store(),
        parameters={"steps": 2},
        seed=1,
        candidates=[4, 7],
    )


@pytest.fixture
def relax_job(start, crystals):
    return start(
        "relax",
        crystals=CrystalSetData(crystals).store(),
        force_field=lennard_jones(),
        parameters={"max_steps": 2},
    )


@pytest.fixture
def train_job(start):
    from tests.engine.labelled import labelled

    return start(
        "train",
        dataset=LabelledCrystalSetData(labelled(12)).store(),
        parameters={"model": "denoiser", "epochs": 1, "architecture": SIZES["denoiser"]},
        seed=3,
    )


@pytest.fixture
def references_job(start):
    return start(
        "references",
        elements=["Si", "C"],
        force_field=lennard_jones(),
        parameters={"max_steps": 2},
    )
