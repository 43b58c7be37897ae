"""The environment of an atom: moments of its neighbours' positions, with all periodic images within a cutoff.

For a pair of atoms (i, j) and the vectors r = r_j + n·L − r_i to all images n of j within the cutoff,

    G_ij[k, lm] = Σ_n φ_k(|r|) Y_lm(r/|r|),   l = 0, 1, 2, 3,

with Gaussians φ_k times a smooth cutoff. Weighted with features of j and summed over j these are the atomic base of the atomic
cluster expansion (Drautz, Phys. Rev. B 99, 014104, 2019); the sums over m of their products, one for each l, are invariant
and know distances (l = 0) and angles (l > 0). A fixed tensor for each crystal: layers contract it, none computes it again.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..neighbours import neighbours
from ..precision import full_precision

with torch.serialization.safe_globals([slice]):  # e3nn reads a table that torch takes for code otherwise
    from e3nn import o3

ORDERS = 3
"""Largest l."""
_ONE_SPOT = 1e-4  # Å


class PairMoments(nn.Module):
    """From a batch of crystals to G, differentiable with respect to coordinates and lattices.

    :param cutoff: Å.
    :param radial: number of radial Gaussians.
    """

    def __init__(self, cutoff: float = 6.0, radial: int = 16) -> None:
        super().__init__()
        self.cutoff, self.radial = cutoff, radial
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(0.8, cutoff - 0.4, radial), persistent=False)
        self.width = (cutoff - 1.2) / (radial - 1)

    @full_precision
    def forward(self, fractional: Tensor, lattices: Tensor, mask: Tensor) -> Tensor:
        """Compute the moments.

        :param fractional: shape (B, N, 3).
        :param lattices: rows are lattice vectors in Å, shape (B, 3, 3).
        :param mask: True for atoms, shape (B, N).
        :return: shape (B, N, N, radial, (ORDERS + 1)²).
        """
        batch, n = mask.shape
        b, i, j, r = pairs_within(fractional, lattices, mask, self.cutoff)
        distance = r.norm(dim=-1, keepdim=True)
        envelope = 0.5 * (1 + torch.cos(math.pi * distance / self.cutoff))
        radial = envelope * torch.exp(-0.5 * ((distance - self.centres) / self.width).square())
        terms = radial[:, :, None] * spherical_harmonics(r / distance)[:, None, :]
        out = terms.new_zeros(batch * n * n, self.radial, (ORDERS + 1) ** 2)
        return out.index_add(0, i * n + j - b * n, terms).reshape(batch, n, n, self.radial, -1)


def pairs_within(fractional: Tensor, lattices: Tensor, mask: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find all pairs of atoms within a cutoff, periodic images included; differentiable with respect to the vectors.

    Atoms on one spot are no pair: the direction from one to the other is not defined.

    :param fractional: shape (B, N, 3).
    :param lattices: rows in Å, shape (B, 3, 3).
    :param mask: True for atoms, shape (B, N).
    :param cutoff: Å.
    :return: the crystal, the two atoms as indices into B·N, each of shape (P,), and the vectors from the one to the other in
        Å, shape (P, 3).
    """
    own, cells = fractional.detach().cpu().double(), lattices.detach().cpu().double()
    present, n_atoms = mask.cpu(), mask.sum(1).cpu().numpy()
    found = neighbours((own @ cells)[present].numpy(), cells.numpy(), n_atoms, cutoff)
    apart = found.lengths > _ONE_SPOT
    places = present.flatten().nonzero()[:, 0].numpy()

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array[apart]).to(fractional.device)

    i, j, images = tensor(places[found.i]), tensor(places[found.j]), tensor(found.images)
    crystal = torch.div(i, mask.shape[1], rounding_mode="floor")
    flat = fractional.flatten(0, 1)
    return crystal, i, j, torch.einsum("pa,pab->pb", flat[j] - flat[i] + images, lattices[crystal])


def spherical_harmonics(unit: Tensor) -> Tensor:
    """Return the real spherical harmonics up to l = 3 of unit vectors, normalised so that Σ_m Y_lm² = 1, shape (…, 16)."""
    return o3.spherical_harmonics(list(range(ORDERS + 1)), unit, normalize=False, normalization="norm")


class EnvironmentLayer(nn.Module):
    """h_i ← h_i + MLP(h_i, invariants of Σ_j G_ij ⊗ W h_j).

    :param width: features of an atom.
    :param channels: features of a neighbour that are spread over its surroundings.
    """

    def __init__(self, width: int, channels: int, radial: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sender = nn.Linear(width, channels)
        self.radial = nn.Parameter(torch.randn(radial, channels) / math.sqrt(radial))
        self.mix = nn.ParameterList(nn.Parameter(torch.randn(channels, channels) / channels**0.5) for _ in range(ORDERS))
        n_invariants = channels * (ORDERS + 1)
        self.update = nn.Sequential(nn.Linear(width + n_invariants, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, moments: Tensor) -> Tensor:
        """Return the new features of the atoms, shape (B, N, width)."""
        x = self.norm(hidden)
        sent = self.sender(x)
        batch, n, _, radial, components = moments.shape
        spread = torch.einsum("bijq,bjc->biqc", moments.reshape(batch, n, n, -1), sent)
        base = torch.einsum("bikmc,kc->bimc", spread.reshape(batch, n, radial, components, -1), self.radial)
        invariants = [base[:, :, 0]]
        for order in range(1, ORDERS + 1):
            part = base[:, :, order**2 : (order + 1) ** 2]
            product = (part * (part @ self.mix[order - 1])).sum(2)
            invariants.append(product / torch.sqrt(1 + product.abs()))  # grows like the base, not like its square
        return hidden + self.update(torch.cat([x, *invariants], -1))
