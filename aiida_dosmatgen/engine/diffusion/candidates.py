"""The candidates of a job: their numbers of atoms, batches, and conditions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from ...core.constraints.constraints import own_size, sizes_allowed
from ...core.crystals import CrystalSet
from ...core.dft.bands import CHANNELS
from ...core.errors import ContentError
from ...core.job import SampleParameters, SizeRange
from ...core.target import DosTarget
from .classifier import Classifier
from .condition import Condition, channel_points
from .denoiser import Denoiser
from .solver import generator_of

__all__ = ["batches", "condition_on", "refuse_unseen", "size_probabilities", "sizes"]


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


def refuse_unseen(n_atoms: Sequence[int], target: DosTarget | None, model: Denoiser, classifier: Classifier | None) -> None:
    """Refuse what lies beyond the training sets of the models: nothing says what they do there.

    :param n_atoms: of the candidates.
    :raises ContentError: if a candidate has more atoms than any training crystal, or the target is broader than the curves.
    """
    most = max(n_atoms, default=0)
    for name, largest in (
        ("checkpoint", model.sizes.max_atoms),
        ("classifier", None if classifier is None else classifier.largest),
    ):
        if largest is not None and most > largest:
            raise ContentError(
                f"parameters.n_atoms: the {name} has seen crystals of up to {largest} atoms, not of {most}; ask for fewer, or "
                "set parameters.unseen to try"
            )
    if target is not None and target.sigma is not None and target.sigma > model.sigma + 1e-3:
        raise ContentError(
            f"target: it is broadened by {target.sigma:g} eV, more than the {model.sigma:g} eV of what the checkpoint "
            "learnt; give a sharper one, or set parameters.unseen to try"
        )


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
        mean = dataclasses.replace(total.dos.summed(), values=total.total[None, None, None], resolved=False)
        total = DosTarget(mean, "total")
    condition = condition_on(total, model, 1, 1)
    ends = condition.complete_below.double(), condition.low.double()
    probabilities = model.sizes(condition.total.double(), condition.total_given, *ends)
    return probabilities[0].cpu().numpy()


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
    """Return the condition of a batch: the same target for each of its crystals, on the grid of the model.

    Nothing outside of the energies at which the target is known gets in. A sharper target is broadened as the curves that the
    model learnt, a broader one is shown as it is. Where wishes say nothing, their curve is the mean of the training set.
    """
    like_ = model.node_head.weight
    condition = Condition.none(n_crystals, n_atoms, model.grid.n, like_)
    if target is None:
        return condition
    channels = _channels_of(target, model) if model.stride else None
    target = target.for_model(model.grid, model.sigma)
    spoken = target.spoken(model.grid.points)
    if not spoken.any():  # wishes that are not of the curve alone
        return condition
    values = torch.as_tensor(np.ascontiguousarray(target.curves), dtype=like_.dtype, device=like_.device)
    edges = torch.full_like(condition.complete_below, target.complete_below)
    low = torch.full_like(edges, target.low if target.low > model.grid.emin else -math.inf)
    if target.kind == "total":
        said = torch.as_tensor(spoken, device=like_.device)
        if target.only_wishes:
            values = torch.where(said, values, model.conditioning.total.mean.to(values))
        return dataclasses.replace(
            condition,
            total=values.expand(n_crystals, -1),
            total_given=torch.ones_like(condition.total_given),
            complete_below=edges,
            low=low,
            said=said.expand(n_crystals, -1),
        )
    atoms = torch.tensor(target.atoms, device=like_.device)
    if channels is not None:
        there = torch.as_tensor(channels, dtype=like_.dtype, device=like_.device)
        empty = like_.new_zeros(n_crystals, n_atoms, *there.shape[1:])
        condition = dataclasses.replace(
            condition,
            channels=empty.index_copy(1, atoms, there.expand(n_crystals, -1, -1, -1)),
            channels_given=condition.channels_given.index_fill(1, atoms, True),
        )
    return dataclasses.replace(
        condition,
        site=condition.site.index_copy(1, atoms, values.expand(n_crystals, -1, -1)),
        site_given=condition.site_given.index_fill(1, atoms, True),
        complete_below=edges,
        low=low,
    )


def _channels_of(target: DosTarget, model: Denoiser) -> np.ndarray | None:
    """Return the curves of a target's sites by channel as a model takes them, shape (n_curves, 4, m); None if it has none."""
    dos = target.dos
    if target.kind != "sites" or not set(dos.channels) <= set(CHANNELS):
        return None
    dos = dos.summed(channels=False)
    if dos.sigma is None or dos.sigma < model.sigma:
        dos = dos.broadened(model.sigma)
    dos = dos.on(channel_points(model.grid, model.stride))
    values = np.zeros((len(dos), len(CHANNELS), len(dos.energies)))
    for k, name in enumerate(dos.channels):
        values[:, CHANNELS.index(name)] = dos.values[:, 0, k]
    return values
