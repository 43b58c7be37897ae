"""Novelty: the distance of an atom's environment from the training data.

Members of an ensemble may agree on what none of them has seen. The distance in the space of descriptors knows better: it is
the Mahalanobis distance, as in outlier detection for interatomic potentials and surrogates (e.g. Chem. Sci. 10, 7913, 2019),
of the logarithmic radial densities around an atom from those around the atoms of its element in the training set.

Radial densities alone do not tell which elements the neighbours are: new chemistry in a known geometry is known to them.
:func:`surroundings` adds what the neighbours at each distance are like.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_QUANTILE = 0.95  # of the training atoms, up to which nothing counts as new
_FLOOR = 1e-3  # of the mean variance; smaller eigenvalues say how few crystals there were


class Novelty(nn.Module):
    """A factor for each atom: 1 within the training set's distances, and beyond it the distance in units of its edge.

    :param n_elements: size of the vocabulary.
    :param n_features: length of the descriptor of an atom.
    """

    def __init__(self, n_elements: int, n_features: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.whitening: Tensor
        self.edge: Tensor
        self.register_buffer("mean", torch.zeros(n_elements, n_features))
        self.register_buffer("whitening", torch.zeros(n_elements, n_features, n_features))
        self.register_buffer("edge", torch.ones(()))

    def fit(self, features: Tensor, types: Tensor) -> None:
        """Set the distributions from the A atoms of a training set.

        The covariance of an element is shrunk towards that of all atoms, by as much as its atoms are few.

        :param features: shape (A, n_features).
        :param types: element indices, shape (A,).
        """
        x = features.double()
        size = x.shape[1]
        floor = _FLOOR * x.var(0, correction=0).mean().clamp_min(1e-6) * torch.eye(size, dtype=x.dtype, device=x.device)
        common = _covariance(x)
        for k in range(len(self.mean)):
            own = x[types == k]
            share = len(own) / (len(own) + size)
            covariance = (1 - share) * common + floor + (share * _covariance(own) if len(own) else 0)
            self.mean[k] = own.mean(0) if len(own) else x.mean(0)
            # ‖L⁻¹ y‖² = yᵀ Σ⁻¹ y for Σ = L Lᵀ
            lower = torch.linalg.cholesky(covariance)
            self.whitening[k] = torch.linalg.solve_triangular(
                lower, torch.eye(size, dtype=x.dtype, device=x.device), upper=False
            )
        self.edge.copy_(torch.quantile(self.distance(features.to(self.mean), types), _QUANTILE).clamp_min(1e-3))

    def distance(self, features: Tensor, types: Tensor) -> Tensor:
        """Return the root mean square of the whitened features, of order 1 for training atoms, shape (…)."""
        centred = features - self.mean[types]
        return torch.einsum("...ij,...j->...i", self.whitening[types], centred).square().mean(-1).sqrt()

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Return the factors, at least 1; 1 everywhere before :meth:`fit`.

        :param features: shape (…, n_features).
        :param types: shape (…).
        """
        return (self.distance(features, types) / self.edge).clamp_min(1.0)


class ChemicalNovelty(nn.Module):
    """The same factor by :func:`surroundings`, for many elements with few atoms each.

    All elements share one covariance, that of the deviations from their means; an element that has been seen n times has a mean
    that is uncertain by 1/n of it.

    :param n_elements: size of the vocabulary.
    :param n_features: length of the descriptor of an atom.
    """

    def __init__(self, n_elements: int, n_features: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.counts: Tensor
        self.whitening: Tensor
        self.edge: Tensor
        self.register_buffer("mean", torch.zeros(n_elements, n_features))
        self.register_buffer("counts", torch.ones(n_elements))
        self.register_buffer("whitening", torch.zeros(n_features, n_features))
        self.register_buffer("edge", torch.ones(()))

    def fit(self, features: Tensor, types: Tensor) -> None:
        """Set the distributions from the A atoms of a training set.

        :param features: shape (A, n_features).
        :param types: element indices, shape (A,).
        """
        x = features.double()
        counts = torch.bincount(types, minlength=len(self.mean)).to(x)
        mean = x.new_zeros(self.mean.shape).index_add(0, types, x) / counts.clamp_min(1)[:, None]
        mean[counts == 0] = x.mean(0)
        size = x.shape[1]
        unit = torch.eye(size, dtype=x.dtype, device=x.device)
        floor = _FLOOR * x.var(0, correction=0).mean().clamp_min(1e-6) * unit
        lower = torch.linalg.cholesky(_covariance(x - mean[types]) + floor)
        self.whitening.copy_(torch.linalg.solve_triangular(lower, unit, upper=False))
        self.mean.copy_(mean)
        self.counts.copy_(counts)
        self.edge.copy_(torch.quantile(self.distance(features.to(self.mean), types), _QUANTILE).clamp_min(1e-3))

    def distance(self, features: Tensor, types: Tensor) -> Tensor:
        """Return the root mean square of the whitened features, of order 1 for training atoms, shape (…)."""
        uncertain = 1 + 1 / self.counts[types].clamp_min(0.5)
        return ((features - self.mean[types]) @ self.whitening.T).square().mean(-1).sqrt() * uncertain.sqrt()

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Return the factors, at least 1; 1 everywhere before :meth:`fit`.

        :param features: shape (…, n_features).
        :param types: shape (…).
        """
        return (self.distance(features, types) / self.edge).clamp_min(1.0)


def surroundings(moments: Tensor, mask: Tensor, likeness: Tensor) -> Tensor:
    """Return ln(1 + n) of the numbers of neighbours at some distances, and what these are like, shape (B, N, (1 + D)·radial/2).

    :param moments: :class:`.environment.PairMoments` of the crystals, of an even number of radial Gaussians.
    :param mask: True for atoms, shape (B, N).
    :param likeness: numbers that say what an atom's element is like (:mod:`..descriptors`), of order 1, shape (B, N, D).
    """
    density = moments[..., 0] * mask[:, None, :, None].to(moments.dtype)
    density = density.unflatten(-1, (-1, 2)).sum(-1)  # radial Gaussians two by two
    number = density.sum(2)
    like = torch.einsum("bijr,bjd->bird", density, likeness) / (1 + number[..., None])
    return torch.cat([torch.log1p(number), like.flatten(2)], -1)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)
