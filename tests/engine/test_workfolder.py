"""Two runs in one folder, runs that were killed, and runs whose results are cached: with the real executable."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import Results, load_job
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.workfolder import LOCK, cached_results, exclusive_lock, fingerprint, restore

from .small_denoiser import save_small_denoiser

COMMAND = [sys.executable, "-m", "aiida_dosmatgen.engine.cli", "sample", "job.json"]
PARTS = ".candidates.npz.parts"


N_CANDIDATES = 24
FILES = ("model.safetensors", "target.npz", "job.json")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a checkpoint, a target and a job of 24 candidates in six batches."""
    folder = tmp_path_factory.mktemp("prepared")
    save_small_denoiser(folder / "model.safetensors")
    energies = DEFAULT_GRID.points
    DosTarget(np.stack([np.exp(-((energies + 3) ** 2)), np.exp(-((energies + 6) ** 2))])).save(folder / "target.npz")
    job = {
        "kind": "sample", "checkpoint": "model.safetensors", "target": "target.npz", "seed": 3,
        "stop": N_CANDIDATES, "parameters": {"steps": 8, "attempts": 1},
        "runtime": {"batch_size": 4, "device": "cpu", "threads": 1},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A folder of its own for each test, in which nothing has run."""
    return copy(prepared, tmp_path / "first")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True)


def copy(folder: Path, other: Path) -> Path:
    """Return a folder with the same job in which nothing has run."""
    other.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copy(folder / file, other)
    return other


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def start_a_long_one(folder: Path, n_parts: int) -> subprocess.Popen:
    """Start the job and return when it has written some batches.

    What runs has 400 candidates, so that it is far from its end then. The first of them are those of the job, and the folder
    has that again.
    """
    text = (folder / "job.json").read_text()
    (folder / "job.json").write_text(json.dumps({**json.loads(text), "stop": 400}))
    process = start(folder)
    wait_for(lambda: len(list(folder.glob(f"{PARTS}/*/*.npz"))) >= n_parts, process)
    (folder / "job.json").write_text(text)
    return process


def candidates(folder: Path) -> CrystalSet:
    results = Results.load((folder / "results.json").read_text())
    assert results.finished and results.done == N_CANDIDATES
    return CrystalSet.load(folder / "candidates.npz")


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """The candidates of a run that nothing disturbed, in a folder of its own."""
    other = copy(prepared, tmp_path_factory.mktemp("whole"))
    assert main(["sample", str(other / "job.json")]) == 0
    return candidates(other)


def test_of_two_runs_at_once_one_computes(folder, whole):
    processes = [start(folder), start(folder)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("has the results of this job already" in error for error in errors) == [False, True]
    assert candidates(folder) == whole
    assert not (folder / LOCK).exists()


def test_a_waiting_run_goes_on_when_the_other_is_killed(folder, whole):
    first = start_a_long_one(folder, 1)
    first.send_signal(signal.SIGSTOP)  # it keeps the lock, and cannot end before the other waits
    second = start(folder)
    assert "waiting for its end" in second.stderr.readline()
    first.kill()
    assert second.communicate() is not None and second.returncode == 0
    assert candidates(folder) == whole


def test_a_run_does_not_wait_longer_than_its_time(folder):
    with exclusive_lock(folder):
        process = start(folder, "--max-seconds", "0.2")
        assert process.wait() == 2
        assert f"another run of dosmatgen works in {folder}" in process.stderr.read()


def test_a_killed_run_is_taken_over_in_another_folder(folder, whole):
    process = start_a_long_one(folder, 4)
    process.kill()
    process.wait()
    assert not (folder / "results.json").exists()
    part = next(folder.glob(f"{PARTS}/*/0-*.npz"))
    marked = CrystalSet.load(part)
    marked.replace(lattices=2 * marked.lattices).save(part)  # to see that it is taken, and not computed again
    other = copy(folder, folder.parent / "second")
    assert main(["sample", str(other / "job.json"), "--continue-from", str(folder)]) == 0
    found = candidates(other)
    rows = np.isin(found.crystal_columns["candidate"], marked.crystal_columns["candidate"])
    assert rows.sum() == len(marked) == 4
    np.testing.assert_array_equal(found.lattices[rows], 2 * whole.lattices[rows])
    np.testing.assert_array_equal(found.lattices[~rows], whole.lattices[~rows])


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_full_disk_costs_nothing_that_is_finished(folder, whole, small_disk):
    copy(folder, small_disk)
    usage = shutil.disk_usage(small_disk)
    (small_disk / "others").write_bytes(bytes(usage.free - 20_000))
    process = start(small_disk)
    _, stderr = process.communicate()
    assert process.returncode == 4
    assert stderr.splitlines()[-1].startswith("dosmatgen: interrupted: No space left on device in ")
    kept = {path: path.stat().st_mtime_ns for path in small_disk.glob(f"{PARTS}/*/*.npz")}
    assert kept and not (small_disk / "results.json").exists()
    assert not list(small_disk.rglob("*.partial"))

    (small_disk / "others").unlink()
    process = start(small_disk)
    assert process.wait() == 0, process.stderr.read()
    assert candidates(small_disk) == whole


def test_missing_restart_files_are_no_error(folder, whole):
    assert main(["sample", str(folder / "job.json"), "--continue-from", str(folder.parent / "nowhere")]) == 0
    assert candidates(folder) == whole


def test_taking_over_keeps_what_is_here(tmp_path):
    for name in ("source", "here"):
        (tmp_path / name / "parts").mkdir(parents=True)
        (tmp_path / name / "parts" / "a").write_text(name)
        (tmp_path / name / "state").write_text(name)
    (tmp_path / "here" / "state").unlink()
    restore(tmp_path / "source", tmp_path / "here", ["parts", "state", "missing"])
    assert (tmp_path / "here" / "parts" / "a").read_text() == "here"
    assert (tmp_path / "here" / "state").read_text() == "source"
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["parts", "state"]


def test_an_answer_counts_only_for_the_same_job_and_a_whole_output(folder):
    job_file, results = folder / "job.json", folder / "results.json"
    write = json.loads(job_file.read_text())
    job_file.write_text(json.dumps({**write, "stop": 8}))
    assert main(["sample", str(job_file)]) == 0
    answer = fingerprint(load_job(job_file), folder)
    assert cached_results(results, answer).done == 8

    for changes in ({"seed": 4}, {"stop": 9}, {"parameters": {"steps": 9, "attempts": 1}}):
        job_file.write_text(json.dumps({**write, "stop": 8, **changes}))
        assert cached_results(results, fingerprint(load_job(job_file), folder)) is None
    job_file.write_text(json.dumps({**write, "stop": 8, "runtime": {"batch_size": 7, "max_seconds": 100}}))
    assert cached_results(results, fingerprint(load_job(job_file), folder))  # how it runs does not change what comes out

    target = (folder / "target.npz").read_bytes()
    DosTarget(np.ones((2, 400))).save(folder / "target.npz")
    assert cached_results(results, fingerprint(load_job(job_file), folder)) is None
    (folder / "target.npz").write_bytes(target)
    assert cached_results(results, fingerprint(load_job(job_file), folder))

    output = (folder / "candidates.npz").read_bytes()
    (folder / "candidates.npz").write_bytes(output[:-1])
    assert cached_results(results, answer) is None
    (folder / "candidates.npz").write_bytes(output)
    results.write_text(results.read_text()[:-20])
    assert cached_results(results, answer) is None


def test_files_of_a_force_field_count(tmp_path):
    (tmp_path / "job.json").write_text(
        json.dumps({"kind": "relax", "crystals": "crystals.npz", "force_field": {"file": "forcefield.model"}})
    )
    job = load_job(tmp_path / "job.json")
    assert job.input_files() == ["crystals.npz", "forcefield.model"]
    first = fingerprint(job, tmp_path)
    (tmp_path / "forcefield.model").write_bytes(b"another")
    assert fingerprint(job, tmp_path) != first


def test_the_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(ContentError, match="mine"), exclusive_lock(tmp_path):
        raise ContentError("mine")
    with exclusive_lock(tmp_path, patience=0) as waited:
        assert waited < 60
