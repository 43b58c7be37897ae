"""Candidates of both branches, and the time that they take: ours and the reference in turns."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import reference
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.engine.diffusion.candidates import condition_on
from aiida_dosmatgen.engine.diffusion.condition import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.sampler import decoded
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve
from aiida_dosmatgen.engine.diffusion.steering.guidance import Guidance, make

from .targets import Batch

TIMED_STEPS = 20  # of a reference that is timed only
_STRIDE = 10_000  # candidates of one target are numbered from a multiple of it


class _Enough(Exception):
    """Ends a reference run that is timed only."""


@torch.no_grad()
def generate(
    model: Denoiser,
    batch: Batch,
    parameters: SampleParameters,
    guide: Callable[[Condition, torch.Tensor], Guidance],
    turn: int = 0,
    each_step: Callable[[], None] = lambda: None,
) -> CrystalSet:
    """Return the candidates of a batch; those of turn k are ``k·candidates`` and following.

    The same as :func:`aiida_dosmatgen.engine.diffusion.sampler.sample` for each target, but for several targets in one batch.
    """
    n = batch.n_atoms
    conditions = [condition_on(target, model, batch.candidates, n) for _, target in batch.targets]
    joined = Condition(**{f.name: torch.cat([getattr(c, f.name) for c in conditions]) for f in dataclasses.fields(Condition)})
    numbers = [_STRIDE * i + turn * batch.candidates + k for i, _ in batch.targets for k in range(batch.candidates)]
    noise = Noise([generator_of(batch.seed, i) for i in numbers], n, len(model.elements), model.dtype, model.device)
    guidance = guide(joined, torch.ones(len(batch), n, dtype=torch.bool, device=model.device))
    names = ("steps", "sampler", "corrector_steps", "coordinate_power")
    settings: dict[str, Any] = {name: getattr(parameters, name) for name in names}
    types, fractional, lattices = decoded(model, solve(model, guidance, noise, each_step=each_step, **settings))
    z = np.array([ATOMIC_NUMBERS[symbol] for symbol in model.elements])
    columns = {"candidate": np.array(numbers), "target": np.array(numbers) // _STRIDE}
    return CrystalSet(np.full(len(batch), n), z[types].ravel(), fractional.reshape(-1, 3), lattices, columns)


def timed(model: Denoiser, batch: Batch, parameters: SampleParameters, turn: int = 0) -> tuple[float, CrystalSet]:
    """Return the core-seconds of a run of ours, and its candidates."""
    start = time.process_time()
    crystals = generate(model, batch, parameters, lambda c, mask: make(model, None, c, mask, parameters), turn)
    return time.process_time() - start, crystals


@dataclasses.dataclass
class Comparison:
    """What one batch took and gave.

    :param ours: core-seconds of each run of ours.
    :param reference: core-seconds of the reference, from each of its parts; all steps.
    """

    batch: Batch
    ours: list[float]
    reference: list[float]
    crystals: list[CrystalSet]
    crystals_reference: CrystalSet | None


def compare(ours: Denoiser, other: Denoiser, batch: Batch, parameters: SampleParameters, turns: int, whole: bool) -> Comparison:
    """Run the reference for one batch, and ours as often as ``turns`` in between.

    :param whole: whether the reference runs to its end; if not, for ``TIMED_STEPS`` steps only.
    """
    scheme = reference.SAMPLING
    steps = scheme.steps if whole else TIMED_STEPS
    turns = min(turns, steps)
    marks = [round(steps * (k + 1) / turns) for k in range(turns)]
    timed(ours, batch, parameters.model_copy(update={"steps": 2}))  # warm
    with torch.no_grad():
        warm = scheme.model_copy(update={"steps": 2})
        generate(other, batch, warm, lambda c, mask: reference.TwoCalls(other, c, mask))

    found = Comparison(batch, [], [], [], None)
    done, last = 0, 0
    begin = time.process_time()

    def take_turns() -> None:
        nonlocal begin, last
        found.reference.append((time.process_time() - begin) * scheme.steps / (done - last))
        seconds, crystals = timed(ours, batch, parameters, len(found.ours))
        found.ours.append(seconds)
        found.crystals.append(crystals)
        last, begin = done, time.process_time()

    def each_step() -> None:
        nonlocal done
        if done in marks[:-1] or (done == steps and not whole):
            take_turns()
        if done == steps:
            raise _Enough
        done += 1

    try:
        found.crystals_reference = generate(
            other, batch, scheme, lambda c, mask: reference.TwoCalls(other, c, mask), each_step=each_step
        )
        take_turns()
    except _Enough:
        pass
    return found


def again(
    model: Denoiser, batches: list[Batch], parameters: SampleParameters, turns: int, **changes: Any
) -> tuple[float, list[CrystalSet]]:
    """Return the median core-seconds of all batches with other parameters, and the candidates of all turns."""
    changed = parameters.model_copy(update=changes)
    runs = [[timed(model, batch, changed, turn) for turn in range(turns)] for batch in batches]
    return sum(statistics.median(s for s, _ in run) for run in runs), [crystals for run in runs for _, crystals in run]
