"""Force fields: mace's own trainer, run on labels of ours; the file is one that mace's calculator loads."""

import json
import subprocess
import sys

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import ForceField, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.splits import split_by_system
from aiida_dosmatgen.engine.commands import train
from aiida_dosmatgen.engine.relaxation import forcefields
from aiida_dosmatgen.engine.training.forcefield import WORK_FOLDER, train_force_field

from ..labelled import labelled

pytest.importorskip("mace")


def job(epochs: int, batch_size: int = 4, **changes) -> TrainJob:
    parameters = {"model": "forcefield", "epochs": epochs, "batch_size": batch_size, "architecture": {"width": 8}}
    return TrainJob(dataset="data.npz", seed=1, parameters=parameters, **changes)


def mean_error(evaluator: forcefields.Evaluator, crystals: CrystalSet, fraction: float) -> float:
    """Return the error of energies, in eV/atom, on the crystals that a training with seed 1 holds out."""
    held_out = crystals[split_by_system(crystals, fraction, 1)[1]]
    error = evaluator.evaluate(held_out).energies - held_out.crystal_columns["energy"]
    return np.abs(error / held_out.n_atoms).mean()


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    return labelled(60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, crystals):
    """The folder of a training of ten epochs, its results, and the force field.

    The batch asked for is larger than the set, and has to become as large as that: the trainer leaves out what is not full.
    """
    folder = tmp_path_factory.mktemp("trained")
    crystals.save(folder / "data.npz")
    results = train.run(job(10, batch_size=64), folder)
    return folder, results, forcefields.load(ForceField(file="forcefield.model", sha256=results.output_sha256), folder)


@pytest.mark.slow
class TestTenEpochs:
    """Looks at the same training."""

    def test_a_force_field_is_trained_and_loads(self, trained, crystals):
        folder, results, evaluator = trained
        assert (results.finished, results.done, results.output) == (True, 10, "forcefield.model")
        assert {p.name for p in folder.iterdir()} == {"data.npz", "forcefield.model", "history.json"}
        assert set(results.details["metrics"]) >= {"energy_mae", "force_mae", "stress_mae", "n_held_out"}

        one = crystals[40]
        # the sign of the stress: the energy's derivative by an isotropic strain is that of the labels' convention
        step = 1e-4
        plus, minus = (evaluator.evaluate(one.replace(lattices=one.lattices * (1 + s))).energies[0] for s in (step, -step))
        got = evaluator.evaluate(one).stresses[0]
        assert np.trace(got) * one.volumes[0] == pytest.approx((plus - minus) / (2 * step), rel=1e-3, abs=1e-4)

    def test_energies_weigh_more_in_the_second_stage(self, trained, crystals):
        """The model is of that stage, even where an epoch of the first had a smaller loss by its own weights."""
        folder, results, evaluator = trained
        history = json.loads((folder / "history.json").read_text())
        assert results.details["best_epoch"] > 6
        assert history["validation_loss"][6] > history["validation_loss"][5]  # the same errors, weighed anew
        energy = history["validation_energy_mae"][results.details["best_epoch"] - 1]
        assert results.details["metrics"]["energy_mae"] == energy

        assert mean_error(evaluator, crystals, 0.1) == pytest.approx(energy, rel=1e-3)


SHORT_OF_MEMORY = """
import logging, resource, sys
from pathlib import Path
from aiida_dosmatgen.core.job import TrainJob
from aiida_dosmatgen.engine.commands import train

logging.basicConfig(level=logging.WARNING)
import mace.cli.run_train  # what the trainer needs before it begins
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak"))
resource.setrlimit(resource.RLIMIT_AS, (int(peak.split()[1]) * 1024 + 250_000_000, resource.RLIM_INFINITY))
folder = Path(sys.argv[1])
print(train.run(TrainJob.model_validate_json((folder / "job.json").read_text()), folder).done)
"""


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_memory_is_halved(tmp_path):
    """Its process may take 250 MB more than at its beginning, where the whole batch needs half as much again."""
    labelled(200).save(tmp_path / "data.npz")
    parameters = {"model": "forcefield", "epochs": 1, "batch_size": 150, "architecture": {"width": 32}}
    (tmp_path / "job.json").write_text(TrainJob(dataset="data.npz", seed=1, parameters=parameters).model_dump_json())
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "out of memory with 150 crystals at a time; continuing with 75" in done.stderr
    assert done.stdout.split()[-1] == "1"
    assert (tmp_path / "forcefield.model").is_file() and not (tmp_path / WORK_FOLDER).exists()


class Until:
    """A clock that has time until an epoch is done."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.done = epoch, 0

    def progress(self, done: int, note: str) -> None:
        self.done = done

    def allows(self, seconds: float = 0.0) -> bool:
        return self.done < self.epoch


@pytest.mark.slow
def test_a_training_is_taken_up_in_the_stage_that_it_had_reached(tmp_path, crystals):
    """Of 24 epochs the first 14 are the first stage's; it is stopped once in each, the first time as its time runs out."""
    output, record, epochs = tmp_path / "forcefield.model", tmp_path / "history.json", []
    crystals.save(tmp_path / "data.npz")
    results = train.run(job(24, runtime={"max_seconds": 1.0}), tmp_path)
    assert not results.finished
    assert output.stat().st_size > 10_000
    assert (tmp_path / WORK_FOLDER).is_dir()  # to be taken up
    epochs.append((results.details["best_epoch"], results.done, sha256_of(output)))

    clock = Until(16)
    outcome = train_force_field(crystals, job(24).parameters, 1, tmp_path, output, record, clock=clock, progress=clock.progress)
    assert not outcome.finished
    epochs.append((outcome.best_epoch, outcome.epochs, sha256_of(output)))

    results = train.run(job(24), tmp_path)
    assert results.finished and not (tmp_path / WORK_FOLDER).exists()
    epochs.append((results.details["best_epoch"], results.done, sha256_of(output)))

    (first, done, _), (second, later, _), (last, end, _) = epochs
    assert 1 <= done < 16 <= later < end == 24
    assert first <= 14 < min(second, last)
    assert len({model for _, _, model in epochs}) == 3
    assert json.loads(record.read_text())["epoch"] == list(range(1, 25))


@pytest.fixture(scope="module")
def meaningless(crystals) -> CrystalSet:
    """Forces without meaning: they are learnt by heart, so that the last epoch is not the best."""
    noise = np.random.default_rng(0).normal(scale=5, size=(len(crystals.numbers), 3))
    return crystals.with_columns(atom={"forces": noise})


@pytest.mark.slow
def test_the_last_epoch_is_kept_on_request(tmp_path, meaningless):
    meaningless.save(tmp_path / "data.npz")
    parameters = {**job(8).parameters.model_dump(), "validation_fraction": 0.3, "keep": "last"}
    results = train.run(TrainJob(dataset="data.npz", seed=1, parameters=parameters), tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    best = 4 + int(np.argmin(history["validation_loss"][4:]))  # four are the first stage's
    assert best < 7 and results.details["best_epoch"] == 8
    written = ForceField(file="forcefield.model", sha256=results.output_sha256)
    error = mean_error(forcefields.load(written, tmp_path), meaningless, 0.3)
    assert error == pytest.approx(history["validation_energy_mae"][7], rel=1e-3)
    assert error != pytest.approx(history["validation_energy_mae"][best], rel=1e-2)


@pytest.mark.slow
def test_patience_ends_the_first_stage_and_then_the_training(tmp_path, meaningless):
    meaningless.save(tmp_path / "data.npz")
    parameters = {**job(60).parameters.model_dump(), "validation_fraction": 0.3, "patience": 2}
    results = train.run(TrainJob(dataset="data.npz", seed=1, parameters=parameters), tmp_path)
    epochs = json.loads((tmp_path / "history.json").read_text())["epoch"]
    assert results.finished and results.details["best_epoch"] > 36
    assert len(epochs) < 40 and set(epochs) - set(range(1, 37))


def test_what_is_refused(tmp_path, crystals):
    crystals.save(tmp_path / "data.npz")
    with pytest.raises(ContentError, match="a force field is a MACE file"):
        train.run(job(1, output="model.safetensors"), tmp_path)
    with pytest.raises(ContentError, match="leave the parent out"):
        train.run(job(1, parent="data.npz"), tmp_path)
    columns = {k: v for k, v in crystals.crystal_columns.items() if k != "stress"}
    crystals.replace(crystal_columns=columns).save(tmp_path / "data.npz")
    with pytest.raises(ContentError, match="no column 'stress'"):
        train.run(job(1), tmp_path)
    crystals.with_columns(crystal={"energy": np.full(len(crystals), np.nan)}).save(tmp_path / "data.npz")
    with pytest.raises(ContentError, match="0 of 60 crystals have finite energies"):
        train.run(job(1), tmp_path)
    assert not (tmp_path / WORK_FOLDER).exists()
