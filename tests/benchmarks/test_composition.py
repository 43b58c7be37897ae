"""The benchmark of compositions: its targets are what trainings hold out, and its figures are shares."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.labelled.splits import split_by_system, systems_of, without_test
from aiida_dosmatgen.engine.training.dataset import load_labelled

ROOT = Path(__file__).parents[2]
DATASET = ROOT / "aiida_dosmatgen" / "datasets" / "debian-pbe" / "labelled.npz"


@pytest.fixture
def composition(monkeypatch):
    """Import the script."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield importlib.import_module("composition")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("composition", "sampling_report", "quality_report", "reference", "throughput"):
            del sys.modules[name]


def test_targets_are_of_systems_that_no_training_saw(composition):
    found = composition.held_out(DATASET, 0.05, 1, 20, 4)
    assert len(found) == 20 and found.n_atoms.max() <= 4
    crystals, _ = without_test(load_labelled(DATASET))
    trained = crystals[split_by_system(crystals, 0.05, 1)[0]]
    assert not set(systems_of(found)) & set(systems_of(trained))
    assert len({(f, p) for f, p in zip(found.compositions, found.crystal_columns["prototype"], strict=True)}) == 20


def test_atoms_right_do_not_depend_on_their_order(composition):
    def crystal(*numbers):
        n = len(numbers)
        return CrystalSet([n], list(numbers), [[i / n, 0, 0] for i in range(n)], [[[9, 0, 0], [0, 9, 0], [0, 0, 9]]])

    assert composition.atoms_right(crystal(6, 14, 14), crystal(14, 6, 14)) == 1
    assert composition.atoms_right(crystal(6, 6, 14), crystal(14, 14, 6)) == pytest.approx(2 / 3)


@pytest.mark.slow
def test_its_last_line(tmp_path):
    command = [sys.executable, "benchmarks/composition.py", "--targets", "3", "--candidates", "2", "--max-atoms", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["targets"], found["candidates"]) == (3, 2)
    assert 0 <= found["composition"] <= found["atoms"] <= 1
    assert 0 < found["best_distance"] <= found["mean_distance"]
