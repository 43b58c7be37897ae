"""The shared backbone: all-pairs message passing on a periodic crystal.

A crystal of 1–20 atoms is a small dense problem, so every atom exchanges messages with every atom (itself included: an atom
and its own images) and there is no neighbour list. Pairs are described by quantities that know nothing of the origin, of the
orientation of the lattice and of which image of an atom is stored (Δf is the difference of fractional coordinates):

- sin and cos of 2πk·Δf for small integer vectors k (as in DiffCSP, arXiv:2309.04475, with cross terms between the axes);
- Gaussians of the Cartesian distances, summed over the 27 nearest images: Σ_n w(Δf+n) φ_r(|(Δf+n)L|), where the window w
  takes images out smoothly before the list of them changes. So the sum is periodic *and* smooth, which a shortest distance
  is not, and it tells four neighbours at 2.4 Å from one;
- the shape of the lattice: metric, lengths, angles, volume per atom.

The first layer of the message function is split into an atom-i, an atom-j and a pair part, so that only the last is computed
once for each pair.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..precision import full_precision

__all__ = ["CrystalNetwork", "PairGeometry", "Pairs", "lattice_features"]

LATTICE_FEATURES = 14
_SMALLEST_VOLUME = 1e-6  # Å³ per atom; keeps the logarithms of a collapsed cell finite


class Pairs(NamedTuple):
    """Geometry of all pairs of atoms in a batch of crystals.

    :param scalars: invariant features, shape (B, N, N, n_scalars).
    :param vectors: odd functions of Δf = f_j − f_i in fractional components, shape (B, N, N, n_vectors, 3).
    :param lattice: features of each cell, shape (B, LATTICE_FEATURES).
    """

    scalars: Tensor
    vectors: Tensor
    lattice: Tensor


def lattice_features(lattices: Tensor, n_atoms: Tensor) -> Tensor:
    """Describe the shape of each cell, whatever its orientation.

    The metric over v^(2/3), the logarithms of the lengths over v^(1/3), the cosines of the angles, ln v and ln N, with v the
    volume per atom; all of order one. Smooth for cubic cells also, where eigenvectors would not be.

    :param lattices: rows are lattice vectors in Å, shape (B, 3, 3).
    :param n_atoms: shape (B,).
    :return: shape (B, LATTICE_FEATURES).
    """
    volume = torch.linalg.det(lattices).abs().clamp_min(_SMALLEST_VOLUME) / n_atoms
    unit = volume ** (1 / 3)
    metric = lattices @ lattices.transpose(-1, -2)
    lengths = torch.sqrt(torch.diagonal(metric, dim1=-2, dim2=-1) + 1e-12)
    i, j = [0, 0, 1], [1, 2, 2]
    products = metric[:, i, j]
    cosines = products / (lengths[:, i] * lengths[:, j])
    reduced = torch.cat([lengths.square(), products], -1) / unit.square()[:, None]
    return torch.cat(
        [
            reduced / n_atoms[:, None] ** (2 / 3),
            torch.log(lengths / unit[:, None]),
            cosines,
            torch.log(volume)[:, None] / 3,
            torch.log(n_atoms)[:, None],
        ],
        -1,
    )


class PairGeometry(nn.Module):
    """From fractional coordinates and lattices to :class:`Pairs`.

    :param frequencies: harmonics of Δf along each lattice vector.
    :param cutoff: distance in Å of the last radial Gaussian.
    :param radial: number of radial Gaussians.
    """

    def __init__(self, frequencies: int, cutoff: float = 6.0, radial: int = 16) -> None:
        super().__init__()
        axes = [tuple(k if a == axis else 0 for a in range(3)) for axis in range(3) for k in range(1, frequencies + 1)]
        mixed = [v for v in itertools.product((-1, 0, 1), repeat=3) if v > (0, 0, 0) and sum(map(abs, v)) > 1]
        self.images: Tensor
        self.waves: Tensor
        self.centres: Tensor
        self.register_buffer("waves", torch.tensor(axes + mixed, dtype=torch.get_default_dtype()), persistent=False)
        images = list(itertools.product((-1, 0, 1), repeat=3))
        self.register_buffer("images", torch.tensor(images, dtype=torch.get_default_dtype()), persistent=False)
        # below 0.5 Å everything is one clash; a Gaussian at zero would only count the atom itself
        self.register_buffer("centres", torch.linspace(0.5, cutoff, radial), persistent=False)
        self.spacing = (cutoff - 0.5) / (radial - 1)
        self.n_scalars = 2 * len(self.waves) + radial + 1
        self.n_vectors = len(self.waves) + radial

    @full_precision
    def forward(self, fractional: Tensor, lattices: Tensor, mask: Tensor) -> Pairs:
        """Compute the geometry of all pairs, of padding atoms too (mask them afterwards).

        :param fractional: shape (B, N, 3).
        :param lattices: rows are lattice vectors in Å, shape (B, 3, 3).
        :param mask: True for atoms, shape (B, N).
        """
        n_atoms = mask.sum(-1).clamp_min(1).to(fractional.dtype)
        difference = fractional[:, None, :, :] - fractional[:, :, None, :]  # (B, i, j, 3), from i to j
        difference = difference - torch.round(difference.detach())
        phase = 2 * math.pi * (difference @ self.waves.T)
        sine, cosine = torch.sin(phase), torch.cos(phase)

        shifted = difference[..., None, :] + self.images  # (B, N, N, 27, 3)
        cartesian = shifted @ lattices[:, None, None]
        distance = torch.sqrt(cartesian.square().sum(-1) + 1e-12)
        beyond = (2 * shifted.abs() - 2).clamp(0, 1)  # 0 within one cell, 1 at a cell and a half
        window = torch.cos(beyond * (math.pi / 2)).square().prod(-1)
        basis = torch.exp(-0.5 * ((distance[..., None] - self.centres) / self.spacing).square()) * window[..., None]
        same = torch.eye(fractional.shape[1], dtype=fractional.dtype, device=fractional.device)
        same = same.expand(len(fractional), -1, -1)[..., None]
        scalars = torch.cat([sine, cosine, torch.log1p(basis.sum(-2)), same], -1)
        vectors = torch.cat([sine[..., None] * self.waves, basis.transpose(-1, -2) @ shifted], -2)
        return Pairs(scalars, vectors, lattice_features(lattices, n_atoms))


class _Layer(nn.Module):
    """h_i ← h_i + φ(h_i, mean_j ψ(h_i, h_j, e_ij)), with the context scaling and shifting what goes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.receiver = nn.Linear(width, width, bias=False)
        self.sender = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(width, width)
        self.message = nn.Linear(width, width)
        last = nn.Linear(width, width)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), last)
        for module in (self.modulation, last):  # each layer starts as the identity
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, hidden: Tensor, pairs: Tensor, weights: Tensor, context: Tensor | None) -> Tensor:
        x = self.norm(hidden)
        if context is not None:
            scale, shift = self.modulation(context)[:, None].chunk(2, -1)
            x = x * (1 + scale) + shift
        messages = self.pair(pairs)
        messages = messages + self.receiver(x)[:, :, None]
        messages = messages + self.sender(x)[:, None]
        messages = nn.functional.silu(self.message(nn.functional.silu(messages)))
        received = torch.einsum("bij,bijw->biw", weights, messages)
        return hidden + self.update(torch.cat([x, received], -1))


class CrystalNetwork(nn.Module):
    """Message passing between all atoms of a periodic crystal.

    Invariant to rotations of the lattice, to translations of all fractional coordinates and to integer shifts of single
    ones; equivariant to permutations of the atoms. Differentiable with respect to coordinates and lattices.

    :param node_width: size of the input features of an atom.
    :param width: size of the hidden features.
    :param layers: rounds of messages.
    :param frequencies: harmonics of the fractional differences along each lattice vector.
    """

    def __init__(self, node_width: int, *, width: int, layers: int, frequencies: int) -> None:
        super().__init__()
        self.width = width
        self.geometry = PairGeometry(frequencies)
        self.embed_nodes = nn.Linear(node_width, width)
        self.embed_pairs = nn.Linear(self.geometry.n_scalars, width)
        self.embed_lattice = nn.Linear(LATTICE_FEATURES, width)
        self.mix_pairs = nn.Linear(width, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def embed(self, pairs: Pairs) -> Tensor:
        """Return the pair embedding that all layers share, shape (B, N, N, width)."""
        lattice = self.embed_lattice(pairs.lattice)[:, None, None]
        return nn.functional.silu(self.mix_pairs(nn.functional.silu(self.embed_pairs(pairs.scalars) + lattice)))

    def forward(
        self,
        nodes: Tensor,
        fractional: Tensor,
        lattices: Tensor,
        mask: Tensor,
        context: Tensor | None = None,
    ) -> Tensor:
        """Return the features of the atoms; those of padding atoms are zero.

        :param nodes: input features, shape (B, N, node_width).
        :param fractional: fractional coordinates, shape (B, N, 3).
        :param lattices: rows are lattice vectors in Å, shape (B, 3, 3).
        :param mask: True for atoms, False for padding, shape (B, N).
        :param context: features of each crystal as a whole, e.g. of a diffusion time, shape (B, width).
        :return: shape (B, N, width).
        """
        return self.propagate(nodes, self.embed(self.geometry(fractional, lattices, mask)), mask, context)

    def propagate(self, nodes: Tensor, embedded: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """As :meth:`forward`, for pair embeddings already computed by :meth:`embed`."""
        present = mask.to(nodes.dtype)
        weights = present[:, :, None] * present[:, None, :]
        weights = weights / present.sum(-1).clamp_min(1)[:, None, None]
        hidden = self.embed_nodes(nodes)
        for layer in self.layers:
            hidden = layer(hidden, embedded, weights, context)
        return self.norm(hidden) * present[..., None]
