"""Per-atom density of states and formation energy of a crystal: the surrogate of the DFT run that follows.

The network does not start from nothing: it is given the tight-binding curve of each atom (:mod:`.tightbinding`), whose few
parameters are fitted first, and learns what is between that and DFT. What holds for chemistry that no network has seen is
mostly there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import InMemoryDataset
from torch_geometric.loader import DataLoader

from ...core.dos import EnergyGrid
from ...core.files.checkpoint_header import CheckpointHeader
from ..batch import to_dense
from .environment import EnvironmentLayer, PairMoments
from .novelty import Novelty
from .tightbinding import TightBinding

_FIRST_SHARE = 0.9  # of the tight-binding deviation that is the first guess of a curve


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What each of M members says about B crystals padded to N atoms.

    :param dos: states/eV, shape (M, B, N, n); may dip below zero.
    :param formation_energy: eV/atom, shape (M, B).
    :param novelty: of the surroundings of each atom, 1 within the training set (:class:`.novelty.Novelty`), shape (B, N).
    """

    dos: Tensor
    formation_energy: Tensor
    novelty: Tensor


class _Member(nn.Module):
    """One network: atoms' environments to curves and an energy, both in the units of the scalers."""

    def __init__(
        self, n_elements: int, n_energies: int, width: int, layers: int, channels: int, radial: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_elements, width)
        self.read = nn.Sequential(nn.Linear(n_energies, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(EnvironmentLayer(width, channels, radial) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dos = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, n_energies),
        )
        self.share = nn.Parameter(torch.full((n_elements, 1), _FIRST_SHARE))
        self.change_share = nn.Linear(2 * width, 1)
        self.energy = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))
        for head in (self.dos[-1], self.change_share):
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, types: Tensor, moments: Tensor, mask: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embed(types) + self.read(deviation)
        for layer in self.layers:
            hidden = layer(hidden, moments)
        present = mask.to(moments.dtype)[..., None]
        hidden = self.norm(hidden) * present
        count = present.sum(1, keepdim=True).clamp_min(1)
        mean = hidden.sum(1, keepdim=True) / count  # the zero of energy belongs to the whole crystal
        hidden = torch.cat([hidden, mean.expand_as(hidden)], -1)
        curves = self.dos(hidden) + (self.share[types] + self.change_share(hidden)) * deviation
        return curves, (self.energy(hidden) * present).sum((1, 2)) / count[:, 0, 0]


class Predictor(nn.Module):
    """An ensemble of networks that learn the deviation of each atom's curve from its element's mean curve.

    Its first guess is a share of the deviation of the tight-binding curve from that curve's mean. Invariant to rotations, to
    translations and (but for the k-points of tight binding) to the choice of the cell; equivariant to permutations of the
    atoms. Differentiable with respect to coordinates and lattices at given tight-binding curves.

    :param elements: chemical symbols, in the order of the type index.
    :param n_energies: points of a curve.
    :param width: features of an atom.
    :param layers: rounds of messages, each reaching ``cutoff`` further.
    :param members: networks in the ensemble; their mean is the prediction, their spread says how wrong it may be.
    :param channels: features spread over the surroundings in each round.
    :param cutoff: Å.
    :param radial: radial Gaussians.
    :param dropout: of the features that the curves are made from, while training.
    """

    def __init__(
        self, elements: Sequence[str], n_energies: int, *, width: int, layers: int, members: int = 1,
        channels: int = 16, cutoff: float = 6.0, radial: int = 16, dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        n_elements = len(elements)
        self.tight_binding: TightBinding = TightBinding(elements).requires_grad_(False)  # fitted before and apart
        self.moments = PairMoments(cutoff, radial)
        sizes = (n_elements, n_energies, width, layers, channels, radial, dropout)
        self.members = nn.ModuleList(_Member(*sizes) for _ in range(members))
        self.mean_curves: Tensor
        self.mean_tight_binding: Tensor
        self.energy_scale: Tensor
        self.register_buffer("mean_curves", torch.zeros(n_elements, n_energies))
        self.register_buffer("mean_tight_binding", torch.zeros(n_elements, n_energies))
        self.register_buffer("energy_scale", torch.tensor([0.0, 1.0]))  # mean and deviation in eV/atom
        self.novelty = Novelty(n_elements, radial)
        # by which the spread of the members is multiplied, see calibration.py; 1 until measured
        self.dos_calibration: Tensor
        self.energy_calibration: Tensor
        self.register_buffer("dos_calibration", torch.ones(()))
        self.register_buffer("energy_calibration", torch.ones(()))

    @classmethod
    def from_header(cls, header: CheckpointHeader) -> Predictor:
        """Build the untrained model of a checkpoint's header."""
        return cls(header.elements, header.grid.n, **header.architecture)

    def set_scalers(self, dataset: InMemoryDataset, grid: EnergyGrid) -> None:
        """Take from a data set each element's mean curve (over what is complete), the scale of energies, and what is known.

        :param dataset: labelled crystals (:class:`..training.dataset.LabelledDataset`).
        """
        points = torch.tensor(grid.points, dtype=self.mean_curves.dtype)
        total, count, model, n_model = (torch.zeros_like(self.mean_curves) for _ in range(4))
        for crystal in dataset:
            known = ((points >= crystal.low) & (points <= crystal.complete_below)).to(total).expand_as(crystal.dos)
            total.index_add_(0, crystal.types, crystal.dos * known)
            count.index_add_(0, crystal.types, known.contiguous())
            treated = crystal.tight_binding.any(-1, keepdim=True).to(total).expand_as(crystal.dos).contiguous()
            model.index_add_(0, crystal.types, crystal.tight_binding)
            n_model.index_add_(0, crystal.types, treated)
        self.mean_tight_binding.copy_(model / n_model.clamp_min(1))
        self.mean_curves.copy_(total / count.clamp_min(1))
        energies = torch.cat([crystal.formation_energy for crystal in dataset])
        energies = energies[torch.isfinite(energies)]
        if len(energies) > 1:
            self.energy_scale.copy_(torch.stack([energies.mean(), energies.std().clamp_min(1e-3)]))
        features, types = [], []
        for batch in DataLoader(dataset, batch_size=64):
            dense = to_dense(batch)
            densities = _radial_densities(self.moments(dense.fractional, dense.lattices, dense.mask), dense.mask)
            features.append(densities[dense.mask])
            types.append(dense.types[dense.mask])
        self.novelty.fit(torch.cat(features), torch.cat(types))

    def forward(self, types: Tensor, fractional: Tensor, lattices: Tensor, mask: Tensor, tight_binding: Tensor) -> Prediction:
        """Predict B crystals padded to N atoms.

        :param types: element indices, shape (B, N).
        :param fractional: shape (B, N, 3).
        :param lattices: rows in Å, shape (B, 3, 3).
        :param mask: True for atoms, shape (B, N).
        :param tight_binding: :meth:`..TightBinding.curves` of each atom, zero where there is none, shape (B, N, n).
        """
        moments = self.moments(fractional, lattices, mask)
        treated = tight_binding.any(-1, keepdim=True)
        deviation = torch.where(treated, tight_binding - self.mean_tight_binding[types], 0.0)
        curves, energies = zip(*(member(types, moments, mask, deviation) for member in self.members), strict=True)
        shift, scale = self.energy_scale
        return Prediction(
            self.mean_curves[types] + torch.stack(curves),
            shift + scale * torch.stack(energies),
            self.novelty(_radial_densities(moments, mask), types),
        )

    def uncertainty(self, prediction: Prediction, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return standard deviations of the errors to expect of the members' mean, NaN if there is one member only.

        The spread of the members, times the novelty of the surroundings, times what was measured on held-out crystals.

        :return: of the DOS of each atom, averaged over the grid, in states/eV, shape (B, N); of the formation energy in
            eV/atom, shape (B,).
        """
        if len(self.members) == 1:
            unknown = prediction.formation_energy[0] * torch.nan
            return unknown[:, None].expand(mask.shape), unknown
        spread = prediction.dos.clamp_min(0).std(0, correction=0).mean(-1)
        novelty = (prediction.novelty * mask).sum(-1) / mask.sum(-1).clamp_min(1)
        return (
            self.dos_calibration * prediction.novelty * spread,
            self.energy_calibration * novelty * prediction.formation_energy.std(0, correction=0),
        )


def _radial_densities(moments: Tensor, mask: Tensor) -> Tensor:
    """Return ln(1 + number of neighbours under each radial Gaussian), whatever their elements, shape (B, N, radial)."""
    neighbours = mask[:, None, :, None].to(moments.dtype)
    return torch.log1p((moments[..., 0] * neighbours).sum(2))


def mean_over_atoms(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the atoms of each crystal, padding left out, shape (B,)."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1)
