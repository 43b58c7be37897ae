"""Lattices as six numbers without orientation.

By polar decomposition L = exp(S)·R with S symmetric and R a rotation (arXiv:2402.03992): S = ½ ln(L·Lᵀ) is the logarithm of
the metric. Every S is a cell of positive volume and no S knows an orientation. The trace of S is ln of the volume; here it
is taken relative to the number of atoms, because the volume per atom hardly depends on how many there are.
"""

import math

import torch
from torch import Tensor, nn

from ..precision import full_precision

_R2, _R6 = 1 / math.sqrt(2), 1 / math.sqrt(6)
_BASIS = torch.tensor(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, _R2, 0], [_R2, 0, 0], [0, 0, 0]],
        [[0, 0, _R2], [0, 0, 0], [_R2, 0, 0]],
        [[0, 0, 0], [0, 0, _R2], [0, _R2, 0]],
        [[_R2, 0, 0], [0, -_R2, 0], [0, 0, 0]],
        [[-_R6, 0, 0], [0, -_R6, 0], [0, 0, 2 * _R6]],
    ],
    dtype=torch.float64,
)  # the first gives a third of the trace, the others are an orthonormal basis of the traceless symmetric matrices


@full_precision
def encode(lattices: Tensor, n_atoms: Tensor) -> Tensor:
    """Return ⅓ ln(volume per atom) and the five traceless components of S, shape (B, 6).

    :param lattices: rows are lattice vectors in Å, shape (B, 3, 3); of volume > 0.
    """
    values, vectors = torch.linalg.eigh(lattices @ lattices.transpose(-1, -2))
    logarithm = vectors @ torch.diag_embed(0.5 * torch.log(values)) @ vectors.transpose(-1, -2)
    components = torch.einsum("bij,kij->bk", logarithm, _BASIS.to(lattices))
    volume = components[:, :1] / 3 - torch.log(n_atoms.to(lattices.dtype))[:, None] / 3
    return torch.cat([volume, components[:, 1:]], -1)


@full_precision
def decode(components: Tensor, n_atoms: Tensor) -> Tensor:
    """Return the lattice exp(S), symmetric, shape (B, 3, 3) in Å: the inverse of :func:`encode` up to a rotation."""
    volume = components[:, :1] + torch.log(n_atoms.to(components.dtype))[:, None] / 3
    logarithm = torch.einsum("bk,kij->bij", torch.cat([volume, components[:, 1:]], -1), _BASIS.to(components))
    return torch.matrix_exp(logarithm)


class LatticeScaler(nn.Module):
    """Between lattices and six standardised numbers, by the mean and standard deviation of the training crystals."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("std", torch.ones(6))

    def fit(self, lattices: Tensor, n_atoms: Tensor) -> None:
        """Set mean and standard deviation from crystals."""
        components = encode(lattices.double(), n_atoms)
        self.mean.copy_(components.mean(0))
        # components that a small set leaves at zero still need room to diffuse in
        self.std.copy_(components.std(0, correction=0).clamp_min(0.05))

    def standardise(self, lattices: Tensor, n_atoms: Tensor) -> Tensor:
        """Return standardised components, shape (B, 6)."""
        return (encode(lattices, n_atoms) - self.mean.to(lattices)) / self.std.to(lattices)

    def lattices(self, standardised: Tensor, n_atoms: Tensor) -> Tensor:
        """Return lattices in Å, shape (B, 3, 3)."""
        return decode(standardised * self.std.to(standardised) + self.mean.to(standardised), n_atoms)
