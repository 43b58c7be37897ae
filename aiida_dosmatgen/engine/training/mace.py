"""MACE's own trainer as a process: start it, watch it, stop it at the time limit, read its files.

It sets global state of torch, and a process can be stopped. What it has reached is on disk as its checkpoints; from the best of
them the model is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from ase.units import GPa

from ..memory import NO_MEMORY

NAME = "forcefield"
"""What the trainer calls its model; its files begin with it."""

_SECONDS_TO_WRITE = 45.0  # to start the trainer once more and let it write the model


class Clock(Protocol):
    """The time that is left."""

    def allows(self, seconds: float = 0.0) -> bool:
        """Say whether something that takes so many seconds still fits."""


@contextlib.contextmanager
def trainer(arguments: list[str], work: Path, gpu: int | None) -> Iterator[subprocess.Popen]:
    """Run mace's trainer in a folder; it is gone when the context ends.

    :param gpu: which GPU; the trainer has no option for that, and sees this one only.
    """
    for second in (False, True):
        for path in checkpoints(work, second):
            if not zipfile.is_zipfile(path):  # the trainer was stopped while it wrote it
                path.unlink()
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore"}
    if gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu) if visible is None else visible.split(",")[gpu]
    with open(work / "trainer.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mace.cli.run_train", *arguments],
            cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                if process.poll() is None:
                    process.kill()
            process.wait()


def watch(process: subprocess.Popen, record: Path, work: Path, clock: Clock, progress: Callable[[int, str], None]) -> bool:
    """Wait for the trainer, and stop it when time is up; return whether it was stopped."""
    shown = 0
    while process.poll() is None:
        time.sleep(0.5)
        history = read_history(record)
        if history["epoch"] and history["epoch"][-1] > shown:
            shown = history["epoch"][-1]
            progress(shown, f"validation {history['validation_loss'][-1]:.4g}")
            for second in (False, True):  # the trainer reads one of each stage at its end
                for path in checkpoints(work, second)[:-2]:
                    path.unlink()
        # without a checkpoint there would be nothing to write a model from
        if not clock.allows(_SECONDS_TO_WRITE) and any((work / "checkpoints").glob("*.pt")):
            process.send_signal(signal.SIGTERM)
            process.wait()
            return True
    return False


def read_history(record: Path) -> dict[str, list]:
    """Read the trainer's record of the validation errors: loss, eV/atom, eV/Å, GPa."""
    history: dict[str, list] = {"epoch": [], "validation_loss": []}
    units = {"energy_mae": ("mae_e_per_atom", 1.0), "force_mae": ("mae_f", 1.0), "stress_mae": ("mae_stress", 1 / GPa)}
    history |= {f"validation_{name}": [] for name in units}
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line, while it is being written
        if entry.get("mode") != "eval" or entry.get("epoch") is None:
            continue
        while history["epoch"] and history["epoch"][-1] > entry["epoch"]:  # the trainer continues from its best epoch
            for values in history.values():
                values.pop()
        history["epoch"].append(entry["epoch"] + 1)
        history["validation_loss"].append(entry["loss"])
        for name, (key, unit) in units.items():
            history[f"validation_{name}"].append(entry[key] * unit)
    return history


def best_epoch(work: Path) -> int:
    """Return the epoch of the weights that the trainer writes, counted from one: its last checkpoint's."""
    last = [*checkpoints(work, second=False), *checkpoints(work, second=True)][-1]
    return 1 + _epoch_of(last)


def checkpoints(work: Path, second: bool) -> list[Path]:
    """Return the checkpoints of one of the two stages, the latest last."""
    found = (work / "checkpoints").glob(f"{NAME}_run-*_epoch-*.pt")
    return sorted((path for path in found if path.stem.endswith("_swa") == second), key=_epoch_of)


def _epoch_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removesuffix("_swa").rpartition("-")[2])


def nothing_left(arguments: list[str], work: Path) -> list[str]:
    """Return arguments with which the trainer, taking up a training in a folder, has no epoch left to do."""
    second = bool(checkpoints(work, second=True))
    # the last of an option's values counts; a second stage has to begin before the last epoch
    return [*arguments, "--start_swa", "0", "--max_num_epochs", "1"] if second else [*arguments, "--max_num_epochs", "0"]


def lacked_memory(path: Path) -> bool:
    """Say whether the trainer, which logs in a file, ended because there was no memory left."""
    last = last_line(path)
    return any(text in last for text in NO_MEMORY)


def last_line(path: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
