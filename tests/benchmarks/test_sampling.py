"""The sampling benchmark: what it compares is what it says, and its command gives the result in its smallest form."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID, DEFAULT_SIGMA
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader
from aiida_dosmatgen.core.job import SampleParameters, sha256_of
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import save_model
from aiida_dosmatgen.engine.diffusion.candidates import condition_on
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser, State
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.diffusion.steering.guidance import ClassifierFree, make
from aiida_dosmatgen.engine.training.dataset import hash_of

from ..shards import SHARDS, needs_shards

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ELEMENTS = "B C N O Si Ga Ge As".split()
SMALL = {"width": 16, "layers": 1, "frequencies": 2}


@pytest.fixture
def modules(monkeypatch):
    """Import the scripts as modules, with a reference that takes no time."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import reference
    import sampling
    from sampling_report import comparison, distances, targets

    monkeypatch.setattr(reference, "ARCHITECTURE", SMALL)
    monkeypatch.setattr(reference, "SAMPLING", reference.SAMPLING.model_copy(update={"steps": 6}))
    monkeypatch.setattr(comparison, "TIMED_STEPS", 2)
    yield reference, sampling, (comparison, distances, targets)
    for name in [n for n in sys.modules if n in ("reference", "sampling", "throughput") or n.startswith("sampling_report")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A part of the labels over the periodic table, with the splits; to read all of them takes two seconds each time."""
    path = tmp_path_factory.mktemp("set") / "labelled.npz"
    load_shards(SHARDS)[::8].save(path)
    return path


def denoiser(seed: int) -> Denoiser:
    torch.manual_seed(seed)
    model = Denoiser(ELEMENTS, DEFAULT_GRID, **SMALL, max_atoms=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.lattices.mean[0] = np.log(10) / 3
    model.lattices.std.fill_(0.05)
    return model.eval()


def targets() -> list[DosTarget]:
    rng = np.random.default_rng(0)
    return [DosTarget(rng.random((n, DEFAULT_GRID.n))) for n in (2, 3, 2)]


def saved(path: Path, dataset: Path, seed: int = 1, fraction: float = 0.1) -> Path:
    training = TrainingHeader(
        dataset_sha256=hash_of(dataset, "data set"),
        n_crystals=330,
        seed=seed,
        epochs=1,
        parameters={"validation_fraction": fraction},
    )
    header = CheckpointHeader(
        kind="denoiser", architecture={**SMALL, "max_atoms": 4}, elements=ELEMENTS, grid=DEFAULT_GRID, sigma=DEFAULT_SIGMA,
        training=training, engine_version="0",
    )  # fmt: skip
    save_model(path, denoiser(seed), header)
    return path


def test_candidates_of_several_targets_in_a_batch_are_those_of_the_sampler(modules):
    *_, (comparison, _, asked) = modules
    model, parameters = denoiser(0).double(), SampleParameters(steps=5, attempts=1)
    pairs, threes = asked.batches_of(targets(), candidates=2, seed=7)
    assert [(i, b.n_atoms) for b in (pairs, threes) for i, _ in b.targets] == [(0, 2), (2, 2), (1, 3)]
    for turn in (0, 1):
        _, found = comparison.timed(model, pairs, parameters, turn)
        for target in (0, 2):
            numbers = [10_000 * target + 2 * turn + k for k in range(2)]
            (alone,) = sample(model, targets()[target], parameters, 7, numbers)
            together = found[np.flatnonzero(found.crystal_columns["target"] == target)]
            assert together.crystal_columns["candidate"].tolist() == numbers
            np.testing.assert_array_equal(together.numbers, alone.numbers)
            np.testing.assert_allclose(together.fractional, alone.fractional, atol=1e-8)
            np.testing.assert_allclose(together.lattices, alone.lattices, atol=1e-8)


def test_two_calls_say_what_one_stacked_call_says(modules):
    reference, *_ = modules
    model = denoiser(1).double()
    condition, mask = condition_on(targets()[0], model, 3, 2), torch.ones(3, 2, dtype=torch.bool)
    draw = torch.Generator().manual_seed(0)
    shapes = ((3, 2, len(ELEMENTS)), (3, 2, 3), (3, 6))
    state = State(*(torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes))
    t = torch.full((3,), 0.4, dtype=torch.float64)
    stacked = ClassifierFree(model, condition, mask, 1.0)(state, t)
    conditional = ClassifierFree(model, condition, mask, 0.0)(state, t)
    for one, two, unguided in zip(stacked, reference.TwoCalls(model, condition, mask)(state, t), conditional, strict=True):
        torch.testing.assert_close(one, two)
        assert not torch.allclose(one, unguided)


@pytest.mark.parametrize("whole", [True, False])
def test_ours_takes_turns_with_the_reference(modules, whole):
    reference, _, (comparison, _, asked) = modules
    ours, other, parameters = denoiser(0), denoiser(1), SampleParameters(steps=3, precision="float32", attempts=1)
    (batch,) = asked.batches_of(targets()[:1], candidates=2, seed=0)
    found = comparison.compare(ours, other, batch, parameters, 2, whole)
    assert len(found.ours) == len(found.reference) == len(found.crystals) == 2
    assert min(found.ours + found.reference) > 0
    (first,) = sample(ours, targets()[0], parameters, 0, [0, 1])
    np.testing.assert_allclose(found.crystals[0].fractional, first.fractional, atol=1e-4)
    if whole:  # ours in between has changed nothing of it
        undisturbed = comparison.generate(
            other, batch, reference.SAMPLING, lambda c, m: make(other, None, c, m, reference.SAMPLING)
        )
        np.testing.assert_allclose(found.crystals_reference.fractional, undisturbed.fractional, atol=1e-3)
    else:
        assert found.crystals_reference is None


def test_candidates_without_a_prediction_count_as_the_worst(modules):
    *_, (_, distances, _) = modules
    yes = np.ones(4, dtype=bool)
    evaluated = distances.Evaluated(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, np.nan, 0.2]), yes, ~yes)
    found = distances.summary(evaluated, worst=0.5)
    assert found["mean"] == pytest.approx((0.3 + 0.3) / 2)
    assert found["best"] == pytest.approx((0.1 + 0.2) / 2)
    assert (found["failed"], found["candidates_per_target"]) == (1, 2)
    assert (found["composition"], found["valid"]) == (1.0, 0.0)


def run(sampling, monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["sampling.py", *arguments])
    threads = torch.get_num_threads()
    try:
        sampling.main()
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


@needs_shards
def test_command_gives_the_result_as_its_last_line(modules, dataset, monkeypatch, capsys, tmp_path):
    _, sampling, _ = modules
    ours, other = (saved(tmp_path / f"{name}.safetensors", dataset) for name in ("ours", "other"))
    arguments = [
        "--dataset",
        str(dataset),
        "--checkpoint",
        str(ours),
        "--quick",
        "--targets",
        "2",
        "--candidates",
        "2",
        "--steps",
        "3",
        "--sweep",
        "2",
        "4",
    ]
    out = run(sampling, monkeypatch, capsys, *arguments, "--reference", str(other), "--no-table")
    result = json.loads(out.splitlines()[-1])
    assert result["ratio"] > 0
    assert 0 < result["dos_distance"] < 2 and 0 < result["dos_distance_reference"] < 2
    assert result["targets"] == 2 and result["turns"] == 2
    assert [row["sampler"] for row in result["sweep"]] == ["ode, 2 steps", "ode, 4 steps"]
    assert result["machine"]["checkpoint_sha256"] == sha256_of(ours) and not result["reference_extrapolated"]
    out = run(sampling, monkeypatch, capsys, *arguments, "--reference", str(tmp_path / "none"), "--no-table", "--json")
    result = json.loads(out)
    assert result["reference_extrapolated"] and result["dos_distance_reference"] is None


@needs_shards
def test_models_that_have_seen_the_targets_are_refused(modules, dataset, monkeypatch, capsys, tmp_path):
    _, sampling, _ = modules
    crystals = CrystalSet.load(dataset)
    crystals = crystals.replace(crystal_columns={k: v for k, v in crystals.crystal_columns.items() if k != "split"})
    dataset = tmp_path / "undivided.npz"
    crystals.save(dataset)
    other = saved(tmp_path / "other.safetensors", dataset)
    for name, changed in (("all", {"fraction": 0.0}), ("seed", {"seed": 2})):
        path = saved(tmp_path / f"{name}.safetensors", dataset, **changed)
        given = ["--dataset", str(dataset), "--checkpoint", str(path), "--reference", str(other)]
        with pytest.raises(SystemExit, match="held out|hold out"):
            run(sampling, monkeypatch, capsys, "--quick", "--no-table", *given)
