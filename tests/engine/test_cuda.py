"""A GPU gives what the CPU gives, from the shipped models and in trainings, and its memory may run out."""

import gc
import json
import shutil

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters, Results, Runtime, TrainJob, sha256_of
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.commands import prepare, train
from aiida_dosmatgen.engine.diffusion.candidates import size_probabilities
from aiida_dosmatgen.engine.diffusion.sampler import Sampler
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.relaxation import STATUSES, forcefields, gather, relax
from aiida_dosmatgen.engine.relaxation.forcefields.fused_mace import RadialTable, ScalarConvolution
from aiida_dosmatgen.engine.training.dataset import load_labelled

from .diffusion.test_sampler import assert_same
from .labelled import labelled
from .prediction.test_predictors import PACKAGE
from .training.test_training import SMALL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICES = ("cpu", "cuda")
MODELS = PACKAGE / "models"


@pytest.fixture(scope="module")
def known() -> CrystalSet:
    """The crystals that the shipped models were trained on and tested with."""
    return load_labelled(PACKAGE / "datasets" / "debian-pbe" / "labelled.npz")


@pytest.fixture(scope="module")
def crystal(known) -> CrystalSet:
    """One of them, of four atoms and two elements."""
    return next(c for c in known if len(c.numbers) == 4 and len(set(c.numbers.tolist())) == 2)


@pytest.fixture(scope="module")
def target(crystal) -> DosTarget:
    """What that crystal has in sum."""
    curve = crystal.atom_columns["dos"].mean(0)
    return DosTarget(curve[None], "total", complete_below=float(crystal.crystal_columns["complete_below"][0]))


@pytest.fixture
def samplers() -> dict[str, Sampler]:
    """The shipped denoiser and classifier on each device."""
    return {d: Sampler.load(MODELS / "denoiser.safetensors", MODELS / "classifier.safetensors", d) for d in DEVICES}


@pytest.fixture(scope="module")
def displaced() -> CrystalSet:
    """Strained and displaced prototypes."""
    return generate(["B", "C", "N", "Si", "Ga", "As"], 200, 5)[-40:]


def force_field(device: str, dtype: torch.dtype = torch.float32) -> forcefields.MaceEvaluator:
    path = MODELS / "forcefield.model"
    return forcefields.load(ForceField(file=path.name, sha256=sha256_of(path)), MODELS, device, dtype)


# --- candidates ---------------------------------------------------------------------------------------------------------

SITE = {"sites": [0, 1], "element": "Si", "coordinates": [[0, 0, 0], [0.25, 0.25, 0.25]]}
REQUESTS = {
    "ode": {"n_atoms": [2, 4, 5]},
    "ancestral": {"sampler": "ancestral", "guidance_scale": 0.5},
    "drawn sizes": {"n_atoms": {"max": 6}},
    "classifier": {"guidance": "classifier"},
    "ancestral classifier": {"guidance": "classifier", "sampler": "ancestral"},
    "composition": {"constraints": {"composition": {"Ga": 2, "As": 2}}},
    "held atoms": {"constraints": {"sites": [SITE], "lattice": {"volume": 60.0}}},
    "from a template": {"start_time": 0.4, "constraints": {"lattice": {"matrix": "template"}}},
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_same_candidates(samplers, target, crystal, request_):
    template = crystal if "start_time" in request_ else None
    given = {"n_atoms": 4, "steps": 20, **request_}
    cpu, cuda = (samplers[d](12, target, seed=3, template=template, **given) for d in DEVICES)
    assert samplers["cuda"].model.device.type == "cuda"
    assert_same(cuda, cpu, 1e-6)
    assert cuda.crystal_columns["attempt"].tolist() == cpu.crystal_columns["attempt"].tolist()


def test_single_precision_leads_to_the_same_crystals(samplers, target):
    double = samplers["cpu"](24, target, n_atoms=4, precision="float64")
    single = samplers["cuda"](24, target, n_atoms=4, precision="float32")
    same = (double.numbers == single.numbers).reshape(24, 4).all(1)
    assert same.mean() > 0.9
    assert np.median(np.abs(double.volumes / single.volumes - 1)[same]) < 1e-3


@pytest.mark.parametrize("guidance", ["classifier-free", "classifier"])
def test_mixed_precision_gives_nearly_the_same_first_steps(samplers, target, guidance):
    asked = {"n_atoms": 4, "steps": 2, "guidance": guidance, "attempts": 1}
    double = samplers["cpu"](8, target, precision="float64", **asked)
    mixed = samplers["cuda"](8, target, precision="bfloat16", **asked)
    np.testing.assert_allclose(mixed.volumes, double.volumes, rtol=0.3)


def test_sizes_are_as_likely(samplers, target):
    cpu, cuda = (size_probabilities(samplers[d].model, target) for d in DEVICES)
    np.testing.assert_allclose(cuda, cpu, atol=1e-6)


# --- predictions --------------------------------------------------------------------------------------------------------


def test_the_same_predictions(known):
    cpu, cuda = (predict(*load_model(MODELS / "predictor.safetensors", d), known[::80]) for d in DEVICES)
    for columns, others in ((cuda.atom_columns, cpu.atom_columns), (cuda.crystal_columns, cpu.crystal_columns)):
        for name in (name for name in others if name.startswith("predicted_")):
            assert np.isfinite(others[name]).all()
            np.testing.assert_allclose(columns[name], others[name], atol=1e-3, rtol=0, err_msg=name)


# --- force field --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-3)], ids=str)
def test_the_same_energies_forces_and_stresses(displaced, dtype, tolerance):
    fields = [force_field(d, dtype) for d in DEVICES]
    parts = list(fields[1].model.modules())
    assert (
        sum(isinstance(part, ScalarConvolution) for part in parts) == sum(isinstance(part, RadialTable) for part in parts) > 0
    )
    assert {tensor.device.type for tensor in fields[1].model.state_dict().values()} == {"cuda"}
    cpu, cuda = (field.evaluate(displaced) for field in fields)
    for found, expected in zip(cuda, cpu, strict=True):
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def test_relaxations_end_in_the_same_minima(displaced):
    cpu, cuda = (gather(displaced, list(relax(displaced, force_field(d), RelaxParameters()))) for d in DEVICES)
    found, expected = (c.crystal_columns["status"] for c in (cuda, cpu))
    assert set(found.tolist()) <= set(STATUSES)
    assert (found == expected).mean() > 0.9
    both = (found == "converged") & (expected == "converged")
    difference = np.abs(cuda.crystal_columns["energy"] - cpu.crystal_columns["energy"]) / displaced.n_atoms
    assert np.median(difference[both]) < 1e-3


# --- trainings ----------------------------------------------------------------------------------------------------------


def job(model: str, epochs: int, device: str = "cuda", **parameters) -> TrainJob:
    given = {"model": model, "epochs": epochs, "batch_size": 16, "architecture": SMALL.get(model, {"width": 8})}
    given |= {"validation_fraction": 0.2, "learning_rate": 5e-3, "tight_binding_epochs": 0, **parameters}
    return TrainJob(dataset="data.npz", seed=1, parameters=given, runtime={"device": device})


def history(folder) -> dict[str, list]:
    return {k: v for k, v in json.loads((folder / "history.json").read_text()).items() if k not in ("seconds", "cpu_seconds")}


@pytest.mark.parametrize(
    ("model", "precision"),
    [("denoiser", "float32"), ("denoiser", "bfloat16"), ("classifier", "float32"), ("predictor", "float32")],
)
def test_a_stopped_training_ends_where_an_uninterrupted_one_does(tmp_path, model, precision):
    """But for rounding: sums on a GPU have no order."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        labelled().save(folder / "data.npz")
    asked = job(model, 3, precision=precision)
    results = train.run(asked, whole)
    assert (results.finished, results.device) == (True, "cuda")
    hurried = asked.model_copy(update={"runtime": Runtime(device="cuda", max_seconds=1e-3)})  # time for an epoch in each run
    assert [train.run(hurried, parts).done for _ in range(3)] == [1, 2, 3]
    expected = history(whole)
    for name, values in history(parts).items():
        np.testing.assert_allclose(values, expected[name], rtol=0.02 if precision == "bfloat16" else 1e-3, err_msg=name)
    trained, _ = load_model(parts / "checkpoint.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in trained.state_dict().values())


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_force_field_is_trained(tmp_path, device):
    crystals = labelled(60)
    crystals.save(tmp_path / "data.npz")
    results = train.run(job("forcefield", 2, device), tmp_path)
    assert results.finished and np.isfinite(results.details["metrics"]["energy_mae"])
    trained = ForceField(file="forcefield.model", sha256=results.output_sha256)
    cpu, cuda = (forcefields.load(trained, tmp_path, d).evaluate(crystals[::5]) for d in DEVICES)
    np.testing.assert_allclose(cuda.energies, cpu.energies, atol=1e-6)


# --- which device, and its memory ---------------------------------------------------------------------------------------


def sample_job(folder, device: str) -> int:
    shutil.copy(MODELS / "denoiser.safetensors", folder)
    content = {"kind": "sample", "checkpoint": "denoiser.safetensors", "seed": 3, "stop": 4, "runtime": {"device": device}}
    (folder / "job.json").write_text(json.dumps({**content, "parameters": {"steps": 4, "n_atoms": 2}}))
    return main(["sample", str(folder / "job.json")])


def test_auto_is_the_gpu(tmp_path):
    assert prepare(Runtime()).type == "cuda"
    assert Sampler.load(MODELS / "denoiser.safetensors").model.device.type == "cuda"
    assert sample_job(tmp_path, "auto") == 0
    assert Results.load((tmp_path / "results.json").read_text()).device == "cuda"


def test_a_gpu_that_is_not_there_is_one_line(tmp_path, capsys):
    assert sample_job(tmp_path, "cuda:99") == 2
    error = capsys.readouterr().err
    assert "'cuda:99' cannot be used here" in error and error.count("\n") == 1


def with_half_the_memory(run) -> tuple:
    """Return what a computation gives with all memory of the GPU, and what with half of what it took."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    whole = run()
    took = torch.cuda.max_memory_allocated() - before
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + took // 2
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        return whole, run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_out_of_memory_halves_a_batch_of_candidates(samplers, target, caplog):
    asked = {"n_atoms": 8, "steps": 2, "attempts": 1, "precision": "float32", "batch_size": 512}
    whole, halved = with_half_the_memory(lambda: samplers["cuda"](512, target, **asked))
    assert "out of memory with 512 candidates of 8 atoms at a time; continuing with 256" in caplog.text
    np.testing.assert_allclose(halved.lattices, whole.lattices, atol=1e-3)


def test_out_of_memory_halves_a_batch_of_crystals(caplog):
    crystals, field = generate(["C", "Si"], 800, 3), force_field("cuda", torch.float64)
    whole, halved = with_half_the_memory(lambda: field.evaluate(crystals))
    assert "out of memory with 800 crystals at a time; continuing with 400" in caplog.text
    np.testing.assert_allclose(halved.energies, whole.energies, atol=1e-6)


def test_out_of_memory_halves_a_batch_of_a_training(tmp_path, caplog):
    labelled(300).save(tmp_path / "data.npz")
    asked = job("denoiser", 2, batch_size=256, architecture={"width": 128, "layers": 3})

    def losses() -> list[float]:
        train.run(asked, tmp_path)
        return history(tmp_path)["loss"]

    whole, halved = with_half_the_memory(losses)
    assert "out of memory with 256 crystals at a time; continuing with 128" in caplog.text
    np.testing.assert_allclose(halved, whole, rtol=0.2)  # other features are dropped
