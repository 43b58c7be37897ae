"""What is asked of crystals: curves of the sites, of their channels or of all, and the energies where they are known."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ...core.dos import EnergyGrid

N_CHANNELS = 4
"""s, p, d and f."""


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
