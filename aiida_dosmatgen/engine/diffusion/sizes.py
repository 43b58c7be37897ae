"""How many atoms crystals with a given density of states have."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...core.dos import EnergyGrid
from ..batch import DenseBatch
from .condition import curve_statistics, known, total_curve

_UNSEEN = 1e-4  # crystals, in place of none, so that logarithms stay finite
_MOST_EVALUATED = 2000  # training crystals by which the width of the kernel is chosen
_WIDTHS = 24


class SizeDistribution(nn.Module):
    """p(N | D): the number of atoms of the cell given the total DOS per atom, or of any crystal where none is given.

    A kernel estimate over the training crystals j, with the training frequencies f as its prior:

        p(N | D) = (Σ_j K(D, D_j)·[N_j = N] + f(N)) / (Σ_j K(D, D_j) + 1),   K = exp(−|z(D) − z(D_j)|²/2h²)

    z are the leading principal components of the standardised curves; what of D is in none of them counts as distance from all
    crystals, so that a curve unlike the training set's falls back on the frequencies. The width h is the one that makes the
    sizes of training compounds likeliest when all crystals of the same reduced formula are left out, h → 0 (the frequencies
    alone) included. So it knows no more of a curve than carries over to other compounds. With some hundred crystals that can
    be nothing; a parametric head on the same curves learned them by heart (cross entropy 0.3 on 330 crystals, 1.8 on 37 of
    other formulas, where the frequencies have 1.25).
    A curve tells of the stoichiometry, and by it of the multiples that N can be; it cannot tell a cell from its supercell.

    :param grid: the energies of the curves.
    :param max_atoms: the largest N.
    :param n_curves: training crystals.
    :param components: principal components of the curves.
    """

    def __init__(self, grid: EnergyGrid, max_atoms: int, n_curves: int = 0, components: int = 16) -> None:
        super().__init__()
        self.max_atoms, self.grid = max_atoms, grid
        self.points: Tensor
        self.frequencies: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.components: Tensor
        self.known: Tensor
        self.sizes: Tensor
        self.width: Tensor
        self.register_buffer("points", torch.tensor(grid.points), persistent=False)
        self.register_buffer("frequencies", torch.full((max_atoms,), 1 / max_atoms))
        self.register_buffer("mean", torch.zeros(grid.n))
        self.register_buffer("std", torch.ones(grid.n))
        self.register_buffer("components", torch.zeros(grid.n, components))
        self.register_buffer("known", torch.zeros(n_curves, components))
        self.register_buffer("sizes", torch.ones(n_curves, dtype=torch.long))
        self.register_buffer("width", torch.zeros(()))

    def fit(self, batches: list[DenseBatch]) -> None:
        """Take the training crystals, and choose the width of the kernel on them.

        :param batches: all crystals; a checkpoint's header must say as many, ``n_curves``.
        """
        curves = torch.cat([total_curve(b.dos, b.mask) for b in batches])
        low, high = (torch.cat([getattr(b, name) for b in batches]) for name in ("low", "complete_below"))
        self.sizes = torch.cat([b.n_atoms for b in batches]).to(self.sizes)
        counts = torch.bincount(self.sizes - 1, minlength=self.max_atoms).to(self.frequencies)
        self.frequencies.copy_(counts.clamp_min(_UNSEEN) / counts.clamp_min(_UNSEEN).sum())
        mean, std = curve_statistics(self.points, [(curves, low, high)])
        self.mean.copy_(mean)
        self.std.copy_(std)
        standardised = self._standardised(curves, low, high)
        rank = min(self.components.shape[1], *standardised.shape)
        self.components[:, :rank] = torch.linalg.svd(standardised.double(), full_matrices=False)[2][:rank].T.to(standardised)
        self.known = (standardised @ self.components).to(self.known)
        self._choose_width(standardised, [f for b in batches for f in _formulas(b)])

    def _choose_width(self, standardised: Tensor, formulas: list[tuple]) -> None:
        number = {formula: i for i, formula in enumerate(dict.fromkeys(formulas))}
        group = torch.tensor([number[f] for f in formulas])
        evaluated = torch.arange(0, len(group), max(1, math.ceil(len(group) / _MOST_EVALUATED)))
        squares = self._squares(standardised[evaluated])
        other = (group[evaluated][:, None] != group).to(squares)
        weights = 1 / torch.bincount(group[evaluated])[group[evaluated]]  # each compound has the same weight
        typical = float(squares.mean().sqrt())
        best = -math.inf
        for width in [0.0, *torch.logspace(-1.5, 0.5, _WIDTHS).mul(typical).tolist()]:
            probabilities = self._mixed(_kernel(squares, width) * other).gather(1, self.sizes[evaluated, None] - 1)
            likelihood = float((probabilities[:, 0].log() * weights).sum())
            if likelihood > best:
                best = likelihood
                self.width.fill_(width)

    def _standardised(self, curves: Tensor, low: Tensor, high: Tensor) -> Tensor:
        complete = known(self.points.to(curves), low, high)
        return torch.where(complete, (curves - self.mean.to(curves)) / self.std.to(curves), 0.0)

    def _squares(self, standardised: Tensor) -> Tensor:
        """Return |z − z_j|² plus the square of what is in no component, shape (B, n_curves)."""
        components = self.components.to(standardised)
        place = standardised @ components
        rest = (standardised - place @ components.T).square().sum(-1, keepdim=True)
        return torch.cdist(place, self.known.to(standardised)).square() + rest

    def _mixed(self, weights: Tensor) -> Tensor:
        """Return probabilities of the sizes from the weights of the known crystals, shape (B, n_curves)."""
        votes = torch.zeros(len(weights), self.max_atoms, dtype=weights.dtype, device=weights.device)
        votes = votes.index_add(1, self.sizes - 1, weights) + self.frequencies.to(weights)
        return votes / votes.sum(-1, keepdim=True)

    def forward(self, total: Tensor, given: Tensor, complete_below: Tensor, low: Tensor | None = None) -> Tensor:
        """Return p(N), N = 1 … max_atoms.

        :param total: states/eV/atom; anything where not given, shape (B, n).
        :param given: shape (B,).
        :param complete_below: energy in eV up to which the curves are known, shape (B,).
        :param low: energy in eV from which they are; by default all are, shape (B,).
        :return: shape (B, max_atoms).
        """
        low = torch.full_like(complete_below, -math.inf) if low is None else low
        squares = self._squares(self._standardised(total, low, complete_below))
        return self._mixed(_kernel(squares, float(self.width)) * given[:, None].to(total))


def _kernel(squares: Tensor, width: float) -> Tensor:
    return torch.exp(-0.5 * squares / width**2) if width > 0 else torch.zeros_like(squares)


def _formulas(batch: DenseBatch) -> list[tuple]:
    """Return the reduced formula of each crystal, as sorted pairs of element index and count."""
    formulas = []
    for types, mask in zip(batch.types.cpu(), batch.mask.cpu(), strict=True):
        elements, counts = types[mask].unique(return_counts=True)
        divisor = math.gcd(*counts.tolist())
        formulas.append(tuple(zip(elements.tolist(), (counts // divisor).tolist(), strict=True)))
    return formulas
