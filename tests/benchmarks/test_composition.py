"""The benchmark of compositions: its targets are what trainings hold out, and its figures are shares."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import split_by_system, systems_of, without_test

from ..shards import SHARDS, needs_shards

ROOT = Path(__file__).parents[2]


@pytest.fixture
def composition(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield importlib.import_module("composition")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("composition", "sampling_report", "quality_report", "reference", "throughput"):
            del sys.modules[name]


@needs_shards
def test_targets_are_of_systems_that_the_training_did_not_see(composition):
    header = read_header(ROOT / "aiida_dosmatgen" / "models" / "denoiser.safetensors")
    labels = load_shards(SHARDS)
    found = composition.held_out(labels, header, 10)
    crystals, _ = without_test(labels)
    fraction, seed = header.training.parameters["validation_fraction"], header.training.seed
    trained = crystals[split_by_system(crystals, fraction, seed)[0]]
    assert len(found) == 10 and not set(systems_of(found)) & set(systems_of(trained))
    assert set(found.crystal_columns["split"]) == {"train"}


def test_figures(composition):
    distances = np.array([[0.3, 0.1, np.nan, 0.2], [0.4, 0.2, 0.3, 0.1]])
    right = np.array([[False, True, False, False], [True, False, False, False]])
    found = composition.figures(distances, right)
    assert found == pytest.approx(
        {"exact": 0.25, "any": 1.0, "first": 0.5, "first_three": 0.5, "mean": (0.3 + 0.1 + 0.4 + 0.2 + 1.0) / 8, "best": 0.1}
    )


@pytest.mark.slow
@needs_shards
def test_its_last_line():
    command = [sys.executable, "benchmarks/composition.py", "--targets", "2", "--candidates", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["targets"], found["candidates"]) == (2, 3) and len(found["ways"]) >= 4
    for row in found["ways"].values():
        assert 0 <= row["exact"] <= row["any"] <= 1 and 0 < row["best"] <= row["mean"]
