"""``scripts/train-models``, by which ``make models`` trains all that is shipped: each step once, in order, on the shards."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job import FrameShares, FramesJob, Results, TrainJob, load_job, sha256_of
from aiida_dosmatgen.core.labelled.shards import MANIFEST, load_shards
from aiida_dosmatgen.core.labelled.splits import without_test
from aiida_dosmatgen.engine.cli import main

from .shards import SHARDS, needs_shards

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train-models"
PARTS = ("shard-0003.npz", "shard-0005.npz")

pytestmark = needs_shards


@pytest.fixture
def script():
    loader = importlib.machinery.SourceFileLoader("train_models", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("train_models", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder like that of the shards, with two small ones of them."""
    folder = tmp_path / "data"
    folder.mkdir()
    manifest = json.loads((SHARDS / MANIFEST).read_text())
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["file"] in PARTS]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    for name in (*PARTS, "reserved.txt", *(path.name for path in SHARDS.glob("*.json") if path.name != MANIFEST)):
        shutil.copy(SHARDS / name, folder)
    return folder


def test_the_job_files_are_jobs_and_agree_with_the_set():
    jobs = {path.stem: load_job(path) for path in SHARDS.glob("*.json") if path.name not in (MANIFEST, "data_card.json")}
    assert set(jobs) == {"frames", "forcefield", "finetune", "predictor", "pseudolabel", "denoiser", "classifier"}
    split = json.loads((SHARDS / MANIFEST).read_text())["splits"]
    for name in ("frames", "pseudolabel"):
        assert jobs[name].split.model_dump() == split and jobs[name].reserved == "reserved.txt"
    trained = {name: job for name, job in jobs.items() if isinstance(job, TrainJob)}
    assert trained["classifier"].parameters.energies == trained["denoiser"].parameters.energies, "one guides the other"
    assert len({job.output for job in trained.values()}) == len({job.history for job in trained.values()}) == 5
    assert jobs["finetune"].parameters.architecture == jobs["forcefield"].parameters.architecture
    making, labelling = (load_job(SHARDS.parent / name) for name in ("crystals.json", "label.json"))
    assert labelling.split.model_dump() == split and labelling.shards == SHARDS.name and labelling.crystals == making.output
    recipe = json.loads((SHARDS / MANIFEST).read_text())["settings"]["recipe"]
    assert json.loads(labelling.recipe.text()) == recipe and making.recipe == labelling.recipe
    assert making.elements == jobs["pseudolabel"].elements and making.reserved == f"{SHARDS.name}/reserved.txt"


def test_steps_without_their_files_are_left_out(script, data, tmp_path, capsys):
    training = script.Training(
        data, tmp_path / "work", [], [("denoiser", "architecture.width", 16), ("predictor", "epochs", 2)]
    )
    for name in ("forcefield", "finetune", "pseudolabel"):
        with pytest.raises(script.Missing):
            training.job(name)
    job, trusted = training.job("denoiser")
    assert "pseudolabelled" not in job and not trusted and "without" in capsys.readouterr().out
    assert job["dataset"] == "../data" and job["parameters"]["architecture"]["width"] == 16
    assert training.job("predictor")[0]["parameters"]["epochs"] == 2
    (data / "crystals.npz").touch()
    training.take("predictor")
    assert not training.made
    (tmp_path / "work" / "predictor.safetensors").touch()
    training.take("predictor")
    assert training.made == {"predictor.safetensors": "predictor.safetensors"}
    with pytest.raises(script.Missing):  # of another folder than that of the repository
        training.job("pseudolabel")
    (tmp_path / "work" / "forcefield.model").write_bytes(b"model")
    training.made["forcefield.model"] = "forcefield.model"
    job, trusted = training.job("pseudolabel")
    assert (job["predictor"], job["crystals"], job["reserved"]) == (
        "predictor.safetensors",
        "../data/crystals.npz",
        "../data/reserved.txt",
    )
    assert job["force_field"] == {"file": "forcefield.model", "sha256": sha256_of(tmp_path / "work" / "forcefield.model")}
    assert trusted == [job["force_field"]["sha256"]]


@pytest.mark.slow
def test_all_models_are_trained_once(data, tmp_path):
    """With tiny networks and a spring-like teacher, on 36 crystals."""
    crystals = load_shards(data)
    kept = crystals.replace(crystal_columns={n: crystals.crystal_columns[n] for n in ("source", "id")}, atom_columns={})
    kept.save(data / "crystals.npz")
    teacher = {"calculator": "ase.calculators.lj:LennardJones", "arguments": {"sigma": 2.0, "rc": 5.0, "smooth": True}}
    shares = {**dict.fromkeys(FrameShares.model_fields, 0), "each": 1}
    frames = {"count": len(kept), "shares": shares, "max_atoms": 20, "largest_force": 1e6}
    job = FramesJob(crystals="crystals.npz", force_field=teacher, seed=1, **frames)
    (data / "frames.json").write_text(job.model_dump_json())
    assert main(["frames", str(data / "frames.json")]) == 0
    assert set(CrystalSet.load(data / "frames.npz").numbers.tolist()) == set(kept.numbers.tolist())
    small = {
        "forcefield": {"architecture": {"width": 8, "layers": 1}, "epochs": 1, "batched": {"correlation": 1, "degree": 1}},
        "predictor": {"architecture": {"width": 16, "layers": 1, "members": 2}, "epochs": 2, "tight_binding_epochs": 1},
        "denoiser": {"architecture": {"width": 16, "layers": 1, "frequencies": 2, "stride": 3, "composition": 16}, "epochs": 2},
        "classifier": {"architecture": {"width": 16, "layers": 1, "frequencies": 2}, "epochs": 2},
    }  # fmt: skip
    small["finetune"] = small["forcefield"] | {"batched": {**small["forcefield"]["batched"], "at_rest": True}}
    known = np.unique(without_test(crystals)[0].numbers)  # the predictor knows these
    small["pseudolabel"] = {"elements": [SYMBOLS[z] for z in known], "left_out": 0.0}
    options = [f"{step}.{key}={json.dumps(value)}" for step, changes in small.items() for key, value in changes.items()]
    work = tmp_path / "work"
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--work", str(work), "--threads", "1", "--device", "cpu"]
    command += [word for option in options for word in ("--set", option)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = {"capture_output": True, "text": True, "env": {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, "check": False}
    first = subprocess.run(command, **run)
    assert first.returncode == 0, first.stdout + first.stderr[-3000:]
    assert "4 models, " in first.stdout and "left out" not in first.stdout
    cards = {path.name: Results.load(path.read_text()) for path in work.glob("*_card.json")}
    assert set(cards) == {f"{name}_card.json" for name in ("student", "forcefield", "predictor", "denoiser", "classifier")}
    for card in cards.values():
        assert card.finished and card.details["effort"]["cpu_seconds"] >= 0 and card.command.startswith("dosmatgen train ")
    assert cards["denoiser_card.json"].details["dataset_sha256"] == sha256_of(data / MANIFEST)
    assert cards["denoiser_card.json"].details["pseudolabelled_sha256"] == sha256_of(work / "pseudolabelled.npz")
    assert cards["forcefield_card.json"].details["parent_sha256"] == cards["student_card.json"].output_sha256
    models = {path: path.stat().st_mtime_ns for path in work.iterdir() if path.suffix in (".model", ".safetensors")}
    second = subprocess.run(command, **run)
    assert second.returncode == 0, second.stdout + second.stderr[-3000:]
    assert second.stderr.count("has the results of this job already") >= 5
    assert {path: path.stat().st_mtime_ns for path in models} == models
    labelled = CrystalSet.load(work / "pseudolabelled.npz")
    assert set(labelled.crystal_columns["id"]) <= set(np.asarray(kept.crystal_columns["id"]).tolist())
