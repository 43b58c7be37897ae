"""The errors of a model on labelled crystals: the same that a training states, the same each time, and what is left out."""

import json
import shutil

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader, read_header
from aiida_dosmatgen.core.job import EvaluateJob, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.shards import MANIFEST
from aiida_dosmatgen.core.labelled.splits import split_by_system
from aiida_dosmatgen.engine.checkpoint import build_model, load_model
from aiida_dosmatgen.engine.commands import evaluate, train
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.training.dataset import load_labelled, vocabulary
from aiida_dosmatgen.engine.training.evaluation import bins_within
from tests.shards import SHARDS, needs_shards

from ..labelled import few
from .test_training import job


@pytest.fixture(scope="module", params=["denoiser", "predictor", "classifier"])
def trained(request, tmp_path_factory):
    """A folder with a model of two epochs, its set, and the crystals that its training held out."""
    folder = tmp_path_factory.mktemp(request.param)
    crystals = few()
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
    few().save(tmp_path / "data.npz")
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


@needs_shards
def test_the_deviations_of_bins_are_judged_bin_by_bin(tmp_path):
    manifest = json.loads((SHARDS / MANIFEST).read_text())
    manifest["shards"] = manifest["shards"][4:5]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    shutil.copy(SHARDS / manifest["shards"][0]["file"], tmp_path)
    crystals = load_labelled(tmp_path, resolved=True)
    crystals = crystals[np.argsort(crystals.n_atoms, kind="stable")[:4]]
    header = CheckpointHeader(
        kind="predictor",
        architecture={"width": 16, "layers": 1, "members": 2, "stride": 3},
        elements=vocabulary(crystals),
        grid=DEFAULT_GRID,
        sigma=0.3,
        meaning="partition",
        training=TrainingHeader(dataset_sha256="0" * 64, n_crystals=0, seed=0, epochs=0, parameters={}),
        engine_version="0",
    )
    torch.manual_seed(0)
    model = build_model(header).eval()
    model.dos_floor.fill_(1.0)
    model.dos_calibration.fill_(1e6)
    for shares in bins_within(model, header, crystals):
        np.testing.assert_allclose(shares, 1, atol=1e-6)
    model.dos_calibration.fill_(0.3)
    one, two = bins_within(model, header, crystals)
    predicted = predict(model, header, crystals)
    row, atoms = 1, slice(crystals.offsets[1], crystals.offsets[2])
    known = (DEFAULT_GRID.points >= crystals.crystal_columns["low"][row]) & (
        DEFAULT_GRID.points <= min(crystals.crystal_columns["complete_below"][row], DEFAULT_GRID.emax)
    )
    residuals = np.abs(predicted.atom_columns["predicted_dos"] - crystals.atom_columns["dos"])[atoms][:, known]
    assert one[row] == pytest.approx((residuals <= 0.3).mean(), abs=0.02)  # the members hardly differ, nothing is new
    assert (one <= two).all() and (one < two).any()
    header = header.model_copy(update={"architecture": {**header.architecture, "members": 1}})
    assert bins_within(build_model(header), header, crystals) is None
