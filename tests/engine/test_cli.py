"""The executable: exit statuses, one line for bad input, and results that survive kills and time budgets."""

import json
import subprocess
import sys

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.fields import described
from aiida_dosmatgen.core.job import Results, Runtime, sha256_of
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.cli import main

from .small_denoiser import save_small_denoiser


@pytest.fixture
def folder(tmp_path):
    """A folder with a checkpoint, a target and a job of twelve candidates."""
    save_small_denoiser(tmp_path / "model.safetensors")
    energies = DEFAULT_GRID.points
    DosTarget(np.stack([np.exp(-((energies + 3) ** 2)), np.exp(-((energies + 6) ** 2))])).save(tmp_path / "target.npz")
    write(tmp_path)
    return tmp_path


def write(folder, **changes):
    job = {
        "kind": "sample",
        "checkpoint": "model.safetensors",
        "target": "target.npz",
        "seed": 3,
        "stop": 12,
        "parameters": {"steps": 4, "attempts": 1},
        "runtime": {"batch_size": 4, "device": "cpu"},
        **changes,
    }
    (folder / "job.json").write_text(json.dumps(job))


def sampled(folder):
    return CrystalSet.load(folder / "candidates.npz"), Results.load((folder / "results.json").read_text())


def test_sample_writes_candidates_and_then_the_results(folder):
    assert main(["sample", str(folder / "job.json")]) == 0
    crystals, results = sampled(folder)
    assert crystals.crystal_columns["candidate"].tolist() == list(range(12))
    assert crystals.n_atoms.tolist() == [2] * 12
    assert results.finished and results.done == results.of == 12
    assert results.output_sha256 == sha256_of(folder / "candidates.npz")
    assert results.details["checkpoint_sha256"] == sha256_of(folder / "model.safetensors")
    assert results.details["target_sha256"] == sha256_of(folder / "target.npz")
    assert (results.details["seed"], results.details["start"], results.details["stop"]) == (3, 0, 12)
    assert not list(folder.glob(".*"))


def test_range_and_batch_size_give_the_same_candidates(folder):
    main(["sample", str(folder / "job.json")])
    whole, _ = sampled(folder)
    assert main(["sample", str(folder / "job.json"), "--range", "5:8", "--batch-size", "1"]) == 0
    part, results = sampled(folder)
    assert results.of == 3 and part.crystal_columns["candidate"].tolist() == [5, 6, 7]
    np.testing.assert_allclose(part.lattices, whole[5:8].lattices, atol=1e-8)
    np.testing.assert_allclose(part.fractional, whole[5:8].fractional, atol=1e-8)


def test_time_budget_keeps_what_is_done_and_a_later_run_continues(folder, monkeypatch):
    main(["sample", str(folder / "job.json")])
    whole, _ = sampled(folder)
    (folder / "results.json").unlink()

    from aiida_dosmatgen.engine.commands import sample

    calls = []

    class ShortClock(sample.Clock):
        def allows(self, seconds=0.0):
            calls.append(1)
            return len(calls) <= 6  # four steps are one batch

    with monkeypatch.context() as patch:
        patch.setattr(sample, "Clock", ShortClock)
        assert main(["sample", str(folder / "job.json")]) == 3
    crystals, results = sampled(folder)
    assert not results.finished and results.done == len(crystals) == 4
    assert crystals == whole[:4]

    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(sample, "Clock", ShortClock)
        assert main(["sample", str(folder / "job.json")]) == 3
    assert sampled(folder)[1].done == 8  # the first four were not computed again
    assert main(["sample", str(folder / "job.json")]) == 0
    assert sampled(folder)[0] == whole


def test_parts_of_other_parameters_and_damaged_ones_are_not_used(folder):
    assert main(["sample", str(folder / "job.json")]) == 0
    first, _ = sampled(folder)
    (folder / "results.json").unlink()
    assert main(["sample", str(folder / "job.json"), "--max-seconds", "1e-9"]) == 3
    crystals, results = sampled(folder)
    assert results.done == len(crystals) == 0
    (part,) = folder.glob(".candidates.npz.parts/*")
    (part / "0-broken.npz").write_bytes(b"PK\x03\x04 truncated")
    write(folder, seed=4)
    assert main(["sample", str(folder / "job.json")]) == 0
    assert np.abs(sampled(folder)[0].lattices - first.lattices).max() > 1e-6
    write(folder)
    assert main(["sample", str(folder / "job.json")]) == 0
    assert sampled(folder)[0] == first


def test_unconditional_with_sizes(folder):
    write(folder, target=None, parameters={"steps": 2, "n_atoms": [1, 3]})
    assert main(["sample", str(folder / "job.json")]) == 0
    assert sampled(folder)[0].n_atoms.tolist() == [1, 3] * 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "target.npz"}, "target.npz"),
        ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"target": "model.safetensors"}, "model.safetensors"),
        ({"target": None, "parameters": {"n_atoms": {"max": 99}}}, "knows crystals of up to"),
        ({"start": 12}, "start"),
        ({"seeed": 3}, "seeed: unknown key"),
        ({"parameters": {"steps": 0}}, "parameters.steps"),
        ({"parameters": {"n_atoms": 5}}, "2 sites"),
        ({"runtime": {"device": "abacus"}}, "abacus"),
        ({"kind": "predict"}, "job.json"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, capsys, changes, message):
    (folder / "results.json").write_text("{}")
    write(folder, **changes)
    assert main(["sample", str(folder / "job.json")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("dosmatgen: error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_a_refused_job_leaves_no_end_marker(folder):
    (folder / "results.json").write_text("{}")
    write(folder, checkpoint="nowhere.safetensors")
    assert main(["sample", str(folder / "job.json")]) == 2
    assert not (folder / "results.json").exists()


@pytest.mark.parametrize("text", ["5", "8:5", "a:b", "-1:3"])
def test_bad_ranges_are_refused(folder, capsys, text):
    with pytest.raises(SystemExit) as exit_:
        main(["sample", str(folder / "job.json"), f"--range={text}"])
    assert exit_.value.code == 2
    assert "A:B" in capsys.readouterr().err


def test_prototypes(tmp_path, capsys):
    output = tmp_path / "crystals.npz"
    arguments = ["prototypes", "--elements", "Si C", "--count", "50", "--seed", "1", "-o", str(output)]
    assert main(arguments) == 0
    crystals = CrystalSet.load(output).check()
    assert len(crystals) == 50 and set(crystals.numbers) == {6, 14}
    assert main([*arguments[:2], "Si Xx", *arguments[3:]]) == 2
    assert "Xx" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sample", "label"])
def test_each_job_has_an_option_for_each_field_of_its_runtime(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name in Runtime.model_fields:
        assert f"--{name.replace('_', '-')} " in told and described(Runtime, name) in told


def test_the_command_line_starts_without_torch_and_pydantic():
    slow = "{'torch', 'pydantic', 'numpy'}"
    code = f"import sys, aiida_dosmatgen.engine.cli as c; c.parser(); sys.exit(bool({slow} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
