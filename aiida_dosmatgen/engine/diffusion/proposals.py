"""Compositions for a target, by their probability: drawn from the network for p(elements | curves), and held by the sampler.

The elements of the sites are found one after another, the most certain site first, by a beam search over
p(e₁ | curves)·p(e₂ | e₁, curves)·… . What is found is weighed by the number of electrons that the curve holds
(:mod:`...core.electrons`), which the network knows from the shape of the curves only.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import torch

from ...core.constraints.constraints import ResolvedConstraints
from ...core.electrons import electrons_in, log_likelihood
from ...core.errors import ContentError
from ...core.job.sample import Compositions
from ...core.target import DosTarget
from .candidates import condition_on
from .composition import CompositionNetwork
from .condition import Condition
from .denoiser import Denoiser
from .solver import generator_of

__all__ = ["Proposal", "Proposed", "chosen", "electrons_of", "held", "propose"]

_BEAM = 128
_LAST_BEAM = 4096
_LOWEST = 18.0  # below the best logarithm of a probability, nothing is kept
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclasses.dataclass(frozen=True, eq=False)
class Proposal:
    """One composition.

    :param elements: index of the element of each site among those of the model, shape (N,); the likeliest assignment.
    :param probability: of the composition among all that are proposed, before any temperature.
    """

    elements: np.ndarray
    probability: float


def propose(
    model: Denoiser,
    target: DosTarget | None,
    n_atoms: int,
    wanted: Compositions,
    restricted: ResolvedConstraints | None = None,
) -> list[Proposal]:
    """Return the likeliest compositions of crystals with N atoms, the likeliest first.

    :param target: None gives compositions as the training set has them.
    :param restricted: what is held of the candidates, which the proposals keep to.
    :raises ContentError: if the checkpoint has no network for it, or nothing that is allowed is possible.
    """
    if model.composition is None:
        raise ContentError(
            "parameters.compositions: the checkpoint proposes none; train a denoiser with architecture.composition, "
            "or leave compositions out"
        )
    allowed = np.ones((n_atoms, len(model.elements)), dtype=bool) if restricted is None else restricted.allowed
    counts = None if restricted is None else restricted.counts
    sites, logs = _beam(model, target, n_atoms, allowed, counts)
    electrons = electrons_of(target, n_atoms) if wanted.electrons else None
    best: dict[tuple[int, ...], tuple[np.ndarray, float, float]] = {}
    for elements, log in zip(sites, logs, strict=True):
        key = tuple(sorted(elements.tolist()))
        first, top, total = best.get(key, (elements, log, -math.inf))
        best[key] = (first, top, float(np.logaddexp(total, log)))
    weights = {key: total for key, (_, _, total) in best.items()}
    if electrons is not None:
        for key in weights:
            composition = {model.elements[k]: count for k, count in Counter(key).items()}
            weights[key] += log_likelihood(electrons[0], composition, electrons[1])
    order = sorted(weights, key=lambda key: -weights[key])
    if not order:
        raise ContentError("parameters.compositions: no composition is possible with what is held; leave something free")
    values = np.exp(np.array([weights[key] for key in order]) - weights[order[0]])
    values /= values.sum()
    return [Proposal(best[key][0], float(p)) for key, p in zip(order[: wanted.count], values, strict=False)]


def electrons_of(target: DosTarget | None, n_atoms: int) -> tuple[float, float] | None:
    """Return how many electrons of a cell with N atoms the curves of a target hold, and from which energy in eV.

    None if the target does not say: curves for some of the sites, made from wishes, or of projections.
    """
    if target is None or target.only_wishes or (target.kind == "sites" and len(target.curves) != n_atoms):
        return None
    there = electrons_in(target.dos)
    if there is None:
        return None
    return (there if target.kind == "sites" else there * n_atoms), target.low


def chosen(proposals: list[Proposal], wanted: Compositions, seed: int, candidate: int) -> int:
    """Return which proposal a candidate takes: p^(1/T), spread evenly over the candidates.

    Candidate i stands at u + i·φ modulo 1 on the cumulative probabilities, with u of the seed and φ the golden ratio: of n
    candidates each composition gets its share within one or two, and candidate i does not depend on how many there are.
    """
    weights = np.array([one.probability for one in proposals]) ** (1 / wanted.temperature)
    cumulative = np.cumsum(weights / weights.sum())
    start = torch.rand(1, generator=generator_of(seed, 0, "compositions"), dtype=torch.float64).item()
    place = (start + candidate * _GOLDEN) % 1.0
    return min(int(np.searchsorted(cumulative, place, side="right")), len(proposals) - 1)


def held(restricted: ResolvedConstraints | None, proposal: Proposal, n_elements: int) -> ResolvedConstraints:
    """Return constraints that hold the elements of a proposal besides what is held already."""
    n_atoms = len(proposal.elements)
    allowed = np.zeros((n_atoms, n_elements), dtype=bool)
    allowed[np.arange(n_atoms), proposal.elements] = True
    if restricted is None:
        return ResolvedConstraints(allowed, np.zeros((n_atoms, 3)), np.zeros(n_atoms, dtype=bool))
    return dataclasses.replace(restricted, allowed=allowed, counts=None)


@torch.no_grad()
def _beam(
    model: Denoiser, target: DosTarget | None, n_atoms: int, allowed: np.ndarray, counts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return assignments of elements to sites, shape (b, N), and the logarithms of their probabilities, shape (b,).

    Sites without a curve of their own are exchangeable, if the same is allowed of them: of assignments that differ by such an
    exchange one is kept, with the probability of all.
    """
    network = model.composition
    assert network is not None
    condition = condition_on(target, model, 1, n_atoms)
    given = condition.site_given[0].cpu().numpy()
    alike = _alike(given, allowed)
    told = np.full((1, n_atoms), -1)
    logs = np.zeros(1)
    left = set(range(n_atoms))
    while left:
        predicted = _predict(network, condition, told, n_atoms)
        predicted = np.where(allowed[None], predicted, -np.inf)
        among = [i for i in sorted(left) if given[i]] or sorted(left)
        site = min(among, key=lambda i: _entropy(predicted[0, i]))
        left.remove(site)
        scores = predicted[:, site]
        if counts is not None:
            used = np.stack([(told == k).sum(1) for k in range(len(counts))], 1)
            scores = np.where(used < counts, scores, -np.inf)
        every = (logs[:, None] + scores).ravel()
        width = _BEAM if left else _LAST_BEAM
        kept = np.argsort(-every, kind="stable")[: width * (1 if given[site] else 4)]
        kept = kept[every[kept] > every[kept[0]] - _LOWEST] if np.isfinite(every[kept[0]]) else kept[:0]
        told = told[kept // predicted.shape[-1]]
        told[:, site] = kept % predicted.shape[-1]
        told, logs = _merged(told, every[kept], alike, width)
        if not len(told):
            break
    return told, logs


def _predict(network: CompositionNetwork, condition: Condition, told: np.ndarray, n_atoms: int) -> np.ndarray:
    """Return ln p of each element at each site, for each of the assignments so far, shape (b, N, K)."""
    n = 1 if bool(condition.site_given.all()) else len(told)  # sites with a curve do not read the others
    many = dataclasses.replace(
        condition, **{name: value.expand(n, *value.shape[1:]) for name, value in vars(condition).items()}
    )
    device = condition.site.device
    mask = torch.ones(n, n_atoms, dtype=torch.bool, device=device)
    logits = network(many, mask, torch.as_tensor(told[:n], device=device))
    logs = torch.log_softmax(logits.double(), -1).cpu().numpy()
    return np.broadcast_to(logs, (len(told), *logs.shape[1:]))


def _alike(given: np.ndarray, allowed: np.ndarray) -> list[np.ndarray]:
    """Return groups of sites that may be exchanged."""
    free = np.flatnonzero(~given)
    groups: dict[bytes, list[int]] = {}
    for site in free:
        groups.setdefault(allowed[site].tobytes(), []).append(int(site))
    return [np.array(group) for group in groups.values() if len(group) > 1]


def _merged(told: np.ndarray, logs: np.ndarray, alike: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Join assignments that differ only by an exchange of sites, the likeliest first."""
    if not alike:
        return told, logs
    kept: dict[bytes, int] = {}
    sums: list[float] = []
    rows: list[int] = []
    for row, log in enumerate(logs):
        key = told[row].copy()
        for group in alike:
            key[group] = np.sort(key[group])
        place = kept.setdefault(key.tobytes(), len(sums))
        if place == len(sums):
            sums.append(float(log))
            rows.append(row)
        else:
            sums[place] = float(np.logaddexp(sums[place], log))
    order = np.argsort(-np.array(sums), kind="stable")[:width]
    return told[np.array(rows)[order]], np.array(sums)[order]


def _entropy(logs: np.ndarray) -> float:
    p = np.exp(logs)
    return float(-(p * np.where(p > 0, logs, 0.0)).sum())


class Proposed:
    """The proposals of a run, made once for each number of atoms and each set of constraints.

    :param wanted: None proposes nothing.
    """

    def __init__(self, model: Denoiser, target: DosTarget | None, wanted: Compositions | None, seed: int) -> None:
        self.model, self.target, self.wanted, self.seed = model, target, wanted, seed
        self._known: dict[tuple, list[Proposal]] = {}

    def __call__(
        self, restricted: list[ResolvedConstraints] | None, n_atoms: int, members: list[int]
    ) -> tuple[list[ResolvedConstraints] | None, dict[str, np.ndarray]]:
        """Return what is held of each candidate of a batch, and the columns that say which proposal it has.

        :param restricted: what is held of them already.
        """
        if self.wanted is None:
            return restricted, {}
        ranks, found = list[int](), list[Proposal]()
        for row, candidate in enumerate(members):
            proposals = self._of(n_atoms, None if restricted is None else restricted[row])
            ranks.append(chosen(proposals, self.wanted, self.seed, candidate))
            found.append(proposals[ranks[-1]])
        many = [None] * len(members) if restricted is None else restricted
        constraints = [held(one, proposal, len(self.model.elements)) for one, proposal in zip(many, found, strict=True)]
        probabilities = np.array([proposal.probability for proposal in found])
        return constraints, {"proposal": np.array(ranks), "proposal_probability": probabilities}

    def _of(self, n_atoms: int, restricted: ResolvedConstraints | None) -> list[Proposal]:
        assert self.wanted is not None
        key: tuple = (n_atoms,)
        if restricted is not None:
            counts = b"" if restricted.counts is None else restricted.counts.tobytes()
            key = (n_atoms, restricted.allowed.tobytes(), counts)
        if key not in self._known:
            self._known[key] = propose(self.model, self.target, n_atoms, self.wanted, restricted)
        return self._known[key]
