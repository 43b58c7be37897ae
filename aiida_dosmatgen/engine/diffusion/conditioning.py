"""The projection P: densities of states into the space of the node embeddings.

A crystal may carry one curve for each of its atoms, for some of them, one total curve, or none; and sites with a curve may have
it by channel (s, p, d, f) besides. Each projection has a learned embedding for "nothing given", so that an absent condition is
something the network has seen, and any mixture of sites with and without a curve is in distribution. Nothing outside of the
energies at which a curve is known gets in: there the standardised curve is zero (the mean of the training set). The projection
is told where that begins above.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ...core.dos import EnergyGrid
from ..batch import DenseBatch
from .condition import N_CHANNELS, Condition, channel_points, curve_statistics, known, total_curve

_LIMIT = 8.0  # standard deviations; a target far outside of the training set must not blow up the embedding
_DROPOUT = 0.3  # of bins and of the hidden layer: some hundred crystals are fewer than the bins of a curve


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
