"""Candidates from a denoiser: batch by batch (:func:`sample`), or all at once (:class:`Sampler`).

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

from ...core.constraints.constraints import resolve
from ...core.contacts import closest_contacts
from ...core.crystals import CrystalSet
from ...core.elements import ATOMIC_NUMBERS
from ...core.errors import ContentError
from ...core.job import SampleParameters
from ...core.target import DosTarget
from ..checkpoint import load_model
from ..memory import is_out_of_memory, release
from .candidates import batches, condition_on, refuse_unseen, sizes
from .classifier import Classifier
from .denoiser import Denoiser, State
from .proposals import Proposed
from .solver import Noise, generator_of, solve
from .steering.constraints import Constrained
from .steering.guidance import make

__all__ = ["Sampler", "attempted", "decoded", "precision", "sample"]

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


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

    Where compositions are proposed, ``proposal`` says which one a candidate has, from 0, the likeliest, and
    ``proposal_probability`` its probability.

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
    if not parameters.unseen:
        refuse_unseen(n_atoms, target, model, classifier)
    elif target is not None and target.sigma is not None and target.sigma > model.sigma + 1e-3:
        logger.warning(
            "the target is broadened by %g eV, more than the curves that the checkpoint learnt (%g eV); it is taken as it is",
            target.sigma,
            model.sigma,
        )
    waiting = batches(candidates, n_atoms, batch_size, model.device)[::-1]
    for n, members in waiting:  # what is contradictory is refused before anything is computed
        _held(model, parameters, template, n, members)
    proposed = Proposed(model, target, parameters.compositions, seed)
    while waiting:
        n, members = waiting.pop()
        try:
            crystals = _batch(model, classifier, target, parameters, seed, n, members, template, each_step, proposed)
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
        logger.warning("out of memory with %d candidates of %d atoms at a time; continuing with %d", len(members), n, half)
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
    proposed: Proposed,
) -> CrystalSet:
    low = parameters.precision == "bfloat16"

    def draw(members: list[int], purpose: str) -> CrystalSet:
        mask = torch.ones(len(members), n_atoms, dtype=torch.bool, device=model.device)
        held, about = proposed(_held(model, parameters, template, n_atoms, members), n_atoms, members)
        power = parameters.coordinate_power if parameters.sampler == "ode" else 1.0
        constrained = None if held is None else Constrained(model, held, power)
        condition = condition_on(target, model, len(members), n_atoms)
        generators = [generator_of(seed, i, purpose) for i in members]
        with torch.autocast(model.device.type, torch.bfloat16) if low else contextlib.nullcontext():
            wishes, alone = ((), False) if target is None else (target.wishes, target.only_wishes)
            guidance = make(model, classifier, condition, mask, parameters, wishes, alone)
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
            {"candidate": np.array(members), "seed": np.full(len(members), seed), **about},
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
