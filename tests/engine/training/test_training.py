"""Training: it learns, it can be stopped and resumed without a trace, and what it writes says where it comes from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_energies
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.job import PredictJob, SampleParameters, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import split_by_system, systems_of
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.commands import Clock, predict, train
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.prediction.predictor import Predictor
from aiida_dosmatgen.engine.prediction.tightbinding import TightBinding
from aiida_dosmatgen.engine.training.loop import STATE_FILE, Schedule
from aiida_dosmatgen.engine.training.predictor import PredictorObjective
from aiida_dosmatgen.engine.training.pseudolabels import LABELLED_SHARE, joined

from ..labelled import beyond, few, labelled

SMALL = {
    "predictor": {"width": 16, "layers": 1, "members": 2},
    "denoiser": {"width": 16, "layers": 1, "frequencies": 2},
    "classifier": {"width": 16, "layers": 1, "frequencies": 2},
}


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    return few()


@pytest.fixture
def folder(tmp_path, crystals):
    crystals.save(tmp_path / "data.npz")
    return tmp_path


def job(model: str, epochs: int, **changes) -> TrainJob:
    parameters = {"model": model, "epochs": epochs, "batch_size": 16, "architecture": SMALL[model], "learning_rate": 5e-3}
    parameters |= {"validation_fraction": 0.2, "tight_binding_epochs": 0, **changes.pop("parameters", {})}
    return TrainJob(dataset="data.npz", seed=1, parameters=parameters, **changes)


def tensors(path) -> dict[str, torch.Tensor]:
    return load_model(path)[0].state_dict()


def test_the_schedule_rises_and_falls():
    schedule = Schedule(epochs=1, batch_size=1, learning_rate=1.0, ema=0.99)
    rates = [schedule.rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert int(np.argmax(rates)) in (4, 5)
    assert (np.diff(rates[5:]) < 0).all()
    assert 0 <= rates[-1] < 0.01
    assert schedule.decay(0) == pytest.approx(0.1)
    assert schedule.decay(10**6) == 0.99


def test_a_predictor_learns_and_says_where_it_comes_from(folder, crystals):
    results = train.run(job("predictor", 30, parameters={"ema": 0.9, "batch_size": 8}), folder)
    assert (results.finished, results.done, results.of) == (True, 30, 30)
    header = read_header(folder / "checkpoint.safetensors")
    assert header.training.dataset_sha256 == sha256_of(folder / "data.npz") == results.details["dataset_sha256"]
    assert header.training.epochs == results.details["best_epoch"]
    assert header.training.n_crystals + header.metrics["n_held_out"] == len(crystals)
    assert header.elements == ["C", "Si", "Ge"]
    assert not (folder / STATE_FILE).exists()
    history = json.loads((folder / "history.json").read_text())
    assert history["dos"][-1] < 0.6 * history["dos"][0]
    assert {len(v) for v in history.values()} == {30}
    assert history["validation_loss"].index(min(history["validation_loss"])) + 1 == header.training.epochs

    found = predict.run(PredictJob(checkpoint="checkpoint.safetensors", crystals="data.npz"), folder)
    predicted = CrystalSet.load(folder / found.output)
    assert found.details["checkpoint_sha256"] == results.output_sha256 == sha256_of(folder / "checkpoint.safetensors")
    error = np.abs(predicted.atom_columns["predicted_dos"] - crystals.atom_columns["dos"])[~beyond(crystals)].mean()
    assert error < header.metrics["dos_mae_baseline"]

    factors = tensors(folder / "checkpoint.safetensors")
    assert header.metrics["calibrated"]
    assert header.metrics["dos_calibration"] == pytest.approx(float(factors["dos_calibration"]))
    assert header.metrics["formation_energy_calibration"] == pytest.approx(float(factors["energy_calibration"]))


@pytest.mark.slow
def test_the_tight_binding_of_a_predictor_is_fitted_first(folder):
    """Stopped in the fit and in the training of the networks; either continues where it was."""
    (whole := folder / "whole").mkdir()
    shutil.copy(folder / "data.npz", whole)
    parameters = {"tight_binding_epochs": 2}
    assert train.run(job("predictor", 2, parameters=parameters), whole).done == 4
    hurried = job("predictor", 2, parameters=parameters, runtime={"max_seconds": 1e-3})
    stops = [train.run(hurried, folder) for _ in range(3)]
    assert [(r.finished, r.done, r.of) for r in stops] == [(False, 1, 4), (False, 3, 4), (True, 4, 4)]
    assert not list(folder.glob("*-state.safetensors"))
    a, b = (tensors(f / "checkpoint.safetensors") for f in (whole, folder))
    assert all(torch.equal(b[name], a[name]) for name in a)
    untouched = TightBinding(["C", "Si", "Ge"])
    assert not torch.equal(a["tight_binding.bond"], untouched.bond)


def test_a_fit_of_tight_binding_that_is_stopped_leaves_all_files(folder, monkeypatch):
    """Time is up whenever it is asked for, so that each run does no more than it always does."""

    class Spent(Clock):
        def allows(self, seconds: float = 0.0) -> bool:
            return False

    monkeypatch.setattr(train, "Clock", Spent)
    (folder / "history.json").write_text('{"epoch": [1, 2]}')  # of another training
    parameters = {"tight_binding_epochs": 2}
    stopped = train.run(job("predictor", 1, parameters=parameters), folder)
    assert (stopped.finished, stopped.done, stopped.of) == (False, 1, 3)
    assert json.loads((folder / "history.json").read_text()) == {}
    assert read_header(folder / "checkpoint.safetensors").kind == "predictor"
    continued = train.run(job("predictor", 1, parameters=parameters), folder)
    assert (continued.finished, continued.done) == (True, 3)
    assert json.loads((folder / "history.json").read_text())["epoch"] == [1]


def test_a_denoiser_sees_pseudo_labelled_crystals_of_other_systems(folder, crystals):
    rest, held_out = split_by_system(crystals, 0.2, 1)
    other = crystals.with_columns(atom={"dos": 2 * crystals.atom_columns["dos"]})
    other.save(folder / "pseudo.npz")
    both = joined(crystals[rest], CrystalSet.concatenate([other] * 8), crystals[held_out], 1)
    repeats = 2  # without them 8/9 would be predicted
    own = np.tile(crystals[rest].atom_columns["dos"], (repeats, 1))
    np.testing.assert_array_equal(both.atom_columns["dos"][: len(own)], own)
    added = both[repeats * len(rest) :]
    assert len(added) == 8 * np.isin(systems_of(other), systems_of(crystals[rest])).sum() > 0
    assert not set(systems_of(added)) & set(systems_of(crystals[held_out]))
    assert repeats * len(rest) / len(both) == pytest.approx(LABELLED_SHARE, abs=0.06)
    plain = train.run(job("denoiser", 2), folder)
    hashes = [tensors(folder / "checkpoint.safetensors")]
    results = train.run(job("denoiser", 2, pseudolabelled="pseudo.npz"), folder)
    hashes.append(tensors(folder / "checkpoint.safetensors"))
    assert results.finished and plain.finished
    assert any(not torch.equal(hashes[0][name], hashes[1][name]) for name in hashes[0])
    # scales and sizes are those of labelled crystals, so that a predicted curve sets no standard
    assert all(torch.equal(hashes[0][n], hashes[1][n]) for n in hashes[0] if n.startswith(("lattices", "sizes")))
    header = read_header(folder / "checkpoint.safetensors").training
    assert header.pseudolabelled_sha256 == sha256_of(folder / "pseudo.npz")
    with pytest.raises(ContentError, match="only a denoiser learns from predicted curves; a predictor does not"):
        train.run(job("predictor", 2, pseudolabelled="pseudo.npz"), folder)


@pytest.mark.parametrize(
    "model, precision",
    [("predictor", "float32"), ("classifier", "float32"), ("denoiser", "bfloat16")],
)
def test_a_stopped_training_ends_where_an_uninterrupted_one_does(model, precision, tmp_path, crystals):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        crystals.save(folder / "data.npz")
    parameters = {"precision": precision}
    train.run(job(model, 3, parameters=parameters), whole)
    hurried = job(model, 3, parameters=parameters, runtime={"max_seconds": 1e-3})  # time for one epoch in each run
    stops = []
    for _ in range(3):
        results = train.run(hurried, parts)
        stops.append((results.finished, results.done))
        assert read_header(parts / "checkpoint.safetensors").kind == model
        if not results.finished:
            assert (parts / STATE_FILE).read_bytes()[:2] != b"PK"  # no pickle
    assert stops == [(False, 1), (False, 2), (True, 3)]
    a, b = (tensors(f / "checkpoint.safetensors") for f in (whole, parts))
    for name in a:
        assert torch.equal(b[name], a[name]), name  # to the bit
    histories = [json.loads((f / "history.json").read_text()) for f in (whole, parts)]
    for spent in ("seconds", "cpu_seconds"):
        assert histories[0].pop(spent) and histories[1].pop(spent)
    assert histories[0] == histories[1]


def test_the_state_of_another_training_is_left_alone(folder):
    train.run(job("predictor", 3, runtime={"max_seconds": 1e-3}), folder)
    assert (folder / STATE_FILE).exists()
    results = train.run(job("predictor", 2), folder)
    assert (results.finished, results.done) == (True, 2)
    (folder / STATE_FILE).write_bytes(b"half a file")
    assert train.run(job("predictor", 1), folder).done == 1


def test_a_damaged_state_is_not_taken_up(folder):
    hurried = job("classifier", 3, runtime={"max_seconds": 1e-3})
    train.run(hurried, folder)
    content = bytearray((folder / STATE_FILE).read_bytes())
    content[-1] ^= 1  # one bit of one weight
    (folder / STATE_FILE).write_bytes(content)
    assert train.run(hurried, folder).done == 1
    assert train.run(hurried, folder).done == 2


def test_mixed_precision_learns_the_same_less_exactly(folder):
    losses, weights = {}, {}
    for precision in ("float32", "bfloat16"):
        train.run(job("denoiser", 6, parameters={"precision": precision, "ema": 0.9}), folder)
        losses[precision] = np.array(json.loads((folder / "history.json").read_text())["loss"])
        weights[precision] = tensors(folder / "checkpoint.safetensors")
    assert all(w.dtype == torch.float32 for w in weights["bfloat16"].values() if w.is_floating_point())
    assert not np.array_equal(losses["float32"], losses["bfloat16"])
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_a_classifier_learns(folder):
    labelled().save(folder / "data.npz")
    results = train.run(job("classifier", 40, parameters={"ema": 0.9, "batch_size": 8}), folder)
    header = read_header(folder / "checkpoint.safetensors")
    assert header.kind == results.details["model"] == "classifier"
    losses = json.loads((folder / "history.json").read_text())["loss"]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert header.metrics["dos_mae_ratio"] < 1


def test_seeds_decide(folder):
    runs = []
    for seed in (1, 1, 2):
        train.run(job("denoiser", 1).model_copy(update={"seed": seed}), folder)
        runs.append(tensors(folder / "checkpoint.safetensors")["type_head.weight"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_denoiser_learns(folder, crystals):
    crystals[np.flatnonzero(crystals.n_atoms <= 2)].save(folder / "data.npz")
    train.run(job("denoiser", 60, parameters={"ema": 0.9, "learning_rate": 0.02, "validation_fraction": 0}), folder)
    losses = json.loads((folder / "history.json").read_text())["loss"]
    assert np.mean(losses[-10:]) < 0.93 * np.mean(losses[:10])


def test_fine_tuning_starts_from_the_parent(folder, crystals):
    train.run(job("predictor", 5, output="parent.safetensors", parameters={"ema": 0.9}), folder)
    parent = read_header(folder / "parent.safetensors")
    few = crystals[[i for i, c in enumerate(crystals) if 32 not in c.numbers]]  # C and Si only
    few.save(folder / "data.npz")
    results = train.run(job("predictor", 1, parent="parent.safetensors", parameters={"learning_rate": 1e-6}), folder)
    child = read_header(folder / "checkpoint.safetensors")
    assert child.elements == parent.elements
    assert child.architecture == parent.architecture
    assert child.training.parent_sha256 == sha256_of(folder / "parent.safetensors") == results.details["parent_sha256"]
    a, b = tensors(folder / "parent.safetensors"), tensors(folder / "checkpoint.safetensors")
    for name in a:
        if not name.endswith("_calibration"):  # measured anew, on other crystals
            torch.testing.assert_close(a[name], b[name], atol=1e-3, rtol=1e-3)


def test_parents_that_do_not_fit(folder, crystals):
    few = crystals[[i for i, c in enumerate(crystals) if 32 not in c.numbers]]
    few.save(folder / "few.npz")
    train.run(job("predictor", 1, output="parent.safetensors").model_copy(update={"dataset": "few.npz"}), folder)
    with pytest.raises(ContentError, match="is a predictor, but a denoiser is to be trained"):
        train.run(job("denoiser", 1, parent="parent.safetensors"), folder)
    with pytest.raises(ContentError, match=r"parent .* does not exist"):
        train.run(job("predictor", 1, parent="missing.safetensors"), folder)


def test_a_denoiser_keeps_the_sizes_that_it_knows_and_learns_others(folder, crystals):
    small = crystals[np.flatnonzero(crystals.n_atoms <= 2)]
    small.save(folder / "small.npz")
    parent, whole = job("denoiser", 1, output="parent.safetensors"), job("denoiser", 1)
    train.run(parent, folder)
    largest = int(crystals.n_atoms.max())
    assert read_header(folder / "parent.safetensors").architecture["max_atoms"] == largest > 2
    train.run(whole.model_copy(update={"dataset": "small.npz", "parent": "parent.safetensors"}), folder)
    child = read_header(folder / "checkpoint.safetensors")
    assert child.architecture == read_header(folder / "parent.safetensors").architecture
    train.run(parent.model_copy(update={"dataset": "small.npz"}), folder)
    small_one = read_header(folder / "parent.safetensors")
    assert (small_one.architecture["max_atoms"], small_one.training.largest) == (2, 2)
    train.run(whole.model_copy(update={"parent": "parent.safetensors"}), folder)
    grown = read_header(folder / "checkpoint.safetensors")
    assert (grown.architecture["max_atoms"], grown.training.largest) == (largest, largest)
    assert load_model(folder / "checkpoint.safetensors")[0].sizes.frequencies.shape == (largest,)


def test_out_of_memory_halves_the_batch_and_trains_the_same(folder, monkeypatch, caplog):
    whole = train.run(job("predictor", 2), folder)
    losses = json.loads((folder / "history.json").read_text())["loss"]
    loss, evaluate, largest = PredictorObjective.loss, PredictorObjective.evaluate, 5

    def take(n):  # what the allocator says when it has no more, from a batch above five crystals on
        if n > largest:
            torch.empty(1 << 60)

    def limited_loss(self, model, batch, generator):
        take(batch.num_graphs)
        return loss(self, model, batch, generator)

    def limited_evaluate(self, model, batches):
        batches = list(batches)
        take(max(batch.num_graphs for batch in batches))
        return evaluate(self, model, batches)

    monkeypatch.setattr(PredictorObjective, "loss", limited_loss)
    monkeypatch.setattr(PredictorObjective, "evaluate", limited_evaluate)
    limited = train.run(job("predictor", 2), folder)
    assert limited.finished and limited.done == whole.done
    assert "out of memory with 16 crystals at a time; continuing with 8" in caplog.text
    assert "out of memory with 8 crystals at a time; continuing with 4" in caplog.text
    assert caplog.text.count("8 crystals at a time; continuing with 4") == 1  # remembered
    # the loss is a mean over atoms, of which the parts have different numbers
    np.testing.assert_allclose(json.loads((folder / "history.json").read_text())["loss"], losses, rtol=0.1)


@pytest.mark.slow
def test_predictions_are_the_same_in_smaller_batches(folder, crystals, monkeypatch, caplog):
    train.run(job("predictor", 1), folder)
    predictions = PredictJob(checkpoint="checkpoint.safetensors", crystals="data.npz")
    predict.run(predictions, folder)
    whole = CrystalSet.load(folder / "predicted.npz")
    forward = Predictor.forward

    def limited(self, types, *rest):
        if len(types) > 3:
            torch.empty(1 << 60)
        return forward(self, types, *rest)

    monkeypatch.setattr(Predictor, "forward", limited)
    predict.run(predictions, folder)
    assert "out of memory with 64 crystals at a time; continuing with 32" in caplog.text
    columns = CrystalSet.load(folder / "predicted.npz").atom_columns
    np.testing.assert_allclose(columns["predicted_dos"], whole.atom_columns["predicted_dos"], atol=1e-4)


def test_patience_ends_it(folder):
    results = train.run(job("predictor", 200, parameters={"learning_rate": 1e-9, "patience": 2, "ema": 0}), folder)
    assert results.finished
    assert results.done < 200


def test_a_diverged_training_is_refused(folder, crystals):
    """After fifty batches in a row: here of one crystal each."""
    some = crystals[:6]
    dos = some.atom_columns["dos"].copy()
    dos[:] = np.float32(3e38)
    some.with_columns(atom={"dos": dos}).save(folder / "data.npz")
    with pytest.raises(ContentError, match="diverged"):
        train.run(job("predictor", 10, parameters={"validation_fraction": 0, "batch_size": 1}), folder)


def test_all_crystals_train_when_none_is_held_out(folder, crystals):
    results = train.run(job("predictor", 2, parameters={"validation_fraction": 0}), folder)
    header = read_header(folder / "checkpoint.safetensors")
    assert header.training.n_crystals == len(crystals)
    assert header.metrics == {"n_held_out": 0, "n_test": 0, "n_calibrated_by": 0, "calibrated": False}
    assert results.details["best_epoch"] == 2


def test_predictions_need_a_predictor(folder):
    train.run(job("denoiser", 1), folder)
    with pytest.raises(ContentError, match="is a denoiser; predictions need a predictor"):
        predict.run(PredictJob(checkpoint="checkpoint.safetensors", crystals="data.npz"), folder)


def test_crystals_kept_for_tests_are_never_seen(folder, crystals):
    kept = np.arange(len(crystals)) % 3 == 0
    crystals[np.flatnonzero(~kept)].save(folder / "data.npz")
    train.run(job("predictor", 2), folder)
    alone = tensors(folder / "checkpoint.safetensors")
    split = np.where(kept, "test-system", "train")
    crystals.with_columns(crystal={"split": split}).save(folder / "data.npz")
    train.run(job("predictor", 2), folder)
    header = read_header(folder / "checkpoint.safetensors")
    assert header.metrics["n_test"] == kept.sum()
    # not even for the reference energies of the elements
    for name, tensor in tensors(folder / "checkpoint.safetensors").items():
        torch.testing.assert_close(tensor, alone[name], rtol=0, atol=0)


SHARDS = Path(__file__).parents[3] / "datasets" / "pseudodojo-pbe"


def test_a_predictor_learns_from_shards_of_another_grid(tmp_path):
    shards = load_shards(SHARDS)
    assert shards.atom_columns["dos"].shape[1:] == (2, 4, 201)
    learnt = shards.crystal_columns["split"] == "train"  # what is kept for tests may have elements of its own
    chosen = np.flatnonzero(learnt & (shards.n_atoms <= 2) & (shards.crystal_columns["gap"] > 0))[:16]
    few = shards[chosen]
    one = curves_of(few)
    assert (one.energies[0], one.energies[-1], one.sigma, one.meaning, one.zero) == (-20, 10, 0.3, "partition", "vbm")
    few.save(tmp_path / "data.npz")
    train.run(job("predictor", 1), tmp_path)
    header = read_header(tmp_path / "checkpoint.safetensors")
    assert (header.grid, header.sigma, header.meaning) == (DEFAULT_GRID, 0.3, "partition")
    found = predict.run(PredictJob(checkpoint="checkpoint.safetensors", crystals="data.npz"), tmp_path)
    predicted = curves_of(CrystalSet.load(tmp_path / found.output), column="predicted_dos")
    assert (predicted.meaning, predicted.energies[0], predicted.high) == ("partition", -10, 10)
    # a model of sums of projections does not continue with parts of the total, unless the sums are there
    parent = labelled(12)
    parent.save(tmp_path / "data.npz")
    train.run(job("predictor", 1, output="parent.safetensors"), tmp_path)
    assert read_header(tmp_path / "parent.safetensors").meaning == "projections"
    given = with_energies(parent, DEFAULT_GRID, 0.3, "partition")
    given.save(tmp_path / "data.npz")
    with pytest.raises(ContentError, match="learnt projections of the sites, but the data set holds a partition"):
        train.run(job("predictor", 1, parent="parent.safetensors"), tmp_path)
    given.with_columns(atom={"projections": 0.9 * parent.atom_columns["dos"]}).save(tmp_path / "data.npz")
    train.run(job("predictor", 1, parent="parent.safetensors"), tmp_path)
    assert read_header(tmp_path / "checkpoint.safetensors").meaning == "projections"


def test_a_denoiser_learns_channels_of_shards_and_elements_of_predicted_curves(tmp_path, crystals):
    """Curves by channel from shards, on energies of its own; predicted curves without channels bring elements and sizes."""
    shards = load_shards(SHARDS)
    learnt = shards.crystal_columns["split"] == "train"
    few = shards[np.flatnonzero(learnt & (shards.n_atoms <= 2))[:24]]
    few.save(tmp_path / "data.npz")
    with_energies(crystals, DEFAULT_GRID, 0.3, "partition").save(tmp_path / "pseudo.npz")
    architecture = SMALL["denoiser"] | {"stride": 3, "composition": 16}
    asked = {"architecture": architecture, "energies": [-20, 10, 301]}
    results = train.run(job("denoiser", 2, parameters=asked, pseudolabelled="pseudo.npz"), tmp_path)
    model, header = load_model(tmp_path / "checkpoint.safetensors")
    assert (header.grid.emin, header.grid.emax, header.grid.n) == (-20, 10, 301)
    assert {"C", "Si", "Ge"} < set(header.elements)
    assert header.architecture["max_atoms"] == max(few.n_atoms.max(), crystals.n_atoms.max())
    assert model.conditioning.channels.mean.abs().max() > 0.01
    assert 0 <= results.details["metrics"]["element_recall"] <= results.details["metrics"]["element_recall_20"] <= 1
    target = DosTarget(curves_of(few))
    asked_of_it = SampleParameters(steps=2, precision="float32", compositions={"count": 3})
    made = CrystalSet.concatenate(sample(model, target, asked_of_it, 1, range(4)))
    assert set(made.crystal_columns["proposal"].tolist()) <= {0, 1, 2}
    with pytest.raises(ValueError, match="energies are for a denoiser or a classifier"):
        job("predictor", 1, parameters={"energies": [-20, 10, 301]})
