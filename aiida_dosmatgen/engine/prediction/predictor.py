"""Per-atom density of states and formation energy of a crystal: the surrogate of the DFT run that follows.

The network does not start from nothing: it is given the tight-binding curve of each atom (:mod:`.tightbinding`), whose few
parameters are fitted first, and learns what is between that and DFT. What holds for chemistry that no network has seen is
mostly there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ...core.crystals import CrystalSet
from ...core.dos import EnergyGrid
from ...core.files.checkpoint_header import CheckpointHeader
from ..batch import to_dense
from ..descriptors import descriptors
from .calibration import MAE_OF_STD
from .channels import N_CHANNELS, ChannelMember, refinement
from .environment import EnvironmentLayer, PairMoments
from .novelty import ChemicalNovelty, Novelty, surroundings
from .tightbinding import N_SHELLS, TightBinding

if TYPE_CHECKING:
    from torch_geometric.data import InMemoryDataset

_LIKENESS = (0, 1, 2, 3, 6)
"""Descriptors that say what a neighbour is like: group, period, electronegativity, radius, Mendeleev's number."""
_FIRST_SHARE = 0.9  # of the tight-binding deviation that is the first guess of a curve


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What each of M members says about B crystals padded to N atoms.

    :param dos: states/eV, shape (M, B, N, n); may dip below zero.
    :param formation_energy: eV/atom, shape (M, B).
    :param novelty: of the surroundings of each atom, 1 within the training set (:class:`.novelty.Novelty`), shape (B, N).
    :param channels: s, p, d, f of a model that knows them, at its own energies (:attr:`Predictor.stride`), shape
        (M, B, N, 4, m); may dip below zero.
    """

    dos: Tensor
    formation_energy: Tensor
    novelty: Tensor
    channels: Tensor | None = None


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
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

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
    :param stride: for curves by channel (:mod:`.channels`), of whose energies every so-manieth is the network's own; 0 for
        sums of the channels only, as models before 0.3 have them.
    """

    def __init__(
        self, elements: Sequence[str], n_energies: int, *, width: int, layers: int, members: int = 1,
        channels: int = 16, cutoff: float = 6.0, radial: int = 16, dropout: float = 0.3, stride: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        n_elements = len(elements)
        self.elements, self.stride = tuple(elements), stride
        # fitted before and apart
        self.tight_binding: TightBinding = TightBinding(elements, from_atoms=bool(stride)).requires_grad_(False)
        self.moments = PairMoments(cutoff, radial)
        sizes = (width, layers, channels, radial, dropout)
        self.mean_curves: Tensor
        self.mean_tight_binding: Tensor
        self.energy_scale: Tensor
        self.register_buffer("mean_curves", torch.zeros(n_elements, n_energies))
        if stride:
            self.refine: Tensor
            self.descriptors: Tensor
            self.mean_channels: Tensor
            self.register_buffer("refine", refinement(n_energies, stride), persistent=False)
            self.register_buffer("descriptors", descriptors(elements))
            points = len(self.refine)
            self.members = nn.ModuleList(ChannelMember(n_elements, points, N_SHELLS, stride, *sizes) for _ in range(members))
            self.register_buffer("mean_channels", torch.zeros(n_elements, N_CHANNELS, points))
            self.register_buffer("mean_tight_binding", torch.zeros(n_elements, N_SHELLS, points))
        else:
            self.members = nn.ModuleList(_Member(n_elements, n_energies, *sizes) for _ in range(members))
            self.register_buffer("mean_tight_binding", torch.zeros(n_elements, n_energies))
        self.register_buffer("energy_scale", torch.tensor([0.0, 1.0]))  # mean and deviation in eV/atom
        self.novelty: Novelty | ChemicalNovelty = (
            ChemicalNovelty(n_elements, radial // 2 * (1 + len(_LIKENESS))) if stride else Novelty(n_elements, radial)
        )
        # by which the spread of the members is multiplied, see calibration.py; 1 until measured
        self.dos_calibration: Tensor
        self.energy_calibration: Tensor
        self.register_buffer("dos_calibration", torch.ones(()))
        self.register_buffer("energy_calibration", torch.ones(()))
        self.dos_floor: Tensor
        self.dos_mae: Tensor
        # what bins deviate by where members agree, and mean absolute errors over standard deviations
        self.register_buffer("dos_floor", torch.zeros(()), persistent=bool(stride))
        self.register_buffer("dos_mae", torch.tensor(MAE_OF_STD), persistent=bool(stride))

    @classmethod
    def from_header(cls, header: CheckpointHeader) -> Predictor:
        """Build the untrained model of a checkpoint's header."""
        return cls(header.elements, header.grid.n, **header.architecture)

    def set_scalers(self, dataset: InMemoryDataset, grid: EnergyGrid) -> None:
        """Take from a data set each element's mean curve (over what is complete), the scale of energies, and what is known.

        :param dataset: labelled crystals (:class:`..training.dataset.LabelledDataset`).
        """
        from torch_geometric.loader import DataLoader  # takes longer than torch itself; only training needs it

        points = torch.tensor(grid.points, dtype=self.mean_curves.dtype)
        sums, model, n_model = _Means(self.mean_curves), torch.zeros_like(self.mean_tight_binding), self.mean_curves[:, 0] * 0
        channels = _Means(self.mean_channels) if self.stride else None
        for crystal in dataset:
            known = ((points >= crystal.low) & (points <= crystal.complete_below)).to(points)
            sums.add(crystal.types, crystal.dos, known)
            if channels is not None:
                channels.add(crystal.types, crystal.channels, known[:: self.stride])
            model.index_add_(0, crystal.types, crystal.tight_binding)
            n_model.index_add_(0, crystal.types, crystal.tight_binding.flatten(1).any(1).to(n_model))
        shape = (-1, *[1] * (model.ndim - 1))
        self.mean_tight_binding.copy_(model / n_model.clamp_min(1).view(shape))
        self.mean_curves.copy_(sums.means())
        if channels is not None:
            self.mean_channels.copy_(channels.means())
        energies = torch.cat([crystal.formation_energy for crystal in dataset])
        energies = energies[torch.isfinite(energies)]
        if len(energies) > 1:
            self.energy_scale.copy_(torch.stack([energies.mean(), energies.std().clamp_min(1e-3)]))
        features, types = [], []
        for batch in DataLoader(dataset, batch_size=64):
            dense = to_dense(batch)
            moments = self.moments(dense.fractional, dense.lattices, dense.mask)
            features.append(self._features(moments, dense.mask, dense.types)[dense.mask])
            types.append(dense.types[dense.mask])
        self.novelty.fit(torch.cat(features), torch.cat(types))

    def forward(self, types: Tensor, fractional: Tensor, lattices: Tensor, mask: Tensor, tight_binding: Tensor) -> Prediction:
        """Predict B crystals padded to N atoms.

        :param types: element indices, shape (B, N).
        :param fractional: shape (B, N, 3).
        :param lattices: rows in Å, shape (B, 3, 3).
        :param mask: True for atoms, shape (B, N).
        :param tight_binding: what :meth:`tight_binding_of` says of each atom, zero where there is none, shape (B, N, n), or
            (B, N, 3, m) for a model with channels.
        """
        moments = self.moments(fractional, lattices, mask)
        treated = tight_binding.flatten(2).any(-1).view(*mask.shape, *[1] * (tight_binding.ndim - 2))
        deviation = torch.where(treated, tight_binding - self.mean_tight_binding[types], 0.0)
        given = (
            (types, self.descriptors, moments, mask, self.mean_channels[types], deviation)
            if self.stride
            else (types, moments, mask, deviation)
        )
        curves, energies = zip(*(member(*given) for member in self.members), strict=True)
        shift, scale = self.energy_scale
        energies = shift + scale * torch.stack(energies)
        novelty = self.novelty(self._features(moments, mask, types), types)
        if not self.stride:
            return Prediction(self.mean_curves[types] + torch.stack(curves), energies, novelty)
        channels = torch.stack(curves)
        return Prediction(channels.sum(-2) @ self.refine, energies, novelty, channels)

    def _features(self, moments: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        """Return what the novelty of an atom is told by."""
        if self.stride:
            return surroundings(moments, mask, self.descriptors[types][..., _LIKENESS])
        return _radial_densities(moments, mask)

    def tight_binding_of(self, crystals: CrystalSet) -> np.ndarray:
        """Return the tight-binding curves that the networks start from, shape (ΣN_i, n), or (ΣN_i, 3, m) with channels."""
        if self.stride:
            return self.tight_binding.curves(crystals, by_shell=True)[..., :: self.stride]
        return self.tight_binding.curves(crystals)

    def mean_dos(self, prediction: Prediction) -> Tensor:
        """Return the members' mean of the curve of each atom, which is nowhere negative, shape (B, N, n)."""
        if prediction.channels is None:
            return prediction.dos.clamp_min(0).mean(0)
        return (self.mean_channels_of(prediction).sum(2) @ self.refine).clamp_min(0)

    @staticmethod
    def mean_channels_of(prediction: Prediction) -> Tensor:
        """Return the members' mean of the channels of each atom, nowhere negative, shape (B, N, 4, m)."""
        assert prediction.channels is not None
        return prediction.channels.clamp_min(0).mean(0)

    def uncertainty(self, prediction: Prediction, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return standard deviations of the errors to expect of the members' mean, NaN if there is one member only.

        The spread of the members, times the novelty of the surroundings, times what was measured on held-out crystals.

        :return: of the DOS of each atom, averaged over the grid, in states/eV, shape (B, N); of the formation energy in
            eV/atom, shape (B,).
        """
        if len(self.members) == 1:
            unknown = prediction.formation_energy[0] * torch.nan
            return unknown[:, None].expand(mask.shape), unknown
        novelty = (prediction.novelty * mask).sum(-1) / mask.sum(-1).clamp_min(1)
        spread = prediction.dos.clamp_min(0).std(0, correction=0).mean(-1)
        return (
            self.dos_deviation(prediction).mean(-1) if self.stride else self.dos_calibration * prediction.novelty * spread,
            self.energy_calibration * novelty * prediction.formation_energy.std(0, correction=0),
        )

    def dos_deviation(self, prediction: Prediction) -> Tensor:
        """Return the standard deviation of the error to expect of each point of the curves, states/eV, shape (B, N, n)."""
        spread = prediction.dos.clamp_min(0).std(0, correction=0)
        if self.stride:
            spread = torch.hypot(spread, self.dos_floor.expand_as(spread))
        return self.dos_calibration * prediction.novelty[..., None] * spread


class _Means:
    """Means of the curves of each element over the points at which they are known."""

    def __init__(self, like: Tensor) -> None:
        self.total, self.count = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, types: Tensor, curves: Tensor, known: Tensor) -> None:
        self.total.index_add_(0, types, curves * known)
        self.count.index_add_(0, types, known.expand_as(curves).contiguous())

    def means(self) -> Tensor:
        return self.total / self.count.clamp_min(1)


def _radial_densities(moments: Tensor, mask: Tensor) -> Tensor:
    """Return ln(1 + number of neighbours under each radial Gaussian), whatever their elements, shape (B, N, radial)."""
    neighbours = mask[:, None, :, None].to(moments.dtype)
    return torch.log1p((moments[..., 0] * neighbours).sum(2))


def mean_over_atoms(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the atoms of each crystal, padding left out, shape (B,)."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1)
