"""Candidates: which there are, how they are divided into batches, and what each is a function of.

Candidate i depends on (model, target, parameters, template, seed, i) and on nothing else; see :mod:`.solver`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ...core.constraints import own_size, resolve, sizes_allowed
from ...core.contacts import closest_contacts
from ...core.crystals import CrystalSet
from ...core.elements import ATOMIC_NUMBERS
from ...core.errors import ContentError
from ...core.job import SampleParameters, SizeRange
from ...core.target import DosTarget
from ..memory import is_out_of_memory, release
from ..prediction.classifier import Classifier
from .conditioning import Condition
from .constraints import Constrained
from .denoiser import Denoiser, State
from .guidance import make
from .solver import Noise, generator_of, solve

__all__ = ["Sampler", "batches", "condition_on", "sample", "sizes"]

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


# --- how many atoms ---------------------------------------------------------------------------------------------------------


def sizes(
    model: Denoiser,
    target: DosTarget | None,
    parameters: SampleParameters,
    seed: int,
    candidates: Sequence[int],
    template: CrystalSet | None = None,
) -> list[int]:
    """Return the number of atoms of each candidate: given, that of template, composition or target, or drawn.

    :raises ContentError: if a number contradicts the target, the template or the constraints, or none is left to draw.
    """
    templates = [None] if template is None else [int(n) for n in template.n_atoms]
    wanted, constraints = parameters.n_atoms, parameters.constraints
    if isinstance(wanted, list) and not wanted:
        raise ContentError("parameters.n_atoms: the list is empty; give numbers of atoms, or leave it out")
    given = wanted if isinstance(wanted, list) else [wanted] if isinstance(wanted, int) else []
    if min(given, default=1) < 1:
        raise ContentError(f"parameters.n_atoms: a crystal cannot have {min(given)} atoms; give numbers of at least 1")
    drawn: dict[int | None, tuple[np.ndarray, np.ndarray]] = {}
    found = []
    for i in candidates:
        own = templates[i % len(templates)]
        start = own if parameters.start_time is not None else None
        implied = start or own_size(constraints, own) or (None if target is None else target.n_atoms)
        if isinstance(wanted, list):
            n = wanted[i % len(wanted)]
        elif isinstance(wanted, int):
            n = wanted
        elif wanted is None and implied is not None:
            n = implied
        else:
            if own not in drawn:
                drawn[own] = _distribution(model, target, parameters, own)
            choices, cumulative = drawn[own]
            u = torch.rand(1, generator=generator_of(seed, i, "size"), dtype=torch.float64).item()
            n = int(choices[np.searchsorted(cumulative, u * cumulative[-1], side="right").clip(max=len(choices) - 1)])
        reason = _refuses(n, target, parameters, own)
        if reason:
            raise ContentError(reason)
        found.append(n)
    return found


def _refuses(n: int, target: DosTarget | None, parameters: SampleParameters, template_size: int | None) -> str | None:
    """Say why a candidate of n atoms is impossible."""
    if parameters.start_time is not None and template_size is not None and n != template_size:
        return f"parameters.start_time starts from the template, which has {template_size} atoms, but n_atoms is {n}"
    if target is not None and target.kind == "sites":
        if target.n_atoms is not None and n != target.n_atoms:
            return (
                f"parameters.n_atoms: the target has {target.n_atoms} sites, so a candidate cannot have {n} atoms; leave "
                "n_atoms out, or say which sites the curves are for, or give the target as a total curve"
            )
        if n < target.least_atoms:
            return (
                f"parameters.n_atoms: the target has a curve for site {target.least_atoms - 1}, but a candidate has {n} atoms"
            )
    return sizes_allowed(parameters.constraints, template_size, n)


def _distribution(
    model: Denoiser, target: DosTarget | None, parameters: SampleParameters, template_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of atoms that are possible, and their cumulative probabilities given the target."""
    known = model.sizes.max_atoms
    wanted = parameters.n_atoms if isinstance(parameters.n_atoms, SizeRange) else SizeRange(min=1, max=known)
    if wanted.max > known:
        raise ContentError(
            f"parameters.n_atoms: the checkpoint knows crystals of up to {known} atoms, so that nothing says how likely "
            f"{wanted.max} are; lower max, or give the numbers as a list"
        )
    reasons = {n: _refuses(n, target, parameters, template_size) for n in range(wanted.min, wanted.max + 1)}
    choices = np.array([n for n, reason in reasons.items() if reason is None])
    if not len(choices):
        raise ContentError(f"no number of atoms from {wanted.min} to {wanted.max} is possible: {reasons[wanted.max]}")
    probabilities = size_probabilities(model, target)[choices - 1]
    return choices, np.cumsum(probabilities)


@torch.no_grad()
def size_probabilities(model: Denoiser, target: DosTarget | None) -> np.ndarray:
    """Return p(N) for N = 1 … the largest crystal that the checkpoint knows; given the target, if it is of all atoms."""
    total = target if target is not None and (target.kind == "total" or target.sites is None) else None
    if total is not None and total.kind == "sites":
        total = DosTarget(total.total[None], "total", complete_below=total.complete_below, grid=total.grid)
    condition = condition_on(total, model, 1, 1)
    probabilities = model.sizes(condition.total.double(), condition.total_given, condition.complete_below.double())
    return probabilities[0].cpu().numpy()


# --- what is asked of a batch -----------------------------------------------------------------------------------------------


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
    target = target.on(model.grid)
    values = torch.as_tensor(np.ascontiguousarray(target.curves), dtype=like_.dtype, device=like_.device)
    edges = torch.full_like(condition.complete_below, target.complete_below)
    if target.kind == "total":
        return dataclasses.replace(
            condition,
            total=values.expand(n_crystals, -1),
            total_given=torch.ones_like(condition.total_given),
            complete_below=edges,
        )
    atoms = torch.tensor(target.atoms, device=like_.device)
    return dataclasses.replace(
        condition,
        site=condition.site.index_copy(1, atoms, values.expand(n_crystals, -1, -1)),
        site_given=condition.site_given.index_fill(1, atoms, True),
        complete_below=edges,
    )


# --- candidates -------------------------------------------------------------------------------------------------------------


def sample(
    model: Denoiser,
    target: DosTarget | None,
    parameters: SampleParameters,
    seed: int,
    candidates: Sequence[int],
    *,
    classifier: Classifier | None = None,
    template: CrystalSet | None = None,
    batch_size: int | None = None,
    each_step: Callable[[], None] = lambda: None,
) -> Iterator[CrystalSet]:
    """Generate candidates, and yield them batch by batch with the columns ``candidate``, ``seed`` and ``attempt``.

    A batch that does not fit into memory is halved, as are those of its size that follow.

    :param model: on its device, in the precision to compute in (float32 for bfloat16).
    :param target: None generates without a condition.
    :param candidates: their indices.
    :param classifier: for ``parameters.guidance`` ``classifier``.
    :param template: crystals to start from, or to hold parts of; candidate i uses crystal i modulo their number.
    :param batch_size: candidates at a time; None chooses by size.
    :param each_step: called before each step; an exception that it raises ends the run.
    :raises ContentError: if parameters, target, template and checkpoint contradict each other.
    """
    model.eval()
    if parameters.start_time is not None and template is None:
        raise ContentError("parameters.start_time starts from a template, but there is none; give one, or leave start_time out")
    held = parameters.constraints
    if template is not None and parameters.start_time is None and not (held and held.from_template):
        raise ContentError(
            "there is a template, but nothing is taken from it; give start_time, or hold something as in the template, "
            "or leave the template out"
        )
    n_atoms = sizes(model, target, parameters, seed, candidates, template)
    waiting = batches(candidates, n_atoms, batch_size, model.device)[::-1]
    for n, members in waiting:  # what is contradictory is refused before anything is computed
        _held(model, parameters, template, n, members)
    while waiting:
        n, members = waiting.pop()
        try:
            crystals = _batch(model, classifier, target, parameters, seed, n, members, template, each_step)
        except (RuntimeError, MemoryError) as exception:
            if not is_out_of_memory(exception):
                raise
            if len(members) == 1:
                raise ContentError(f"one candidate of {n} atoms does not fit into memory ({exception})") from None
            crystals = None
        if crystals is not None:
            yield crystals
            continue
        release(model.device)
        half = (len(members) + 1) // 2
        logger.warning("out of memory with %d candidates of %d atoms at a time; going on with %d", len(members), n, half)
        again = [members, *(m for k, m in reversed(waiting) if k == n)]
        waiting = [(k, m) for k, m in waiting if k != n]
        waiting += [(n, m[k : k + half]) for m in again for k in range(0, len(m), half)][::-1]


def _held(
    model: Denoiser, parameters: SampleParameters, template: CrystalSet | None, n_atoms: int, members: Sequence[int]
) -> list | None:
    """Return what is held of each candidate of a batch; None if that is nothing of any."""
    if parameters.constraints is None and parameters.start_time is None:
        return None
    starts, period = parameters.start_time is not None, 1 if template is None else len(template)
    found = {
        k: resolve(parameters.constraints, n_atoms, model.elements, None if template is None else template[k], start=starts)
        for k in {i % period for i in members}
    }
    return [found[i % period] for i in members]


@torch.no_grad()
def _batch(
    model: Denoiser,
    classifier: Classifier | None,
    target: DosTarget | None,
    parameters: SampleParameters,
    seed: int,
    n_atoms: int,
    members: list[int],
    template: CrystalSet | None,
    each_step: Callable[[], None],
) -> CrystalSet:
    low = parameters.precision == "bfloat16"

    def draw(members: list[int], purpose: str) -> CrystalSet:
        mask = torch.ones(len(members), n_atoms, dtype=torch.bool, device=model.device)
        held = _held(model, parameters, template, n_atoms, members)
        power = parameters.coordinate_power if parameters.sampler == "ode" else 1.0
        constrained = None if held is None else Constrained(model, held, power)
        condition = condition_on(target, model, len(members), n_atoms)
        generators = [generator_of(seed, i, purpose) for i in members]
        with torch.autocast(model.device.type, torch.bfloat16) if low else contextlib.nullcontext():
            guidance = make(model, classifier, condition, mask, parameters)
            state = solve(
                model,
                guidance,
                Noise(generators, n_atoms, len(model.elements), model.dtype, model.device),
                steps=parameters.steps,
                sampler=parameters.sampler,
                corrector_steps=parameters.corrector_steps,
                coordinate_power=parameters.coordinate_power,
                constrained=constrained,
                start_time=parameters.start_time,
                each_step=each_step,
            )
        types, fractional, lattices = decoded(model, state) if constrained is None else constrained.finish(state)
        numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in model.elements])
        return CrystalSet(
            np.full(len(members), n_atoms),
            numbers[types].ravel(),
            fractional.reshape(-1, 3),
            lattices,
            {"candidate": np.array(members), "seed": np.full(len(members), seed)},
        )

    return attempted(members, parameters, draw)


def attempted(members: list[int], parameters: SampleParameters, draw: Callable[[list[int], str], CrystalSet]) -> CrystalSet:
    """Draw candidates, and draw those again whose atoms lie on each other, with noise of its own for each attempt.

    The network moves each atom to a site of the crystal that it sees, and sometimes two to the same. Where no attempt keeps
    them apart, the one with the longest contact is kept.

    :param draw: returns the crystals of some candidates, in order, from the noise of a purpose (:func:`.solver.generator_of`).
    :return: with the column ``attempt``, counted from zero.
    """
    crystals = draw(members, "").with_columns(crystal={"attempt": np.zeros(len(members), dtype=np.int64)})
    for attempt in range(1, parameters.attempts):
        contacts = np.nan_to_num(closest_contacts(crystals), nan=-1.0)
        rows = np.flatnonzero(contacts < parameters.min_contact)
        if not len(rows):
            break
        again = draw([members[row] for row in rows], f"attempt {attempt}")
        better = np.nan_to_num(closest_contacts(again), nan=-1.0) > contacts[rows]
        again = again.with_columns(crystal={"attempt": np.full(len(rows), attempt)})
        order = np.arange(len(members))
        order[rows[better]] = len(members) + np.flatnonzero(better)
        crystals = CrystalSet.concatenate([crystals, again])[order]
    return crystals


def decoded(model: Denoiser, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return element indices (B, N), fractional coordinates (B, N, 3) in [0, 1) and lattices (B, 3, 3) in Å of a state."""
    n_crystals, n_atoms = state.fractional.shape[:2]
    lattices = model.lattices.lattices(state.lattice.double(), torch.full((n_crystals,), n_atoms, device=model.device))
    fractional = state.fractional.double().cpu().numpy()
    # twice: -1e-17 % 1 is 1
    return state.types.argmax(-1).cpu().numpy(), fractional % 1.0 % 1.0, lattices.cpu().numpy()


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A denoiser from a file, ready to propose crystals.

    >>> sampler = Sampler.load("denoiser.safetensors")  # doctest: +SKIP
    >>> crystals = sampler(16, DosTarget.load("target.npz"), seed=1, n_atoms=[2, 4], guidance_scale=0.5)  # doctest: +SKIP

    :param model: the denoiser.
    :param classifier: to guide with, or None.
    """

    model: Denoiser
    classifier: Classifier | None = None

    @classmethod
    def load(cls, checkpoint: str | Path, classifier: str | Path | None = None, device: str = "auto") -> Sampler:
        """Read the models.

        :raises ContentError: for files that are no such checkpoints.
        """
        from ..checkpoint import load_model

        where = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
        return cls(
            load_model(checkpoint, where, kind="denoiser")[0],
            None if classifier is None else load_model(classifier, where, kind="classifier")[0],
        )

    def __call__(
        self,
        n_candidates: int,
        target: DosTarget | None = None,
        *,
        seed: int = 0,
        start: int = 0,
        template: CrystalSet | None = None,
        batch_size: int | None = None,
        **parameters: Any,
    ) -> CrystalSet:
        """Return candidates ``start`` … ``start + n_candidates − 1``, in order.

        :param target: the density of states that is asked for; None generates without a condition.
        :param template: crystals to start from, or to hold parts of.
        :param parameters: fields of :class:`~aiida_dosmatgen.core.job.SampleParameters`.
        :raises ContentError: if parameters, target, template and checkpoint contradict each other.
        """
        asked = SampleParameters(**parameters)
        model = _in_type(self.model, precision(asked))
        classifier = None if self.classifier is None else _in_type(self.classifier, precision(asked))
        parts = sample(
            model, target, asked, seed, range(start, start + n_candidates),
            classifier=classifier, template=template, batch_size=batch_size,
        )  # fmt: skip
        crystals = CrystalSet.concatenate(list(parts))
        return crystals[np.argsort(crystals.crystal_columns["candidate"])]


def _in_type(model: Network, dtype: torch.dtype) -> Network:
    """Return a model with weights of a type; another one than it has is that of a copy, so that nothing is lost."""
    same = all(parameter.dtype == dtype for parameter in model.parameters())
    return model if same else copy.deepcopy(model).to(dtype=dtype)


def precision(parameters: SampleParameters) -> torch.dtype:
    """Return the type of a model's weights: bfloat16 is mixed precision, with weights in float32."""
    return torch.float64 if parameters.precision == "float64" else torch.float32
