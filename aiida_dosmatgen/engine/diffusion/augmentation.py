"""The conditions that training crystals show: thinned out, stretched, and varied as other codes and recipes vary them."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn

from ...core.dos import EnergyGrid
from ..batch import DenseBatch
from .condition import Condition, total_curve

_HIDE_EDGE = 0.25  # share of training crystals whose curves are cut short, as those of runs with few bands are
_SHORTEST = 1.0  # eV; no curve is cut below

_ZERO = 0.1  # eV, standard deviation of the zero of energy
_WRONG_ZERO, _WRONG_ZERO_SHARE = 1.5, 0.1  # eV, and share of crystals
_BROADENED = 4
_SEEN = 0.04

STRETCH = 0.06
"""Standard deviation of the logarithm by which curves are stretched in training."""


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
