"""Curves by channel: a network whose curves of an atom are those of s, p, d and f, of which the atom's own is the sum.

What an element's surroundings do to a curve is mostly to move it, to widen or narrow it, and to fill it more or less: a d
band follows the Fermi level, a semicore level follows the charge. So the first guess of each channel, the element's mean curve
plus a share of what tight binding says, is moved, stretched and scaled by three numbers, D(E) → a·s·D(s·(E − δ)). The rest is
added bin by bin. A sum over bins alone would have to learn each position of a narrow peak as a curve of its own.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from ..descriptors import N_DESCRIPTORS
from .environment import EnvironmentLayer

N_CHANNELS = 4
"""s, p, d, f."""
_FIRST_SHARE = 0.9  # of the tight-binding deviation that is the first guess of a curve
_SHIFT, _STRETCH = 0.2, 0.3  # of half of the grid; logarithm, at most
_FREE_SHARE = 0.1  # of an element's features that start at random instead of from its descriptors


class ChannelMember(nn.Module):
    """From the surroundings of atoms to the curves of their channels, and to an energy.

    An element's features are a function of what is known of free atoms (:mod:`..descriptors`) plus a free row, which starts
    small: an element of which there are few crystals is treated as its neighbours in the periodic table are.

    :param n_elements: size of the vocabulary.
    :param n_points: energies of a curve.
    :param n_shells: channels that tight binding has; the first ones.
    :param stride: of the grid, every so-manieth energy of which is one of the curves'.
    """

    refine: Tensor
    places: Tensor

    def __init__(
        self,
        n_elements: int,
        n_points: int,
        n_shells: int,
        stride: int,
        width: int,
        layers: int,
        channels: int,
        radial: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_shells = n_shells
        self.register_buffer("refine", refinement(stride * (n_points - 1) + 1, stride), persistent=False)
        self.register_buffer("places", torch.linspace(-1, 1, n_points), persistent=False)
        self.free = nn.Embedding(n_elements, width)
        nn.init.normal_(self.free.weight, std=_FREE_SHARE)
        self.element = nn.Sequential(nn.Linear(N_DESCRIPTORS, width), nn.SiLU(), nn.Linear(width, width))
        self.read = nn.Sequential(nn.Linear(n_shells * n_points, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(EnvironmentLayer(width, channels, radial) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dos = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, N_CHANNELS * n_points),
        )
        self.share = nn.Parameter(torch.full((n_elements, n_shells), _FIRST_SHARE))
        self.change_share = nn.Linear(2 * width, n_shells)
        self.move = nn.Linear(2 * width, 3 * N_CHANNELS)
        self.energy = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))
        for head in (self.dos[-1], self.change_share, self.move):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, types: Tensor, descriptors: Tensor, moments: Tensor, mask: Tensor, mean: Tensor, deviation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the curves of the channels, shape (B, N, 4, n_points), and the energies in units of the scaler, (B,).

        :param types: element indices, shape (B, N).
        :param descriptors: of the vocabulary, shape (E, D).
        :param moments: :class:`.environment.PairMoments` of the crystals.
        :param mask: True for atoms, shape (B, N).
        :param mean: curves of the atoms' elements, shape (B, N, 4, n_points).
        :param deviation: of the tight-binding curves from their elements' means, shape (B, N, n_shells, n_points).
        """
        hidden = self.free(types) + self.element(descriptors)[types] + self.read(deviation.flatten(2))
        for layer in self.layers:
            hidden = layer(hidden, moments)
        present = mask.to(moments.dtype)[..., None]
        hidden = self.norm(hidden) * present
        count = present.sum(1, keepdim=True).clamp_min(1)
        whole = hidden.sum(1, keepdim=True) / count  # the zero of energy belongs to the whole crystal
        hidden = torch.cat([hidden, whole.expand_as(hidden)], -1)
        known = (self.share[types] + self.change_share(hidden))[..., None] * deviation
        guess = mean + nn.functional.pad(known, (0, 0, 0, N_CHANNELS - self.n_shells))
        curves = self._moved(guess, self.move(hidden)) + self.dos(hidden).unflatten(-1, (N_CHANNELS, -1))
        return curves, (self.energy(hidden) * present).sum((1, 2)) / count[:, 0, 0]

    def _moved(self, curves: Tensor, numbers: Tensor) -> Tensor:
        """Return a·s·D(s·(E − δ)) of each curve D, shape (B, N, 4, n_points); beyond the grid a curve is as at its ends.

        :param numbers: δ, ln s and ln a, before their limits, shape (B, N, 12).
        """
        shift, stretch, scale = numbers.unflatten(-1, (N_CHANNELS, 3)).split(1, -1)
        factor = torch.exp(_STRETCH * torch.tanh(stretch))
        fine = curves @ self.refine
        last = fine.shape[-1] - 1
        position = ((self.places - _SHIFT * shift) * factor + 1) * (last / 2)
        position = position.clamp(0, last - 1e-3)
        below = position.detach().floor()
        part, index = position - below, below.long()
        moved = fine.gather(-1, index) * (1 - part) + fine.gather(-1, index + 1) * part
        return moved * factor * torch.exp(scale.clamp(-2, 2))


def refinement(n_points: int, stride: int) -> Tensor:
    """Return the matrix from every ``stride``-th of n points to all of them by cubic splines, shape (coarse, n_points).

    Curves that are broadened by σ have no structure finer than σ/2, so that a network need not give more points.

    :raises ValueError: if the last point is not among the coarse ones.
    """
    if (n_points - 1) % stride:
        raise ValueError(f"of {n_points} points every {stride}th does not reach the last one")
    places = np.arange(0, n_points, stride)
    return torch.tensor(CubicSpline(places, np.eye(len(places)))(np.arange(n_points)).T, dtype=torch.float32)
