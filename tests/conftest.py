"""Fixtures shared by the tests. Those that need an AiiDA profile ask for ``aiida_profile`` (sqlite, temporary)."""

import gc
import json
import os
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path

# Before numpy and torch are there: one thread for each process of the tests, and for what it starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import plumpy
import pytest
import sqlalchemy
from aiida.engine.runners import Runner

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.files import checksum
from aiida_dosmatgen.core.target import DosTarget

from . import processes

pytest_plugins = ["aiida.tools.pytest_fixtures"]

# No test cuts the power, and the thousands of small writes of profiles would wait for the disk longer than the tests compute.
os.fsync = lambda descriptor: None

# Builders describe all their ports in JSON, for docstrings that no test reads: an eighth of the time of files that build much.
plumpy.PortNamespace.__str__ = lambda self: f"{type(self).__name__}({self.name})"

# The runner of a test profile looks without a pause for what has ended, and takes the time from what is to end.
_make_runner = Runner.__init__
Runner.__init__ = lambda self, poll_interval=0, **settings: _make_runner(self, poll_interval or 0.02, **settings)


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _leave_it_to_the_system_when_to_write(connection, _):
    if type(connection).__module__ == "sqlite3":
        connection.execute("PRAGMA synchronous = OFF")


# No deadline for single examples: a busy machine is no failure.
hypothesis.settings.register_profile("dosmatgen", deadline=None)
hypothesis.settings.load_profile("dosmatgen")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for garbage only in what tests leave: what is imported stays, and looking through it takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put the slowest tests first, so that no process is left alone with one of them."""
    items.sort(key=lambda item: processes.place(item.nodeid.split("::")[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Choose what the processes of ``pytest -n`` get."""
    config.option.loadscopereorder = False
    return processes.Scheduling(config, log)


def pytest_terminal_summary(terminalreporter):
    """Count and name what was skipped, by reasons."""
    reasons, files = Counter(), {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        reasons[reason] += 1
        files.setdefault(reason, set()).add(report.nodeid.split("::")[0])
    if reasons:
        terminalreporter.section(f"{reasons.total()} tests were skipped")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:4}  {reason}: {', '.join(sorted(files[reason]))}")


@pytest.fixture
def crystals() -> CrystalSet:
    """Diamond-like silicon, zincblende SiC and a three-atom crystal."""
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return CrystalSet(
        [2, 2, 3],
        [14, 14, 14, 6, 5, 7, 7],
        [[0, 0, 0], [0.25, 0.25, 0.25]] * 2 + [[0, 0, 0], [0.4, 0.3, 0.5], [0.7, 0.6, 0.1]],
        np.stack([5.43 * fcc, 4.36 * fcc, np.diag([3.0, 4.0, 5.0])]),
    )


@pytest.fixture
def labelled(crystals) -> CrystalSet:
    """The same crystals with smooth made-up labels of the right shapes."""
    rng = np.random.default_rng(1)
    centres = rng.uniform(-8, 8, (len(crystals.numbers), 4, 1))
    dos = np.exp(-0.5 * ((DEFAULT_GRID.points - centres) / 0.5) ** 2).sum(1)
    return crystals.with_columns(
        crystal={
            "energy": -100.0 * crystals.n_atoms,
            "stress": rng.normal(size=(len(crystals), 3, 3)),
            "complete_below": np.full(len(crystals), 6.0),
        },
        atom={"forces": rng.normal(size=(len(crystals.numbers), 3)), "dos": dos.astype(np.float32)},
    )


@pytest.fixture
def target(labelled) -> DosTarget:
    """The per-site target of the second crystal."""
    crystal = labelled[1]
    return DosTarget(crystal.atom_columns["dos"], complete_below=float(crystal.crystal_columns["complete_below"][0]))


@pytest.fixture
def checkpoint_file(tmp_path):
    """Return a function that writes a checkpoint file: a valid header, and a few bytes for weights."""

    def write(kind="denoiser", name="checkpoint.safetensors", **changes):
        header = {
            "format": "dosmatgen-checkpoint",
            "version": 2,
            "kind": kind,
            "architecture": {"width": 16, "layers": 2, "frequencies": 4},
            "elements": ["B", "C", "N", "Si"],
            "grid": {"emin": -10.0, "emax": 10.0, "n": 400},
            "sigma": 0.3,
            "training": {
                "dataset_sha256": "0" * 64,
                "n_crystals": 3,
                "seed": 1,
                "epochs": 2,
                "parameters": {},
                "parent_sha256": None,
            },
            "metrics": {"loss": 0.5},
            "engine_version": "0",
            **changes,
        }
        tensors = {"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
        metadata = {"dosmatgen": json.dumps(header), checksum.KEY: checksum.PLACEHOLDER}
        text = json.dumps({"__metadata__": metadata, **tensors}).encode()
        path = tmp_path / name
        path.write_bytes(checksum.with_checksum(struct.pack("<Q", len(text)) + text + bytes(16)))
        return path

    return write


@pytest.fixture
def model_file(tmp_path):
    """A file that looks like a torch archive from outside, which is all that the AiiDA side ever looks at."""
    path = tmp_path / "mace.model"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mace/data.pkl", b"\x80\x02K\x01.")
        archive.writestr("mace/version", b"3\n")
    return path


@pytest.fixture
def make_job(aiida_profile, aiida_code, aiida_localhost):
    """Return a function that makes an unsubmitted CalcJob with a code ``dosmatgen`` on this machine."""
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager
    from aiida.plugins import CalculationFactory

    def make(kind, options=None, **inputs):
        code = aiida_code(
            "core.code.installed",
            label="dosmatgen",
            computer=aiida_localhost,
            filepath_executable=str(Path(sys.executable).with_name("dosmatgen")),
            default_calc_job_plugin=f"dosmatgen.{kind}",
        )
        process_class = CalculationFactory(f"dosmatgen.{kind}")
        inputs["metadata"] = {"options": {"device": "cpu", **(options or {})}}
        return instantiate_process(get_manager().get_runner(), process_class, code=code, **inputs)

    return make
