"""Densities of states from Hermitian matrices: with derivatives that are finite for degenerate levels, or from few k-points.

The derivative of a matrix function is made of divided differences of the function (Daleckii & Krein, 1965), which stay finite
where levels meet; those of single eigenvectors, which automatic differentiation would go through, do not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SMALLEST_OVERLAP = 0.03  # eigenvalue; below it orbitals are all but linearly dependent
_SAME_LEVEL = 1e-4  # eV
_FINER = 4  # subdivisions of each axis of a mesh, to find the highest occupied level
_SHARED_TOP = 0.05  # eV; levels this near to the highest occupied one move it, too


class _InverseSquareRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrices)
        roots = values.clamp_min(_SMALLEST_OVERLAP).sqrt()
        ctx.save_for_backward(roots, vectors)
        return (vectors / roots[:, None]) @ vectors.mH

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        roots, vectors = ctx.saved_tensors
        inner = vectors.mH @ _hermitian(gradients[0]) @ vectors
        a, b = roots[:, :, None], roots[:, None]
        return vectors @ (-inner / (a * b * (a + b))) @ vectors.mH


def inverse_square_root(matrices: Tensor) -> Tensor:
    """Return S^(−1/2) of positive Hermitian matrices, shape (K, n, n)."""
    return _InverseSquareRoot.apply(matrices)


class _ProjectedDOS(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, matrices: Tensor, n_electrons: float, points: Tensor, sigma: float, atoms: Tensor, n_atoms: int
    ) -> Tensor:
        levels, states = torch.linalg.eigh(matrices)
        k, n = levels.shape
        filled = math.ceil(n_electrons * k / 2 - 1e-6)
        top = levels.flatten().sort().values[min(max(filled, 1), k * n) - 1]
        z = (points[:, None] - (levels.flatten() - top)) / sigma
        gaussians = torch.exp(-0.5 * z.square()) / (sigma * math.sqrt(2 * math.pi))  # (points, k·n)
        weights = levels.new_zeros(k, n_atoms, n).index_add(1, atoms, states.abs().square())
        # how the highest occupied level moves with the levels at the top
        share = torch.where(levels <= top, torch.exp((levels - top) / _SHARED_TOP), 0.0)
        ctx.save_for_backward(levels, states, gaussians, gaussians * z / sigma, share / share.sum(), atoms)
        return 2 / k * torch.einsum("kan,ekn->ae", weights, gaussians.view(-1, k, n))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        levels, states, gaussians, slopes, share, atoms = ctx.saved_tensors
        k, n = levels.shape

        def contracted(curves: Tensor) -> Tensor:
            """Σ_E dL/dD_a(E) · g(E) between all pairs of states, shape (k, n, n)."""
            weights = 2 / k * (gradients[0] @ curves).view(-1, k, n).permute(1, 0, 2)[:, atoms]
            return (states * weights).mH @ states

        values, derivatives = contracted(gaussians), contracted(slopes)
        difference = levels[:, :, None] - levels[:, None]
        same = difference.abs() < _SAME_LEVEL
        apart = (values - values.mH) / torch.where(same, 1.0, difference)
        inner = torch.where(same, _hermitian(derivatives), apart)
        # all levels are measured from the highest occupied one
        shift = torch.diagonal(derivatives, dim1=1, dim2=2).real.sum()
        inner = _hermitian(inner) - torch.diag_embed((shift * share).to(inner.dtype))
        return states @ inner.mH @ states.mH, None, None, None, None, None


def projected_dos(matrices: Tensor, n_electrons: float, points: Tensor, sigma: float, atoms: Tensor, n_atoms: int) -> Tensor:
    """Return the density of states of each atom, [δ_σ(E − H)]_ii summed over its orbitals, in states/eV.

    :param matrices: Hamiltonians in an orthonormal basis at K equivalent k-points, eV, shape (K, n, n).
    :param n_electrons: two for each filled level; the highest occupied level is the zero of energy.
    :param points: eV, shape (m,).
    :param sigma: standard deviation of the broadening, eV.
    :param atoms: the atom of each orbital, shape (n,).
    :return: shape (n_atoms, m).
    """
    return _ProjectedDOS.apply(matrices, n_electrons, points, sigma, atoms, n_atoms)


class Spectrum(NamedTuple):
    """Eigenstates of Hamiltonians at K k-points that stand for cells of a mesh.

    :param levels: eV, shape (K, n).
    :param states: in columns, shape (K, n, n).
    :param changes: of each level over a step along each axis of the mesh, eV, shape (K, n, 3).
    """

    levels: Tensor
    states: Tensor
    changes: Tensor

    def top(self, n_electrons: float) -> Tensor:
        """Return the highest occupied level, as a mesh :data:`_FINER` times as fine in each direction would have it."""
        places = (torch.arange(_FINER, dtype=self.levels.dtype) + 0.5) / _FINER - 0.5
        finer = (self.levels[..., None] + self.changes @ torch.cartesian_prod(places, places, places).T).flatten()
        filled = math.ceil(n_electrons * len(finer) / (2 * self.levels.shape[1]) - 1e-6)
        return finer.kthvalue(min(max(filled, 1), len(finer))).values

    def dos(self, n_electrons: float, points: Tensor, sigma: float, atoms: Tensor, n_atoms: int) -> Tensor:
        """Return the density of states of each atom in states/eV, shape (n_atoms, m); see :func:`projected_dos`.

        Within the cell of a k-point levels are linear (Gilat & Raubenheimer, Phys. Rev. 144, 390, 1966), so that each covers
        a range of energies; a Gaussian of the same variance comes to the broadening (adaptive broadening: Yates, Wang,
        Vanderbilt & Souza, Phys. Rev. B 75, 195121, 2007).

        :param points: relative to the highest occupied level in eV, shape (m,).
        :param sigma: standard deviation of the broadening, eV.
        :param atoms: the atom of each orbital, shape (n,).
        """
        k, n = self.levels.shape
        widths = (sigma**2 + self.changes.square().sum(-1) / 12).sqrt().flatten()
        z = (points[:, None] - (self.levels.flatten() - self.top(n_electrons))) / widths
        gaussians = torch.exp(-0.5 * z.square()) / (widths * math.sqrt(2 * math.pi))
        shares = self.levels.new_zeros(k, n_atoms, n).index_add(1, atoms, self.states.abs().square())
        return 2 / k * torch.einsum("kan,ekn->ae", shares, gaussians.view(-1, k, n))


def _hermitian(matrices: Tensor) -> Tensor:
    return 0.5 * (matrices + matrices.mH)
