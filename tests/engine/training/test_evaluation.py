"""The errors of a model on labelled crystals: the same that a training states, the same each time, and what is left out."""

import json

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.job import EvaluateJob, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.splits import split_by_system
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.commands import evaluate, train

from ..labelled import labelled
from .test_training import job


@pytest.fixture(scope="module", params=["denoiser", "predictor", "classifier"])
def trained(request, tmp_path_factory):
    """A folder with a model of two epochs, its set, and the crystals that its training held out."""
    folder = tmp_path_factory.mktemp(request.param)
    crystals = labelled()
    crystals.save(folder / "data.npz")
    _, held_out = split_by_system(crystals, 0.2, 1)
    crystals[held_out].save(folder / "held_out.npz")
    train.run(job(request.param, 2, parameters={"keep": "last"}), folder)  # so that all of them make the figures
    return folder


def evaluated(folder, **changes):
    results = evaluate.run(EvaluateJob(checkpoint="checkpoint.safetensors", **changes), folder)
    return json.loads((folder / results.output).read_text()), results


def test_the_figures_are_those_of_the_training(trained):
    stated = read_header(trained / "checkpoint.safetensors").metrics
    found, results = evaluated(trained, crystals="held_out.npz", dataset="data.npz")
    assert found["n_crystals"] == stated["n_held_out"] == results.done and found["n_left_out"] == 0
    for name in ("loss", "dos_mae", "formation_energy_mae", "coordinates"):
        assert (name in found) == (name in stated)
        if name in found:
            assert found[name] == pytest.approx(stated[name], rel=1e-5)
    assert results.details["checkpoint_sha256"] == sha256_of(trained / "checkpoint.safetensors")
    assert results.details["crystals_sha256"] == sha256_of(trained / "held_out.npz")
    assert evaluated(trained, crystals="held_out.npz", dataset="data.npz")[0] == found


def test_what_the_model_does_not_know_is_left_out(trained):
    crystals = CrystalSet.load(trained / "held_out.npz")
    foreign = crystals[[0, 1]].replace(numbers=np.full(crystals[[0, 1]].numbers.shape, 7))
    CrystalSet.concatenate([foreign, crystals]).save(trained / "more.npz")
    found, _ = evaluated(trained, crystals="more.npz", dataset="data.npz")
    alone, _ = evaluated(trained, crystals="held_out.npz", dataset="data.npz")
    assert found == {**alone, "n_left_out": 2}
    foreign.save(trained / "foreign.npz")
    with pytest.raises(ContentError, match="none of the 2 crystals has only elements that the model knows"):
        evaluated(trained, crystals="foreign.npz")


def test_fine_tuning_without_held_out_crystals_keeps_the_calibration(tmp_path):
    labelled().save(tmp_path / "data.npz")
    train.run(job("predictor", 2), tmp_path)
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / "parent.safetensors")
    given = load_model(tmp_path / "parent.safetensors")[0]
    assert float(given.dos_calibration) != 1.0
    parameters = {"validation_fraction": 0.0, "keep": "last"}
    tuned: TrainJob = job("predictor", 1, parent="parent.safetensors", parameters=parameters)
    train.run(tuned, tmp_path)
    model = load_model(tmp_path / "checkpoint.safetensors")[0]
    assert float(model.dos_calibration) == float(given.dos_calibration)
    assert float(model.energy_calibration) == float(given.energy_calibration)
