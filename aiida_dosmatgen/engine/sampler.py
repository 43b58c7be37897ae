"""From pure noise to crystals.

Candidate i is a function of (model, condition, parameters, seed, i) and of nothing else: all its noise comes from a generator
of its own, on the CPU, derived from (seed, i). Batches hold candidates of equal size, without padding, so how a run is
divided changes nothing but the rounding of the network's matrix products; in double precision that stays far below 1e-4 Å
after all steps.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..core.crystals import CrystalSet
from ..core.dos import resample
from ..core.elements import ATOMIC_NUMBERS
from ..core.errors import ContentError
from ..core.job import SampleParameters
from ..core.target import DosTarget
from .conditioning import Condition
from .denoiser import Denoiser, State
from .guidance import ClassifierFree, Guidance
from .noise import like

__all__ = ["batches", "sample", "sizes", "solve"]

COORDINATE_POWER = 2.0
"""See :meth:`.noise.WrappedNormal.ode_step`. Crystals are points, not clouds: on a network overfitted to a dozen crystals the
plain probability flow left a mean r.m.s. deviation of 0.035 from the crystal asked for, this 0.009, at equal match rates."""


def generator_of(seed: int, candidate: int) -> torch.Generator:
    """Return the source of all noise of a candidate."""
    digest = hashlib.sha256(f"dosmatgen {seed} {candidate}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@dataclasses.dataclass(frozen=True)
class _Noise:
    """The noise of a batch of candidates with N atoms each; drawn in double precision whatever the network computes in."""

    generators: Sequence[torch.Generator]
    n_atoms: int
    n_elements: int
    dtype: torch.dtype
    device: torch.device

    def _draw(self, *shape: int, uniform: bool = False) -> Tensor:
        make = torch.rand if uniform else torch.randn
        draws = [make(*shape, generator=generator, dtype=torch.float64) for generator in self.generators]
        return torch.stack(draws).to(self.device, self.dtype)

    def prior(self) -> State:
        """Draw from the prior: everything normal but the coordinates, which are uniform."""
        normal = self._draw(self.n_atoms * self.n_elements + 6)
        types = normal[:, 6:].unflatten(-1, (self.n_atoms, self.n_elements))
        return State(types, self._draw(self.n_atoms, 3, uniform=True), normal[:, :6])

    def step(self) -> State:
        """Draw the normal noise of one ancestral step."""
        normal = self._draw(self.n_atoms * (self.n_elements + 3) + 6)
        types, coordinates = normal[:, 6:].unflatten(-1, (self.n_atoms, self.n_elements + 3)).split((self.n_elements, 3), -1)
        return State(types, coordinates, normal[:, :6])

    def coordinates(self) -> Tensor:
        """Draw the normal noise of one corrector step."""
        return self._draw(self.n_atoms, 3)


@dataclasses.dataclass(frozen=True)
class _Prediction:
    """Data predictions of types and lattice, and the score of the coordinates, at one state and time."""

    types: Tensor
    lattice: Tensor
    score: Tensor


def _predict(model: Denoiser, guidance: Guidance, state: State, t: float) -> _Prediction:
    times = torch.full((len(state.lattice),), t, dtype=state.lattice.dtype, device=state.lattice.device)
    output = guidance(state, times)
    return _Prediction(
        model.data_types(output.logits),
        model.types.data_from_velocity(state.lattice, times, output.velocity),
        output.score * like(model.coordinates.score_scale(times), output.score),
    )


def solve(
    model: Denoiser,
    guidance: Guidance,
    noise: _Noise,
    *,
    steps: int,
    sampler: Literal["ode", "ancestral"] = "ode",
    corrector_steps: int = 1,
    each_step: Callable[[], None] = lambda: None,
) -> State:
    """Take one batch from the prior to data in ``steps`` equal steps of t.

    ``ode``: a second-order multistep method, one evaluation a step, no noise after the prior: the probability-flow ODE for
    types and lattice, with twice its pull for the coordinates (:data:`COORDINATE_POWER`).
    ``ancestral``: a stochastic predictor step on all parts, then Langevin corrector steps on the coordinates at the new time,
    from whose result the next predictor step goes on; 1 + ``corrector_steps`` evaluations a step.

    :param each_step: called before each step; may raise to stop.
    :return: the state at t = 0.
    """
    state = noise.prior()
    times = [1 - i / steps for i in range(steps)] + [0.0]
    before: tuple[float, Tensor, Tensor, Tensor] | None = None
    for t, s in itertools.pairwise(times):
        each_step()
        now = _predict(model, guidance, state, t)
        if sampler == "ode":
            history = [None] * 3 if before is None else [(before[0], value) for value in before[1:]]
            fractional, centre = model.coordinates.ode_step(state.fractional, now.score, t, s, history[1], COORDINATE_POWER)
            state = State(
                model.types.ode_step(state.types, now.types, t, s, history[0]),
                fractional,
                model.types.ode_step(state.lattice, now.lattice, t, s, history[2]),
            )
            before = (t, now.types, centre, now.lattice)
            continue
        fresh = noise.step()
        state = State(
            model.types.ancestral_step(state.types, now.types, t, s, fresh.types),
            model.coordinates.ancestral_step(state.fractional, now.score, t, s, fresh.fractional),
            model.types.ancestral_step(state.lattice, now.lattice, t, s, fresh.lattice),
        )
        if s > 0:
            for _ in range(corrector_steps):
                score = _predict(model, guidance, state, s).score
                moved = model.coordinates.langevin_step(state.fractional, score, s, noise.coordinates())
                state = state._replace(fractional=moved)
    return state


# --- candidates -------------------------------------------------------------------------------------------------------------


def sizes(parameters: SampleParameters, target: DosTarget | None, candidates: Sequence[int]) -> list[int]:
    """Return the number of atoms of each candidate.

    :raises ContentError: if neither parameters nor target say it, or they disagree.
    """
    wanted = parameters.n_atoms
    if wanted is None:
        if target is None:
            raise ContentError(
                "parameters.n_atoms: how many atoms? There is no target to take it from; give a number or a list"
            )
        if target.n_atoms is None:
            raise ContentError(
                "parameters.n_atoms: how many atoms? The target is a total curve that does not say it; give a number or a list"
            )
        wanted = target.n_atoms
    choices = [wanted] if isinstance(wanted, int) else list(wanted)
    if not choices or min(choices) < 1:
        raise ContentError(f"parameters.n_atoms: {wanted} is not a number of atoms, or a list of them; each must be at least 1")
    if target is not None and target.kind == "sites" and set(choices) != {len(target.curves)}:
        raise ContentError(
            f"parameters.n_atoms: the target has {len(target.curves)} sites, so candidates cannot have {wanted} atoms; "
            "leave n_atoms out, or give the target as a total curve"
        )
    return [choices[i % len(choices)] for i in candidates]


def batches(
    candidates: Sequence[int], n_atoms: Sequence[int], batch_size: int | None, device: torch.device
) -> list[tuple[int, list[int]]]:
    """Divide candidates into batches of equal numbers of atoms, (n_atoms, candidates), the small crystals first.

    :param batch_size: None chooses by the number of pairs of atoms, which is what takes memory and time.
    """
    pairs = 2048 if device.type == "cpu" else 65536
    divided = []
    for n in sorted(set(n_atoms)):
        members = [i for i, m in zip(candidates, n_atoms, strict=True) if m == n]
        length = batch_size or max(1, min(1024, pairs // n**2))
        divided += [(n, members[k : k + length]) for k in range(0, len(members), length)]
    return divided


def condition_on(target: DosTarget | None, model: Denoiser, n_crystals: int, n_atoms: int) -> Condition:
    """Return the condition of a batch: the same target for each of its crystals, on the grid of the model."""
    like_ = model.node_head.weight
    condition = Condition.none(n_crystals, n_atoms, model.grid.n, like_)
    if target is None:
        return condition
    curves, limit = target.curves, target.complete_below
    if target.grid != model.grid:
        curves = resample(target.grid.points, curves, model.grid)
        limit = min(limit, target.grid.emax) if target.grid.emax < model.grid.emax else limit
    values = torch.as_tensor(np.ascontiguousarray(curves), dtype=like_.dtype, device=like_.device)
    edges = torch.full_like(condition.complete_below, limit)
    if target.kind == "sites":
        return dataclasses.replace(
            condition,
            site=values.expand(n_crystals, -1, -1),
            site_given=torch.ones_like(condition.site_given),
            complete_below=edges,
        )
    return dataclasses.replace(
        condition,
        total=values.expand(n_crystals, -1),
        total_given=torch.ones_like(condition.total_given),
        complete_below=edges,
    )


@torch.inference_mode()
def sample(
    model: Denoiser,
    target: DosTarget | None,
    parameters: SampleParameters,
    seed: int,
    candidates: Sequence[int],
    *,
    batch_size: int | None = None,
    each_step: Callable[[], None] = lambda: None,
) -> Iterator[CrystalSet]:
    """Generate candidates, and yield them batch by batch with the columns ``candidate`` and ``seed``.

    :param model: on its device, in the precision to compute in.
    :param target: None generates without a condition.
    :param candidates: their indices.
    :param batch_size: candidates at a time; None chooses by size.
    :param each_step: called before each step; an exception that it raises ends the run.
    :raises ContentError: if the number of atoms is not known.
    """
    model.eval()
    for n_atoms, members in batches(candidates, sizes(parameters, target, candidates), batch_size, model.device):
        mask = torch.ones(len(members), n_atoms, dtype=torch.bool, device=model.device)
        condition = condition_on(target, model, len(members), n_atoms)
        guidance = ClassifierFree(model, condition, mask, parameters.guidance_scale)
        generators = [generator_of(seed, i) for i in members]
        state = solve(
            model,
            guidance,
            _Noise(generators, n_atoms, len(model.elements), model.dtype, model.device),
            steps=parameters.steps,
            sampler=parameters.sampler,
            corrector_steps=parameters.corrector_steps,
            each_step=each_step,
        )
        yield _crystals(model, state, members, seed)


def _crystals(model: Denoiser, state: State, candidates: list[int], seed: int) -> CrystalSet:
    n_crystals, n_atoms = state.fractional.shape[:2]
    lattices = model.lattices.lattices(state.lattice.double(), torch.full((n_crystals,), n_atoms, device=model.device))
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in model.elements])
    fractional = state.fractional.double().cpu().numpy()
    return CrystalSet(
        np.full(n_crystals, n_atoms),
        numbers[state.types.argmax(-1).cpu().numpy()].ravel(),
        (fractional % 1.0 % 1.0).reshape(-1, 3),  # twice: -1e-17 % 1 is 1
        lattices.cpu().numpy(),
        {"candidate": np.array(candidates), "seed": np.full(n_crystals, seed)},
    )
