"""p(elements of the sites | curves): which elements a crystal with given curves is made of.

A curve by site and channel tells an element far better than the noised crystals do, and the number of electrons tells it better
still. So the elements can be decided first, several times over by their probability, and held for the diffusion to fill
(:mod:`.proposals`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...core.dos import EnergyGrid
from ..batch import DenseBatch
from ..descriptors import N_DESCRIPTORS, descriptors
from .condition import N_CHANNELS, Condition, channel_points, curve_statistics, known, total_curve

__all__ = ["CompositionNetwork"]

_BIN = 0.3  # eV; the curves are broadened by as much
_FLOOR = 1e-3  # states/eV, under the square root
_DROPOUT = 0.4
_SMOOTHING = 0.03  # of the labels
_REVEALED = 0.6  # share of training crystals of which some elements are told
_KEYS = 64
_OTHER = 32  # size of what is read of other sites


class _CurveFeatures(nn.Module):
    """Curves of one kind as the input of a network: roots of the states in bins of 0.3 eV, and how many there are.

    The root makes the d band of a metal and the s band beside it comparable.

    :param points: energies of the curves in eV, shape (m,).
    :param rows: curves of each object, one for each channel.
    """

    points: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, points: np.ndarray, rows: int = 1) -> None:
        super().__init__()
        self.rows, self.spacing = rows, float(points[1] - points[0])
        self.pooled = max(1, round(_BIN / self.spacing))
        self.register_buffer("points", torch.tensor(points), persistent=False)
        self.n_bins = len(points) // self.pooled
        self.size = (rows + 1) * self.n_bins + 2 * rows
        self.register_buffer("mean", torch.zeros(rows * self.n_bins))
        self.register_buffer("std", torch.ones(rows * self.n_bins))

    def _pool(self, values: Tensor) -> Tensor:
        used = values[..., : self.n_bins * self.pooled]
        return used.unflatten(-1, (self.n_bins, self.pooled)).mean(-1)

    def roots(self, curves: Tensor) -> Tensor:
        """Return the roots of the states in the bins, shape (…, rows, n_bins)."""
        return torch.sqrt(self._pool(curves.clamp_min(0)) + _FLOOR)

    def fit(self, curves: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set mean and standard deviation of each bin, over the curves that are known there.

        :param curves: curves (n, rows, m), and the energies from which (n,) and up to which (n,) they are known.
        """
        points = self._pool(self.points).repeat(self.rows)
        mean, std = curve_statistics(points, ((self.roots(c).flatten(1), low, high) for c, low, high in curves))
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, curves: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the features.

        :param curves: states/eV, shape (…, rows, m).
        :param low: energy in eV from which they are known, shape (…).
        :param high: the last one, shape (…).
        :return: shape (…, size).
        """
        there = known(self.points.to(curves), low, high)[..., None, :]
        curves = torch.where(there, curves, 0.0)
        bins = self._pool(there.to(curves))
        standardised = (self.roots(curves).flatten(-2) - self.mean.to(curves)) / self.std.to(curves)
        standardised = torch.where((bins > 0.5).expand(*bins.shape[:-2], self.rows, -1).flatten(-2), standardised, 0.0)
        occupied = (self.points <= 0).to(curves)
        counts = torch.stack([(curves * occupied).sum(-1), (curves * (1 - occupied)).sum(-1)], -1) * self.spacing
        return torch.cat([standardised, bins.squeeze(-2), torch.log1p(counts.clamp_min(0)).flatten(-2)], -1)


class CompositionNetwork(nn.Module):
    """Probabilities of the elements of each site, given its curve, the total, and the elements of other sites that are known.

    A site with a curve of its own is told by that alone. What the other sites are made of says more of it in principle, but
    with a thousand crystals a network learns by heart what it reads of them: with 540 crystals, the cross entropy of held-out
    chemical systems is 1.00 for the curve alone, 1.23 with the curves of the others, 1.27 with their probable elements. Sites
    without a curve have nothing else, so these read the elements that are known. What does couple the sites is the number of
    electrons (:mod:`.proposals`).

    Whatever is missing has an embedding of its own, and in training everything is at times; so one network serves curves by
    channel, of sites, of some sites and of the total. With elements that are known it gives the probability of a composition
    site by site, p(e₁, e₂, …) = p(e₁)·p(e₂ | e₁)·… Equivariant to permutations of the sites.

    The logits are free for each element, plus what its descriptors say (group, period, shells; :mod:`..descriptors`), so that
    an element of few crystals learns from its neighbours in the periodic table.

    :param elements: chemical symbols, in the order of the logits.
    :param grid: energies of the curves.
    :param width: size of the hidden features.
    :param stride: curves by channel have every so many energies of the grid; 0 knows no channels.
    """

    about: Tensor

    def __init__(self, elements: Sequence[str], grid: EnergyGrid, *, width: int = 128, stride: int = 0) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.register_buffer("about", descriptors(self.elements), persistent=False)
        kinds = {"site": _CurveFeatures(grid.points), "total": _CurveFeatures(grid.points)}
        if stride:
            kinds["channels"] = _CurveFeatures(channel_points(grid, stride), N_CHANNELS)
        self.features = nn.ModuleDict(kinds)
        self.embed = nn.ModuleDict({name: _embedding(kind.size, width) for name, kind in kinds.items()})
        self.null = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in kinds})
        self.size = nn.Linear(2, width)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Dropout(_DROPOUT))
        self.alone = _ElementHead(width, len(self.elements))
        self.other = nn.Linear(len(self.elements), _OTHER)
        self.other_about = nn.Linear(N_DESCRIPTORS, _OTHER)
        self.own = nn.Linear(width, _OTHER)
        self.context = nn.Sequential(
            nn.Linear(2 * _OTHER + 3, 2 * _OTHER), nn.SiLU(), nn.Dropout(_DROPOUT), nn.Linear(2 * _OTHER, _OTHER)
        )
        self.correction = _ElementHead(_OTHER, len(self.elements))

    def fit(self, batches: Iterable[DenseBatch]) -> None:
        """Set the statistics of all kinds of curve from training crystals."""
        many = list(batches)
        ends = [b.ends_of_atoms() for b in many]
        self._kind("site").fit((b.dos[b.mask][:, None], *e) for b, e in zip(many, ends, strict=True))
        self._kind("total").fit((total_curve(b.dos, b.mask)[:, None], b.low, b.complete_below) for b in many)
        if "channels" in self.features:
            parts = [(b.channels[b.mask], *e) for b, e in zip(many, ends, strict=True) if b.channels is not None]
            there = [torch.isfinite(curves).all(-1).all(-1) for curves, _, _ in parts]
            found = [(curves[t], low[t], high[t]) for (curves, low, high), t in zip(parts, there, strict=True)]
            self._kind("channels").fit(found)

    def _kind(self, name: str) -> _CurveFeatures:
        kind = self.features[name]
        assert isinstance(kind, _CurveFeatures)
        return kind

    def forward(self, condition: Condition, mask: Tensor, told: Tensor | None = None) -> Tensor:
        """Return logits of the elements, shape (B, N, n_elements).

        :param condition: of B crystals with N atoms.
        :param mask: True for atoms, shape (B, N).
        :param told: index of the element of each site, −1 where it is unknown, shape (B, N).
        """
        high, low = (end[:, None].expand(mask.shape) for end in (condition.complete_below, condition.low))
        hidden = self._embedded("site", condition.site[:, :, None], condition.site_given, low, high)
        if "channels" in self.features:
            hidden = hidden + self._embedded("channels", condition.channels, condition.channels_given, low, high)
        ends = condition.low, condition.complete_below
        total = self._embedded("total", condition.total[:, None], condition.total_given, *ends)
        n_atoms = mask.sum(-1).to(hidden.dtype)
        size = torch.stack([torch.log(n_atoms), 1 / n_atoms], -1)
        hidden = self.last(hidden + (total + self.size(size))[:, None])
        about = self.about.to(hidden)
        logits = self.alone(hidden, about)
        if told is None or bool(condition.site_given[mask].all()):
            return logits

        there = (mask & (told >= 0))[..., None].to(hidden)
        one_hot = nn.functional.one_hot(told.clamp_min(0), len(self.elements)).to(hidden)
        elements = (self.other(one_hot) + self.other_about(one_hot @ about)) * there
        share = n_atoms.clamp_min(1)[:, None, None]
        others, of = ((x.sum(1, keepdim=True) - x) / share for x in (elements, there))
        read = torch.cat([others, of, self.own(hidden), size[:, None].expand(*mask.shape, -1)], -1)
        correction = self.correction(self.context(read), about)
        return logits + torch.where(condition.site_given[..., None], 0.0, correction)

    def _embedded(self, name: str, curves: Tensor, given: Tensor, low: Tensor, high: Tensor) -> Tensor:
        null = self.null[name]
        if not given.any():
            return null.expand(*given.shape, -1)
        return torch.where(given[..., None], self.embed[name](self._kind(name)(curves, low, high)), null)

    def loss(self, condition: Condition, types: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean cross entropy of a batch of training crystals.

        :param types: index of each atom's element, shape (B, N).
        :param generator: on the CPU; which elements are told comes from it.
        """

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64).to(mask.device)

        share = uniform(len(mask), 1) * (uniform(len(mask), 1) < _REVEALED)
        shown = mask & (uniform(*mask.shape) < share)
        asked = mask & (~shown | condition.site_given)
        logits = self(condition, mask, torch.where(shown, types, -1))
        smoothing = _SMOOTHING if self.training else 0.0
        entropy = nn.functional.cross_entropy(logits[asked], types[asked], label_smoothing=smoothing, reduction="sum")
        return entropy / asked.sum().clamp_min(1)


class _ElementHead(nn.Module):
    """Logits of the elements: Wh + b, and a product of what is looked for with what the descriptors of an element say."""

    def __init__(self, width: int, n_elements: int) -> None:
        super().__init__()
        self.free = nn.Linear(width, n_elements)
        self.query = nn.Linear(width, _KEYS)
        self.key = nn.Sequential(nn.Linear(N_DESCRIPTORS, _KEYS), nn.SiLU(), nn.Linear(_KEYS, _KEYS))
        nn.init.zeros_(self.free.weight)
        nn.init.zeros_(self.free.bias)

    def forward(self, hidden: Tensor, about: Tensor) -> Tensor:
        return self.free(hidden) + self.query(hidden) @ self.key(about).T / math.sqrt(_KEYS)


def _embedding(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(_DROPOUT / 2), nn.Linear(size, width), nn.SiLU(), nn.Dropout(_DROPOUT), nn.Linear(width, width)
    )
