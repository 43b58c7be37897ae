"""The projection P: densities of states into the space of the node embeddings.

A crystal may carry one curve for each of its atoms, for some of them, one total curve, or none; and sites with a curve may have
it by channel (s, p, d, f) besides. Each projection has a learned embedding for "nothing given", so that an absent condition is
something the network has seen, and any mixture of sites with and without a curve is in distribution. Nothing outside of the
energies at which a curve is known gets in: there the standardised curve is zero (the mean of the training set). The projection
is told where that begins above.
"""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ...core.dos import EnergyGrid
from ..batch import DenseBatch

_LIMIT = 8.0  # standard deviations; a target far outside of the training set must not blow up the embedding
_HIDE_EDGE = 0.25  # share of training crystals whose curves are cut short, as those of runs with few bands are
_SHORTEST = 1.0  # eV; no curve is cut below
_DROPOUT = 0.3  # of bins and of the hidden layer: some hundred crystals are fewer than the bins of a curve

_ZERO = 0.1  # eV, standard deviation of the zero of energy
_WRONG_ZERO, _WRONG_ZERO_SHARE = 1.5, 0.1  # eV, and share of crystals
_BROADENED = 4
_SEEN = 0.04

N_CHANNELS = 4
"""s, p, d and f."""

STRETCH = 0.06
"""Standard deviation of the logarithm by which curves are stretched in training."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """What is asked of B crystals with N atoms each (or padded to N).

    :param site: states/eV of each atom, shape (B, N, n); anything where not given.
    :param site_given: shape (B, N).
    :param total: states/eV/atom, shape (B, n); anything where not given.
    :param total_given: shape (B,).
    :param complete_below: energy in eV up to which the curves are known; may be infinite, shape (B,).
    :param low: energy in eV from which they are known; by default all are, shape (B,).
    :param said: where in between the total says something, shape (B, n); by default everywhere.
    :param channels: states/eV of each atom in its channels, on the energies that :func:`channel_points` leaves, shape
        (B, N, 4, m); by default there are none, (B, N, 0, 0).
    :param channels_given: which sites have them, shape (B, N).
    """

    site: Tensor
    site_given: Tensor
    total: Tensor
    total_given: Tensor
    complete_below: Tensor
    # None is what a caller leaves out; __post_init__ replaces it, so that readers see tensors
    low: Tensor = None  # type: ignore[assignment]
    said: Tensor = None  # type: ignore[assignment]
    channels: Tensor = None  # type: ignore[assignment]
    channels_given: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.low is None:
            object.__setattr__(self, "low", torch.full_like(self.complete_below, -math.inf))
        if self.said is None:
            object.__setattr__(self, "said", torch.ones_like(self.total, dtype=torch.bool))
        if self.channels is None:
            object.__setattr__(self, "channels", self.site.new_zeros(*self.site_given.shape, 0, 0))
        if self.channels_given is None:
            object.__setattr__(self, "channels_given", torch.zeros_like(self.site_given))

    @classmethod
    def none(cls, n_crystals: int, n_atoms: int, n_points: int, like: Tensor) -> "Condition":
        """Return the condition that asks for nothing."""
        return cls(
            like.new_zeros(n_crystals, n_atoms, n_points),
            torch.zeros(n_crystals, n_atoms, dtype=torch.bool, device=like.device),
            like.new_zeros(n_crystals, n_points),
            torch.zeros(n_crystals, dtype=torch.bool, device=like.device),
            like.new_full((n_crystals,), math.inf),
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is asked of any crystal."""
        return not bool(self.site_given.any() or self.total_given.any())

    def dropped(self) -> "Condition":
        """Return the same crystals with nothing asked of them."""
        return dataclasses.replace(
            self,
            site_given=torch.zeros_like(self.site_given),
            total_given=torch.zeros_like(self.total_given),
            channels_given=torch.zeros_like(self.channels_given),
        )

    def to(self, dtype: torch.dtype) -> "Condition":
        """Return the condition with all curves and energies in a dtype."""
        values = {name: value.to(dtype) for name, value in vars(self).items() if value.is_floating_point()}
        return dataclasses.replace(self, **values)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """How the conditions of training crystals are thinned out (core.job.TrainParameters).

    :param crystal: probability that a crystal's whole condition is dropped.
    :param site: probability that a site loses its curve, in crystals that keep a site condition. Those sites are gathered
        in as few crystals as half-empty conditions allow, so that complete ones stay the most frequent.
    :param total_only: probability that a crystal shows only its total curve.
    :param channels: probability that a crystal whose labels have channels shows its sites without them.
    """

    crystal: float = 0.15
    site: float = 0.2
    total_only: float = 0.15
    channels: float = 0.3

    def __call__(self, batch: DenseBatch, generator: torch.Generator | None = None) -> Condition:
        """Draw the condition that each crystal of a batch shows."""
        n_crystals, n_atoms = batch.mask.shape
        device, mask = batch.mask.device, batch.mask

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device)

        none = uniform(n_crystals) < self.crystal
        total_given = ~none & (uniform(n_crystals) < self.total_only)
        share = min(1.0, 2 * self.site)
        thinned = uniform(n_crystals) < share
        lost = thinned[:, None] & (uniform(n_crystals, n_atoms) < self.site / max(share, 1e-12))
        site_given = mask & ~lost & ~(none | total_given)[:, None]
        end = batch.complete_below.to(torch.float64).clamp_max(1e6)
        lowered = _SHORTEST + uniform(n_crystals) * (end.clamp_max(10.0) - _SHORTEST).clamp_min(0)
        cut = uniform(n_crystals) < _HIDE_EDGE
        start = batch.low.to(torch.float64)
        raised = -_SHORTEST - uniform(n_crystals) * (-start.clamp_min(-10.0) - _SHORTEST).clamp_min(0)
        cut_below = uniform(n_crystals) < _HIDE_EDGE
        condition = Condition(
            batch.dos,
            site_given,
            total_curve(batch.dos, mask),
            total_given,
            torch.where(cut, torch.minimum(lowered, end), end).to(batch.dos.dtype),
            torch.where(cut_below, torch.maximum(raised, start), start).to(batch.dos.dtype),
        )
        if batch.channels is None:
            return condition
        there = torch.isfinite(batch.channels).all(-1).all(-1) & (uniform(n_crystals) >= self.channels)[:, None]
        channels = torch.nan_to_num(batch.channels)
        return dataclasses.replace(condition, channels=channels, channels_given=site_given & there)


def stretched(
    condition: Condition, grid: EnergyGrid, generator: torch.Generator | None = None, scale: float = STRETCH
) -> Condition:
    """Stretch the energies of each crystal's curves by a random factor: D(E) → s·D(s·E), ln s ~ N(0, scale²).

    Bands widen as a crystal is compressed, to first order by a factor common to all of them. A training set has each crystal
    at a few volumes only, and without this a network learns these few curves by heart instead of their shape.
    """
    draws = torch.randn(len(condition.complete_below), generator=generator, dtype=torch.float64)
    factor = torch.exp(scale * draws).to(condition.site)
    return _moved(condition, grid, factor, torch.zeros_like(factor))


def _moved(condition: Condition, grid: EnergyGrid, factor: Tensor, zero: Tensor) -> Condition:
    """Return curves with D'(E) = s·D(s·(E − E₀)), for factors s and energies E₀ of each crystal, shapes (B,)."""

    def resampled(curves: Tensor) -> Tensor:
        n = curves.shape[-1]
        if n == 0:
            return curves
        points = torch.as_tensor(np.linspace(grid.emin, grid.emax, n), dtype=curves.dtype, device=curves.device)
        spacing = (grid.emax - grid.emin) / (n - 1)
        place = ((factor[:, None] * (points - zero[:, None]) - grid.emin) / spacing).clamp(0, n - 1)  # (B, n)
        low = place.floor().long().clamp_max(n - 2)
        share = place - low
        index, weight = (x.reshape(len(x), *[1] * (curves.ndim - 2), -1).expand_as(curves) for x in (low, share))
        values = torch.lerp(curves.gather(-1, index), curves.gather(-1, index + 1), weight)
        return values * factor.reshape(-1, *[1] * (curves.ndim - 1))

    return dataclasses.replace(
        condition,
        site=resampled(condition.site),
        total=resampled(condition.total),
        channels=resampled(condition.channels),
        complete_below=condition.complete_below / factor + zero,
        low=condition.low / factor + zero,
    )


def varied(condition: Condition, grid: EnergyGrid, generator: torch.Generator | None = None) -> Condition:
    """Vary curves as other codes, recipes and conventions do.

    The zero of each crystal moves a little, and in some by up to 1.5 eV down, as where it is the middle of a gap; one batch in
    four is broadened further; what projectors see of a site and of its channels changes by some percent.
    """
    n_crystals = len(condition.complete_below)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(condition.site)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(condition.site)

    wrong = uniform(n_crystals) < _WRONG_ZERO_SHARE
    zero = torch.where(wrong, -_WRONG_ZERO * uniform(n_crystals), _ZERO * normal(n_crystals))
    condition = _moved(condition, grid, torch.ones_like(zero), zero)
    added = 0.1 + 0.4 * float(uniform(1))
    if float(uniform(1)) < 1 / _BROADENED:
        condition = dataclasses.replace(
            condition,
            **{
                name: _broadened(getattr(condition, name), (grid.emax - grid.emin), added)
                for name in ("site", "total", "channels")
            },
        )
    sites = torch.exp(_SEEN * normal(*condition.site_given.shape, 1))
    rows = torch.exp(_SEEN * normal(*condition.channels.shape[:3], 1))
    return dataclasses.replace(condition, site=condition.site * sites, channels=condition.channels * rows)


def _broadened(curves: Tensor, width: float, sigma: float) -> Tensor:
    """Convolve curves with a Gaussian.

    :param width: of the energies, eV.
    """
    n = curves.shape[-1]
    if n == 0:
        return curves
    spacing = width / (n - 1)
    reach = math.ceil(3 * sigma / spacing)
    steps = torch.arange(-reach, reach + 1, dtype=curves.dtype, device=curves.device) * spacing
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    padded = nn.functional.pad(curves.reshape(-1, 1, n), (reach, reach), mode="replicate")
    return nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None]).reshape(curves.shape)


def channel_points(grid: EnergyGrid, stride: int) -> np.ndarray:
    """Return the energies of curves by channel, every so many of the grid's, in eV."""
    return grid.points[::stride]


def total_curve(dos: Tensor, mask: Tensor) -> Tensor:
    """Return the DOS per atom, averaged over the atoms of each crystal, shape (B, n)."""
    present = mask.to(dos.dtype)[..., None]
    return (dos * present).sum(1) / present.sum(1).clamp_min(1)


def known(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Tell at which energies curves are known, shape (…, n).

    :param points: eV, shape (n,).
    :param low: the first energy in eV, shape (…).
    :param high: the last one, shape (…).
    """
    return (points >= low[..., None]) & (points <= high[..., None])


def curve_statistics(points: Tensor, curves: Iterable[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each bin over the curves that are known there, shapes (n,), float64.

    :param points: energies of the bins in eV, shape (n,).
    :param curves: curves (m, n), and the energies from which (m,) and up to which (m,) they are known.
    """
    count, first, second = (torch.zeros(len(points), dtype=torch.float64) for _ in range(3))
    for values, low, high in curves:
        complete = known(points.cpu().double(), low.double().cpu(), high.double().cpu())
        kept = torch.where(complete, values.double().cpu(), 0.0)
        count += complete.sum(0)
        first += kept.sum(0)
        second += kept.square().sum(0)
    mean = first / count.clamp_min(1)
    std = (second / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt()
    return mean, std.clamp_min(0.1 * float(std.mean()) + 1e-6)  # bins that are empty in all of them


class CurveProjection(nn.Module):
    """One kind of curve into embeddings: standardise each bin, hide what is not complete, two linear layers; or the null.

    :param grid: the energies of the curves.
    :param width: size of the embedding.
    :param points: the energies of the bins, if they are others than the grid's; curves by channel are one behind another.
    """

    points: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, grid: EnergyGrid, width: int, points: np.ndarray | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("points", torch.tensor(grid.points if points is None else points), persistent=False)
        n = len(self.points)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("std", torch.ones(n))
        self.project = nn.Sequential(
            nn.Dropout(_DROPOUT), nn.Linear(n + 1, width), nn.SiLU(), nn.Dropout(_DROPOUT), nn.Linear(width, width)
        )
        self.null = nn.Parameter(0.02 * torch.randn(width))

    def fit(self, curves: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Set mean and standard deviation of each bin, over the curves that are known there.

        :param curves: as of :func:`curve_statistics`.
        """
        mean, std = curve_statistics(self.points, curves)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, curves: Tensor, given: Tensor, complete_below: Tensor, low: Tensor) -> Tensor:
        """Project curves.

        :param curves: states/eV, shape (…, n).
        :param given: where there is one, shape (…).
        :param complete_below: energy in eV up to which they are known, shape (…).
        :param low: energy in eV from which they are, shape (…).
        :return: shape (…, width).
        """
        standardised = ((curves - self.mean.to(curves)) / self.std.to(curves)).clamp(-_LIMIT, _LIMIT)
        complete = known(self.points.to(curves), low, complete_below)
        standardised = torch.where(complete & given[..., None], standardised, 0.0)
        edge = (complete_below.clamp(self.grid.emin, self.grid.emax) - self.grid.emin) / (self.grid.emax - self.grid.emin)
        embedded = self.project(torch.cat([standardised, 2 * edge[..., None] - 1], -1))
        return torch.where(given[..., None], embedded, self.null)


class Conditioning(nn.Module):
    """P: the embeddings that a :class:`Condition` adds to the atoms and to the crystal.

    :param grid: the energies of the curves.
    :param width: size of the embeddings.
    :param stride: curves by channel have every so many energies of the grid; 0 knows no channels.
    """

    def __init__(self, grid: EnergyGrid, width: int, stride: int = 0) -> None:
        super().__init__()
        self.site = CurveProjection(grid, width)
        self.total = CurveProjection(grid, width)
        self.channels = CurveProjection(grid, width, np.tile(channel_points(grid, stride), N_CHANNELS)) if stride else None

    def fit(self, batches: Iterable[DenseBatch]) -> None:
        """Set the statistics of all kinds of curve from training crystals."""
        many = list(batches)
        self.site.fit((b.dos[b.mask], *b.ends_of_atoms()) for b in many)
        self.total.fit((total_curve(b.dos, b.mask), b.low, b.complete_below) for b in many)
        if self.channels is not None:
            self.channels.fit(part for b in many for part in _with_channels(b))

    def forward(self, condition: Condition, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed a condition.

        :return: what is added to the node embeddings, shape (B, N, width), and to the context, shape (B, width): the
            projection of the total curve and the mean of those of the sites.
        """
        high, low = (end[:, None].expand(mask.shape) for end in (condition.complete_below, condition.low))
        sites = self.site(condition.site, condition.site_given, high, low)
        if self.channels is not None:
            curves = condition.channels.flatten(2)
            if not curves.shape[-1]:
                curves = curves.new_zeros(*mask.shape, len(self.channels.points))
            sites = sites + self.channels(curves, condition.channels_given, high, low)
        present = mask.to(sites.dtype)[..., None]
        mean = (sites * present).sum(1) / present.sum(1).clamp_min(1)
        return sites, self.total(condition.total, condition.total_given, condition.complete_below, condition.low) + mean


def _with_channels(batch: DenseBatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the curves by channel of those atoms that have them, as of :func:`curve_statistics`."""
    if batch.channels is None:
        return []
    there = torch.isfinite(batch.channels).all(-1).all(-1)[batch.mask]
    low, high = batch.ends_of_atoms()
    return [(batch.channels[batch.mask][there].flatten(1), low[there], high[there])]
