"""The card of a model: what a training says of its data, command, time and figures, and how it is read."""

import json

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curves import compare
from aiida_dosmatgen.core.files.checkpoint_header import open_checkpoint, read_header, read_training_crystals
from aiida_dosmatgen.core.job import Results, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.splits import split_by_system
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.cli import RESULTS, main
from aiida_dosmatgen.engine.commands import train
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.training.comparison import comparison

from ..labelled import few, labelled

SIZES = {"predictor": {"width": 16, "layers": 1, "members": 2}, "denoiser": {"width": 16, "layers": 1, "frequencies": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a predictor and then a denoiser were trained, by the command."""
    folder = tmp_path_factory.mktemp("trained")
    few().save(folder / "data.npz")
    for model, architecture in SIZES.items():
        parameters = {"model": model, "epochs": 2, "architecture": architecture, "tight_binding_epochs": 1}
        parameters |= {"validation_fraction": 0.2, "keep": "last"}
        job = {"kind": "train", "dataset": "data.npz", "seed": 1, "parameters": parameters, "output": f"{model}.safetensors"}
        (folder / f"{model}.json").write_text(json.dumps(job))
        assert main(["train", str(folder / f"{model}.json"), "--threads", "1"]) == 0
    return folder


def test_a_card_has_data_command_time_and_figures(folder):
    for model in SIZES:
        card = Results.load((folder / f"{model}_card.json").read_text())
        header = read_header(folder / f"{model}.safetensors")
        assert card.output_sha256 == sha256_of(folder / f"{model}.safetensors")
        assert card.command == f"dosmatgen train {folder}/{model}.json --threads 1"
        assert card.details["dataset_sha256"] == header.training.dataset_sha256 == sha256_of(folder / "data.npz")
        assert card.details["metrics"] == header.metrics
        effort = card.details["effort"]
        assert card.cpu_seconds > 0 and 0 < effort["seconds"] <= card.seconds and effort["cpu_seconds"] > 0
    assert (folder / "denoiser_card.json").read_text() == (folder / RESULTS).read_text()


def test_the_figures_of_a_predictor_are_those_of_the_project_s_comparison(folder):
    model, header = load_model(folder / "predictor.safetensors")
    crystals = few()
    found = comparison(model, header, crystals)
    predicted = predict(model, header, crystals)
    assert found.rows.tolist() == list(range(len(crystals)))
    for row in (0, 7):
        distance = compare(curves_of(predicted, row, "predicted_dos"), curves_of(crystals, row))
        assert (found.mae[row], found.r2[row]) == (distance.mae, distance.r2)
        assert found.wasserstein[row] == distance.wasserstein
    figures = found.figures()
    assert figures["ratio"] == pytest.approx(figures["mae"] / figures["mae_mean_curves"])
    said = header.metrics["comparison"]
    assert said["n"] == header.metrics["n_calibrated_by"] and set(said) == set(figures)
    foreign = CrystalSet.concatenate([crystals[:1].replace(numbers=np.full(crystals.n_atoms[0], 79)), crystals[:2]])
    assert comparison(model, header, foreign).rows.tolist() == [1, 2]
    assert comparison(model, header, foreign[:1]).figures() == {"n": 0}


def test_a_training_is_known_by_its_card_when_another_one_came_after_it(folder, capsys, monkeypatch):
    monkeypatch.setattr(train, "run", None)  # nothing is trained
    assert main(["train", str(folder / "predictor.json"), "--threads", "1"]) == 0
    assert "predictor_card.json has the results of this job already" in capsys.readouterr().err
    assert Results.load((folder / RESULTS).read_text()).output == "predictor.safetensors"


def test_inspect_prints_the_card_if_it_is_that_of_the_file(folder, tmp_path, capsys):
    path = folder / "predictor.safetensors"
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    card = Results.load((folder / "predictor_card.json").read_text())
    for said in (card.command, card.details["dataset_sha256"], "cpu seconds", "comparison: wasserstein", "comparison: r2"):
        assert said in text
    (tmp_path / path.name).write_bytes(path.read_bytes())
    other = card.model_copy(update={"output_sha256": "0" * 64})
    other.save(tmp_path / "predictor_card.json")
    assert main(["inspect", str(tmp_path / path.name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "trained_by" not in found and found["metrics"] == read_header(path).metrics


def test_a_checkpoint_knows_what_it_learnt_from(folder, capsys):
    crystals = few()
    training, held_out = split_by_system(crystals, 0.2, 1)
    for model in SIZES:
        with open_checkpoint(folder / f"{model}.safetensors") as stream:
            learnt = TrainingCrystals.from_bytes(read_training_crystals(stream))
        assert learnt.has(crystals, training).all() and not learnt.has(crystals, held_out).any()
    assert main(["inspect", str(folder / "denoiser.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["training_crystals"]
    assert found == {"number": len(learnt), "bytes": len(learnt.to_bytes())}


def test_a_child_remembers_what_its_parent_learnt_from(folder, tmp_path):
    (tmp_path / "parent.safetensors").write_bytes((folder / "denoiser.safetensors").read_bytes())
    other = labelled(40, seed=5)
    other.save(tmp_path / "data.npz")
    parameters = {"model": "denoiser", "epochs": 1, "architecture": SIZES["denoiser"], "validation_fraction": 0.2}
    job = TrainJob(dataset="data.npz", seed=2, parameters=parameters, parent="parent.safetensors")
    train.run(job, tmp_path)
    with open_checkpoint(tmp_path / job.output) as stream:
        learnt = TrainingCrystals.from_bytes(read_training_crystals(stream))
    assert learnt.has(other, split_by_system(other, 0.2, 2)[0]).all()
    assert learnt.has(few(), split_by_system(few(), 0.2, 1)[0]).all()
