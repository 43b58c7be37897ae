"""How many candidates a second, and how much memory: the table of the sampling benchmark.

Each row is a call of :func:`aiida_dosmatgen.engine.diffusion.sampler.sample`. On the CPU it runs in a process of its own,
because the peak of the resident memory can only be read for a process as a whole; what is counted is its growth from the time
when the model is loaded and has been used once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.sampler import sample

AT_ONCE = (1, 8, 64, 512)
SIZES = (2, 4, 8, 12)


class Row(NamedTuple):
    """One measurement: ``candidates`` crystals of ``n_atoms`` atoms, ``batch`` at a time."""

    checkpoint: str
    curve: np.ndarray
    n_atoms: int
    candidates: int
    batch: int
    parameters: SampleParameters
    device: str


def measure(row: Row) -> dict[str, Any]:
    """Return candidates per second and the peak of memory of one row."""
    torch.set_num_threads(1)
    model, _ = load_model(row.checkpoint, row.device)
    target = DosTarget(row.curve[None], "total")
    parameters = row.parameters.model_copy(update={"n_atoms": row.n_atoms})
    cuda = model.device.type == "cuda"

    def generate(count: int, steps: int) -> None:
        asked = parameters.model_copy(update={"steps": steps})
        for _ in sample(model, target, asked, 0, range(count), batch_size=row.batch):
            pass
        if cuda:
            torch.cuda.synchronize()

    generate(min(row.candidates, row.batch) if cuda else 1, 1)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        _forget_peak()
        before = _peak()
    start = time.perf_counter(), time.process_time()
    generate(row.candidates, parameters.steps)
    wall, core = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = (torch.cuda.max_memory_allocated() if cuda else _peak()) - before
    with FlopCounterMode(display=False) as counter:
        generate(1, 1)
    seconds = wall if cuda else core
    return {
        "device": row.device,
        "precision": parameters.precision,
        "n_atoms": row.n_atoms,
        "candidates": row.candidates,
        "batch": row.batch,
        "steps": parameters.steps,
        "candidates_per_second": row.candidates / seconds,
        "memory_MB": round(peak / 1e6, 1),
        "gflop_per_candidate": counter.get_total_flops() * parameters.steps / 1e9,
    }


def _peak() -> int:
    """Return the largest resident memory of this process since :func:`_forget_peak`, in bytes."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _forget_peak() -> None:
    """Give memory that is free back to the system, and start anew from what is left; only Linux can do that."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # if that fails, growth counts from an earlier peak
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def measure_each(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    """Measure rows one after another; those on the CPU each in a fresh process."""
    rows = list(rows)
    if rows and rows[0].device != "cpu":
        yield from map(measure, rows)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield from pool.imap(measure, rows, chunksize=1)


def matrix_rate(precision: str, device: str, n: int | None = None) -> float:
    """Return the rate of a large matrix product, in floating point operations a second."""
    n = n or (8192 if device.startswith("cuda") else 1024)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    cuda = a.device.type == "cuda"
    found = []
    for _ in range(6):
        start = time.perf_counter() if cuda else time.process_time()
        a @ b
        if cuda:
            torch.cuda.synchronize()
        found.append((time.perf_counter() if cuda else time.process_time()) - start)
    return 2 * n**3 / statistics.median(found[1:])


def table(
    checkpoint: Path,
    curve: np.ndarray,
    parameters: SampleParameters,
    device: str = "cpu",
    *,
    sizes: Iterable[int] = SIZES,
    at_once: Iterable[int] = AT_ONCE,
    precisions: Iterable[str] = ("float32", "bfloat16"),
) -> list[dict[str, Any]]:
    """Return one row for each precision, number of atoms and number of candidates, all of them in one batch.

    ``matrix_rate_fraction`` is the share of the measured rate of a large matrix product that the network's products reach.
    """
    rates = {precision: matrix_rate(precision, device) for precision in precisions}
    rows = [
        Row(str(checkpoint), curve, n, k, k, parameters.model_copy(update={"precision": precision}), device)
        for precision in rates
        for n in sizes
        for k in at_once
    ]
    found = []
    for result in measure_each(rows):
        done = result["gflop_per_candidate"] * 1e9 * result["candidates_per_second"]
        found.append({**result, "matrix_rate_fraction": done / rates[result["precision"]]})
    return found


def bounded_memory(
    checkpoint: Path, curve: np.ndarray, parameters: SampleParameters, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Return rows with ever more candidates at the same number at a time: their memory does not grow."""
    few = parameters.model_copy(update={"steps": 2})
    return list(measure_each(Row(str(checkpoint), curve, 4, k, 64, few, device) for k in (64, 512, 2048)))
