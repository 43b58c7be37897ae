"""A small network learns from a teacher: frames, their labels, the training, and what comes out of it."""

import hashlib

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import ForceField, FramesJob, FramesParameters, RelaxParameters, TrainJob, sha256_of
from aiida_dosmatgen.core.labelled.reserved import digest_of
from aiida_dosmatgen.core.labelled.splits import assign, systems_of
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.commands import frames as command
from aiida_dosmatgen.engine.commands import train
from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.relaxation import gather, relax
from aiida_dosmatgen.engine.relaxation.forcefields import load
from aiida_dosmatgen.engine.training.distillation.frames import Frames

pytest.importorskip("mace")

METALS = ["Al", "Cu", "Ag", "Au"]
SPLIT = {"system_fraction": 0.3, "prototype_fraction": 0.0, "final_fraction": 0.2, "seed": 0}


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    made = generate(METALS, 60, 0, max_atoms=6)
    return made.replace(crystal_columns={})


def test_frames_of_all_kinds(crystals):
    parameters = FramesParameters(count=200, max_atoms=6, elements=[*METALS, "Pd"])
    frames = Frames(crystals, parameters, 3).make(range(200))
    kinds = frames.crystal_columns["kind"]
    assert set(kinds.tolist()) == {"rest", "rattled", "strained", "scaled", "substituted", "soup", "close"}
    assert (closest_contacts(frames) > 0.5).all()
    palladium = np.unique(frames.crystal_of_atom[frames.numbers == 46])
    assert set(kinds[palladium].tolist()) <= {"substituted", "soup", "close"} and len(palladium) > 5
    some = Frames(crystals, parameters, 3).make(range(50, 60))
    assert some == frames[50:60]
    assert Frames(crystals, parameters, 4).make(range(50, 60)) != some


def test_each_crystal_once(crystals):
    shares = {"rest": 0, "rattled": 0, "strained": 0, "scaled": 0, "substituted": 0, "soup": 0, "close": 0, "each": 1}
    frames = Frames(crystals, FramesParameters(count=60, max_atoms=6, shares=shares), 0).make(range(60))
    assert (frames.n_atoms <= 6).all() and set(frames.crystal_columns["kind"].tolist()) == {"rest"}
    small = np.flatnonzero(crystals.n_atoms <= 6)
    np.testing.assert_allclose(frames.lattices[: len(small)], crystals.lattices[small])


def test_what_is_held_out_or_reserved_never_enters(crystals):
    parameters = FramesParameters(count=1, max_atoms=6, elements=METALS, split=SPLIT)
    held = np.unique([s for s, k in zip(systems_of(crystals), assign(crystals, 0.3, 0, 0, 0.2), strict=True) if k != "train"])
    reserved = next(s for s in systems_of(crystals) if s.count("-") == 1 and s not in held)
    made = Frames(crystals, parameters, 0, {digest_of(reserved)}).make(range(300))
    assert 100 < len(made) < 300
    assert not set(systems_of(made)) & {*held.tolist(), reserved}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crystals):
    """Frames of a teacher that computes in no time."""
    folder = tmp_path_factory.mktemp("distilled")
    crystals.save(folder / "crystals.npz")
    job = {
        "crystals": "crystals.npz", "count": 100, "seed": 1, "max_atoms": 6, "steps": 4,
        "force_field": {"calculator": "ase.calculators.emt:EMT"},
    }  # fmt: skip
    (folder / "frames.json").write_text(FramesJob(**job).model_dump_json())
    assert main(["frames", str(folder / "frames.json")]) == 0
    return folder


def test_labels_are_those_of_the_teacher(folder):
    frames = CrystalSet.load(folder / "frames.npz")
    assert len(frames) > 100  # of relaxations several
    teacher = load(ForceField(calculator="ase.calculators.emt:EMT"), folder)
    some = frames[:: len(frames) // 10]
    expected = teacher.evaluate(some.replace(crystal_columns={}, atom_columns={}))
    np.testing.assert_allclose(some.crystal_columns["energy"], expected.energies, atol=1e-8)
    np.testing.assert_allclose(some.atom_columns["forces"], expected.forces, atol=1e-8)
    np.testing.assert_allclose(some.crystal_columns["stress"], expected.stresses, atol=1e-10)
    assert np.linalg.norm(frames.atom_columns["forces"], axis=1).max() <= 40


def test_frames_are_never_computed_twice(folder, tmp_path, monkeypatch):
    job = FramesJob.model_validate_json((folder / "frames.json").read_text())
    (tmp_path / "crystals.npz").write_bytes((folder / "crystals.npz").read_bytes())
    hurried = job.model_copy(update={"runtime": job.runtime.model_copy(update={"max_seconds": 1e-6})})
    stopped = command.run(hurried, tmp_path)
    assert (stopped.finished, stopped.done) == (False, 50)
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "frames").glob("*.npz")}
    assert len(first) == 1
    assert command.run(job, tmp_path).finished
    assert {p: p.stat().st_mtime_ns for p in first} == first
    assert CrystalSet.load(tmp_path / "frames.npz") == CrystalSet.load(folder / "frames.npz")
    for line in (tmp_path / "frames" / command.SUMS).read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((tmp_path / "frames" / name).read_bytes()).hexdigest() == digest
    longer = command.run(job.model_copy(update={"count": 105}), tmp_path)  # more of them, the others stay
    assert longer.done == 105 and {p: p.stat().st_mtime_ns for p in first} == first


def student(
    epochs: int, dataset: str = "frames.npz", rate: float = 0.01, batched: dict | None = None, layers: int = 2, **changes
) -> TrainJob:
    parameters = {
        "model": "forcefield", "epochs": epochs, "batch_size": 8, "architecture": {"width": 16, "layers": layers},
        "learning_rate": rate, "batched": {"cutoff": 4.5, **(batched or {})},
    }  # fmt: skip
    return TrainJob(dataset=dataset, seed=1, parameters=parameters, **changes)


@pytest.fixture(scope="module")
def trained(folder):
    results = train.run(student(8), folder)
    return results, load(ForceField(file="forcefield.model", sha256=results.output_sha256), folder, dtype=torch.float64)


def test_the_student_follows_its_teacher(folder, trained):
    results, evaluator = trained
    assert results.finished and results.details["best_epoch"] >= 1
    frames = CrystalSet.load(folder / "frames.npz")
    rattled = frames[np.flatnonzero(frames.crystal_columns["kind"] == "rattled")]
    forces = rattled.atom_columns["forces"]
    found = evaluator.evaluate(rattled.replace(crystal_columns={}, atom_columns={}))
    assert np.abs(found.forces - forces).mean() < 0.5 * np.abs(forces).mean()
    per_atom = (found.energies - rattled.crystal_columns["energy"]) / rattled.n_atoms
    assert np.abs(per_atom).mean() < 0.15


def test_the_file_is_one_of_mace(folder, trained):
    from mace.calculators import MACECalculator

    _, evaluator = trained
    crystal = CrystalSet.load(folder / "frames.npz")[3].replace(crystal_columns={}, atom_columns={})
    atoms = crystal.to_ase()[0]
    atoms.calc = MACECalculator(model_paths=str(folder / "forcefield.model"), device="cpu", default_dtype="float64")
    found = evaluator.evaluate(crystal)
    assert atoms.get_potential_energy() == pytest.approx(found.energies[0], abs=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), found.forces, atol=1e-5)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), found.stresses[0], atol=1e-6)


def test_relaxations_with_it_end(trained, crystals):
    _, evaluator = trained
    relaxed = gather(crystals[:8], list(relax(crystals[:8], evaluator, RelaxParameters(max_steps=20))))
    assert np.isfinite(relaxed.crystal_columns["energy"]).all()


def test_a_stopped_training_ends_where_another_does(folder, tmp_path):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        CrystalSet.load(folder / "frames.npz")[:20].save(tmp_path / name / "frames.npz")
    job = student(3, layers=1)  # the construction of the network takes longer than its training
    whole = train.run(job, tmp_path / "once")
    hurried = job.model_copy(update={"runtime": job.runtime.model_copy(update={"max_seconds": 1e-6})})
    stopped = train.run(hurried, tmp_path / "twice")
    assert (stopped.finished, stopped.done) == (False, 1)
    resumed = train.run(job, tmp_path / "twice")
    assert resumed.finished and resumed.details["metrics"] == pytest.approx(whole.details["metrics"], abs=1e-5)


def test_fine_tuning_takes_another_zero_of_energy(folder, trained, tmp_path):
    """Labels of DFT: other energies of the elements, forces of their own, no stress."""
    results, evaluator = trained
    frames = CrystalSet.load(folder / "frames.npz")
    labels = frames[np.flatnonzero(frames.crystal_columns["kind"] == "rattled")]
    zeros = np.zeros(100)
    zeros[[13, 29, 47, 79]] = [-100.0, -2000.0, -500.0, -3000.0]
    energy = labels.crystal_columns["energy"] + np.bincount(labels.crystal_of_atom, weights=zeros[labels.numbers])
    labels = labels.replace(crystal_columns={"energy": energy}, atom_columns={"forces": 1.1 * labels.atom_columns["forces"]})
    labels.save(tmp_path / "labels.npz")
    frames[:40].save(tmp_path / "frames.npz")
    (tmp_path / "parent.model").write_bytes((folder / "forcefield.model").read_bytes())
    job = student(
        6, "labels.npz", 0.002, {"parent_sha256": results.output_sha256, "pseudo_weight": 0.1}, parent="parent.model",
        pseudolabelled="frames.npz",
    )  # fmt: skip
    tuned = train.run(job, tmp_path)
    assert tuned.details["parent_sha256"] == results.output_sha256
    assert tuned.details["metrics"]["n_pseudolabelled"] > 25
    after = load(ForceField(file="forcefield.model", sha256=tuned.output_sha256), tmp_path, dtype=torch.float64)
    bare = labels.replace(crystal_columns={}, atom_columns={})
    found, before = after.evaluate(bare), evaluator.evaluate(bare)
    assert np.abs((before.energies - energy) / labels.n_atoms).mean() > 50
    assert np.abs((found.energies - energy) / labels.n_atoms).mean() < 0.2
    target = labels.atom_columns["forces"]
    assert np.abs(found.forces - target).mean() < 0.5 * np.abs(target).mean()


def test_a_parent_is_trusted_by_its_hash(folder, trained, tmp_path, capsys):
    results, _ = trained
    (tmp_path / "parent.model").write_bytes((folder / "forcefield.model").read_bytes())
    (tmp_path / "frames.npz").write_bytes((folder / "frames.npz").read_bytes())
    with pytest.raises(ContentError, match="parent_sha256: " + sha256_of(tmp_path / "parent.model")):
        train.run(student(2, parent="parent.model"), tmp_path)
    job = student(2, parent="parent.model", batched={"parent_sha256": results.output_sha256})
    (tmp_path / "job.json").write_text(job.model_dump_json())
    assert main(["train", str(tmp_path / "job.json")]) == 2
    assert f"--trust {results.output_sha256}" in capsys.readouterr().err


def test_parents_that_do_not_fit(folder, trained, tmp_path):
    results, _ = trained
    (tmp_path / "parent.model").write_bytes((folder / "forcefield.model").read_bytes())
    CrystalSet.load(folder / "frames.npz")[:20].save(tmp_path / "frames.npz")
    sha256 = results.output_sha256
    with pytest.raises(ContentError, match="cutoff is 4.5"):
        train.run(student(1, parent="parent.model", batched={"parent_sha256": sha256, "cutoff": 5.0}), tmp_path)
    with pytest.raises(ContentError, match="another architecture"):
        train.run(student(1, parent="parent.model", batched={"parent_sha256": sha256, "correlation": 1}), tmp_path)
    foreign = CrystalSet.load(tmp_path / "frames.npz")
    foreign.replace(numbers=np.where(foreign.numbers == 29, 92, foreign.numbers)).save(tmp_path / "frames.npz")
    with pytest.raises(ContentError, match="does not know U"):
        train.run(student(1, parent="parent.model", batched={"parent_sha256": sha256}), tmp_path)
