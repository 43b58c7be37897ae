"""Candidates of many targets at a time.

Each is the one that :func:`aiida_dosmatgen.engine.diffusion.sampler.sample` gives for its target.
Candidate k of target i has the number 10,000·i + k.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from aiida_dosmatgen.core.constraints.constraints import resolve
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS
from aiida_dosmatgen.engine.diffusion.candidates import condition_on
from aiida_dosmatgen.engine.diffusion.classifier import Classifier
from aiida_dosmatgen.engine.diffusion.condition import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.sampler import attempted, decoded
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve
from aiida_dosmatgen.engine.diffusion.steering.constraints import Constrained
from aiida_dosmatgen.engine.diffusion.steering.guidance import make

from .modes import Mode

STRIDE = 10_000


class Models(NamedTuple):
    """What samples, and the hashes of its files."""

    denoiser: Denoiser
    classifier: Classifier | None
    hashes: tuple[str, str]


def batch(models: Models, mode: Mode, n_atoms: int, members: list[int], seed: int) -> CrystalSet:
    """Generate candidates of equal size, whatever targets they belong to."""
    return attempted(members, mode.parameters, lambda some, purpose: _draw(models, mode, n_atoms, some, seed, purpose))


@torch.no_grad()
def _draw(models: Models, mode: Mode, n_atoms: int, members: list[int], seed: int, purpose: str) -> CrystalSet:
    model, parameters = models.denoiser, mode.parameters
    wishes = [mode.wishes[i // STRIDE] for i in members]
    conditions = {id(w): condition_on(w.target, model, 1, n_atoms) for w in wishes}
    names = [field.name for field in dataclasses.fields(Condition)]
    joined = Condition(**{name: torch.cat([getattr(conditions[id(w)], name) for w in wishes]) for name in names})
    starts, power = parameters.start_time is not None, parameters.coordinate_power if parameters.sampler == "ode" else 1.0
    constrained = None
    if starts or any(w.constraints for w in wishes):
        held = {id(w): resolve(w.constraints, n_atoms, model.elements, w.template, start=starts) for w in wishes}
        constrained = Constrained(model, [held[id(w)] for w in wishes], power)
    mask = torch.ones(len(members), n_atoms, dtype=torch.bool, device=model.device)
    state = solve(
        model,
        make(model, models.classifier, joined, mask, parameters),
        Noise([generator_of(seed, i, purpose) for i in members], n_atoms, len(model.elements), model.dtype, model.device),
        steps=parameters.steps,
        sampler=parameters.sampler,
        corrector_steps=parameters.corrector_steps,
        coordinate_power=parameters.coordinate_power,
        constrained=constrained,
        start_time=parameters.start_time,
    )
    types, fractional, lattices = decoded(model, state) if constrained is None else constrained.finish(state)
    z = np.array([ATOMIC_NUMBERS[symbol] for symbol in model.elements])
    columns = {"candidate": np.array(members), "target": np.array(members) // STRIDE}
    return CrystalSet(np.full(len(members), n_atoms), z[types].ravel(), fractional.reshape(-1, 3), lattices, columns)
