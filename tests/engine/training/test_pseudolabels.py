"""Pseudo-labels: what is made, left out and predicted, and that no part is computed twice."""

import json

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import PseudolabelJob, Splits, sha256_of
from aiida_dosmatgen.core.labelled.reserved import digest_of
from aiida_dosmatgen.core.labelled.splits import assign, systems_of
from aiida_dosmatgen.engine.checkpoint import load_model, save_model
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.commands import pseudolabel
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.prediction.predictor import Predictor
from aiida_dosmatgen.engine.training.dataset import load_labelled
from aiida_dosmatgen.engine.training.pseudolabels import most_certain, thinned

from ..labelled import ELEMENTS, labelled
from ..prediction.test_predictors import HEADER
from ..small_mace import save_small_mace

SPLIT = {"system_fraction": 0.4, "prototype_fraction": 0.1, "seed": 1}


@pytest.fixture
def folder(tmp_path):
    """A folder with a predictor, a force field and a job."""
    torch.manual_seed(0)
    save_model(tmp_path / "predictor.safetensors", Predictor.from_header(HEADER), HEADER)
    field = save_small_mace(tmp_path / "field.model", (6, 14, 32))
    job = {
        "kind": "pseudolabel", "elements": ELEMENTS, "count": 60, "rounds": 2, "max_atoms": 4, "seed": 2, "split": SPLIT,
        "predictor": "predictor.safetensors", "force_field": {"file": "field.model", "sha256": sha256_of(field)},
        "most_of_system": 12, "parameters": {"fmax": 0.1, "max_steps": 2}, "runtime": {"device": "cpu"},
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    return tmp_path


def test_a_set_to_train_on(folder):
    assert main(["pseudolabel", str(folder / "job.json"), "--trust", sha256_of(folder / "field.model")]) == 0
    found = load_labelled(folder / "pseudolabelled.npz")
    results = json.loads((folder / "results.json").read_text())
    assert results["finished"] and results["details"]["n_crystals"] == len(found) > 10
    assert results["details"]["predictor_sha256"] == sha256_of(folder / "predictor.safetensors")
    assert set(assign(found, *SPLIT.values())) == {"train"}
    assert max(systems_of(found).count(s) for s in set(systems_of(found))) <= 2 * 12
    model, header = load_model(folder / "predictor.safetensors")
    again = predict(model, header, found[:5])
    np.testing.assert_allclose(found[:5].atom_columns["dos"], again.atom_columns["predicted_dos"], atol=1e-4)


def test_parts_that_are_done_are_not_computed_again(folder, monkeypatch):
    monkeypatch.setattr(pseudolabel, "_AT_ONCE", 10)
    job = PseudolabelJob.model_validate(json.loads((folder / "job.json").read_text()) | {"count": 30})
    hurried = job.model_copy(update={"runtime": job.runtime.model_copy(update={"max_seconds": 1e-3})})
    stopped = pseudolabel.run(hurried, folder)
    assert not stopped.finished and stopped.done == 10
    parts = {path: path.stat().st_mtime_ns for path in (folder / "pseudolabels").iterdir()}
    assert len(parts) == 1
    whole = pseudolabel.run(job, folder)
    assert whole.finished
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())
    before = set((folder / "pseudolabels").iterdir())
    assert len(before) > len(parts)
    pseudolabel.run(hurried.model_copy(update={"relaxed": 0.5}), folder)  # and those of another job are not taken
    assert len(set((folder / "pseudolabels").iterdir()) - before) == 1


def test_elements_that_the_predictor_does_not_know(folder):
    job = PseudolabelJob.model_validate(json.loads((folder / "job.json").read_text()) | {"elements": ["C", "Au"]})
    with pytest.raises(ContentError, match="does not know Au; it knows C Si Ge"):
        pseudolabel.run(job, folder)


def test_real_crystals_are_labelled_too_and_what_is_kept_for_tests_is_not(folder):
    real = generate(["C", "Si", "Ge", "B"], 80, 9, 4)
    about = {"source": np.full(len(real), "somebody"), "id": np.array([f"no {i}" for i in range(len(real))])}
    real.with_columns(crystal=about).save(folder / "real.npz")
    split = {"system_fraction": 0.0, "prototype_fraction": 0.0, "final_fraction": 0.5, "seed": 1}
    (folder / "reserved.txt").write_text(digest_of("Si-C") + "\n")
    given = json.loads((folder / "job.json").read_text()) | {"crystals": "real.npz", "count": 0, "split": split}
    given["reserved"] = "reserved.txt"
    job = PseudolabelJob.model_validate(given)
    assert {"real.npz", "reserved.txt"} < set(job.input_files())
    pseudolabel.run(job, folder)
    found = CrystalSet.load(folder / "pseudolabelled.npz")
    assert set(found.crystal_columns["source"].tolist()) == {"somebody"}
    assert not (found.numbers == 5).any()  # B is not among the elements
    assert "C-Si" in systems_of(real)
    assert "C-Si" not in systems_of(found)
    assert set(assign(found, **split)) == {"train"}
    held_out = assign(real, **split) == "test-final"
    assert held_out.any() and len(found) < len(real) - held_out.sum()


def test_nothing_is_left(folder):
    given = json.loads((folder / "job.json").read_text()) | {"elements": ["C", "Si"], "count": 40}
    crystals = generate(["C", "Si"], 40, 2, 4)
    pure = int((np.array(systems_of(crystals)) != "C-Si").sum())
    given |= {"split": {"system_fraction": 0.99, "prototype_fraction": 0.99, "seed": 1}}
    job = PseudolabelJob.model_validate(given)
    kept = thinned(crystals, 100, Splits(system_fraction=0.99, prototype_fraction=0.99, seed=1))
    assert len(kept) == pure > 0  # elements are never kept for tests
    none = job.model_copy(update={"count": 1, "elements": ["C"], "most_of_system": 0})
    with pytest.raises(ContentError, match="none of the 2 crystals is left"):
        pseudolabel.run(none, folder)


def test_systems_are_thinned_and_tests_left_out():
    crystals = labelled(60)
    kept = thinned(crystals, 3, Splits(**SPLIT))
    assert set(assign(kept, 0.4, 0.1, 1)) == {"train"}
    assert {systems_of(kept).count(s) for s in set(systems_of(kept))} <= {1, 2, 3}
    assert len(thinned(crystals, 1000, None)) == len(crystals)


def test_the_least_certain_are_left_out():
    crystals = labelled(10)
    energy, uncertainty = np.zeros(10), np.arange(10.0)
    energy[0] = np.nan  # no prediction
    given = crystals.with_columns(crystal={"predicted_formation_energy": energy, "predicted_dos_uncertainty": uncertainty})
    found = most_certain(given, 0.3)
    assert found.crystal_columns["predicted_dos_uncertainty"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert isinstance(found, CrystalSet)
