"""Per-atom density of states and formation energy of a crystal: the surrogate of the DFT run that follows.

The network does not start from nothing: it is given the tight-binding curve of each atom (:mod:`.tightbinding`), whose few
parameters are fitted first, and learns what is between that and DFT. What holds for chemistry that no network has seen is
mostly there.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.utils import to_dense_batch

from ...core.checkpoint_header import CheckpointHeader
from ...core.crystals import CrystalSet
from ...core.dos import EnergyGrid
from ..batch import DenseBatch
from ..training.dataset import LabelledDataset, niggli, to_dense, type_indices
from .calibration import MAE_OF_STD, calibrate
from .environment import EnvironmentLayer, PairMoments
from .novelty import Novelty
from .tightbinding import TightBinding

_FIRST_SHARE = 0.9  # of the tight-binding deviation that is the first guess of a curve
_SMALLEST_HEIGHT = 0.7  # Å between lattice planes; flatter cells are no crystals and have thousands of images


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

    def set_scalers(self, dataset: LabelledDataset, grid: EnergyGrid) -> None:
        """Take from a data set each element's mean curve (over what is complete), the scale of energies, and what is known."""
        points = torch.tensor(grid.points, dtype=self.mean_curves.dtype)
        total, count, model, n_model = (torch.zeros_like(self.mean_curves) for _ in range(4))
        for crystal in dataset:
            known = (points <= crystal.complete_below).to(total).expand_as(crystal.dos)
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


class PredictorObjective:
    """What a predictor is trained and judged by.

    The loss of each member is the mean |ΔDOS| over atoms and complete points plus ``energy_weight`` times the mean
    |ΔE_f| in units of its deviation; members are summed, so that each sees its own error only.

    Members that saw the same crystals are wrong in the same way, and their spread says little. So each of several leaves out
    a part of the compounds, another part each (delete-d jackknife): where they differ is where a compound more or less counts.

    :param left_out: share of the compounds that a member does not see, if there are several members.
    """

    def __init__(self, grid: EnergyGrid, energy_weight: float = 0.2, left_out: float = 0.25) -> None:
        self.grid, self.energy_weight, self.left_out = grid, energy_weight, left_out
        self._seen_by: dict[bytes, np.ndarray] = {}

    def compared(self, batch: DenseBatch) -> Tensor:
        """Select the points that count: of real atoms, and below the end of the complete bands; (B, N, n) of 0 and 1."""
        points = torch.as_tensor(self.grid.points, dtype=batch.dos.dtype, device=batch.dos.device)
        complete = points <= batch.complete_below[:, None, None]
        return (complete & batch.mask[..., None]).to(batch.dos.dtype)

    def loss(self, model: Predictor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` to minimise, and its parts ``dos`` (states/eV/atom) and ``energy`` (eV/atom)."""
        dense = to_dense(batch)
        weights = self.compared(dense)
        prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, _tight_binding(batch))
        seen = self.seen(dense, len(model.mean_curves), len(model.members))
        errors = ((prediction.dos - dense.dos).abs() * weights).sum((2, 3)) * seen
        dos = errors.sum(1) / (weights.sum((1, 2)) * seen).sum(1).clamp_min(1)
        known = torch.isfinite(batch.formation_energy)
        wanted = torch.where(known, batch.formation_energy, torch.zeros_like(batch.formation_energy))
        seen = seen * known
        energy = ((prediction.formation_energy - wanted).abs() * seen).sum(1) / seen.sum(1).clamp_min(1)
        total = (dos + self.energy_weight * energy / model.energy_scale[1]).sum()
        return {"loss": total, "dos": dos.mean(), "energy": energy.mean()}

    def seen(self, batch: DenseBatch, n_elements: int, members: int) -> Tensor:
        """Say which member learns from which crystal: 0 or 1, shape (members, B).

        Decided by a hash of the reduced formula; all see the elements, which anchor the energies.
        """
        rows = []
        for formula in reduced_formulas(batch, n_elements):
            key = formula.tobytes()
            if key not in self._seen_by:
                draws = [hashlib.sha256(b"%d %s" % (m, key)).digest() for m in range(members)]
                fractions = np.array([int.from_bytes(d[:8], "big") / 2**64 for d in draws])
                always = members == 1 or np.count_nonzero(formula) == 1
                self._seen_by[key] = np.ones(members) if always else (fractions >= self.left_out).astype(float)
            rows.append(self._seen_by[key])
        return torch.as_tensor(np.stack(rows, 1), dtype=batch.dos.dtype, device=batch.dos.device)

    @torch.no_grad()
    def evaluate(self, model: Predictor, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the errors of the ensemble's mean.

        ``dos_mae`` (states/eV/atom), ``dos_mae_baseline`` of the elements' mean curves, ``dos_mae_ratio`` of the two,
        ``formation_energy_mae`` (eV/atom; absent if no crystal has one), and the ``loss`` to choose the best epoch by.
        """
        error = baseline = points = energy_error = n_energies = 0.0
        for batch in batches:
            dense = to_dense(batch)
            weights = self.compared(dense)
            prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, _tight_binding(batch))
            dos, energy = prediction.dos.clamp_min(0).mean(0), prediction.formation_energy.mean(0)
            error += float(((dos - dense.dos).abs() * weights).sum())
            baseline += float(((model.mean_curves[dense.types] - dense.dos).abs() * weights).sum())
            points += float(weights.sum())
            deviation = (energy - batch.formation_energy).abs()
            known = torch.isfinite(deviation)
            energy_error += float(deviation[known].sum())
            n_energies += int(known.sum())
        metrics = {
            "dos_mae": error / points,
            "dos_mae_baseline": baseline / points,
            "dos_mae_ratio": error / max(baseline, 1e-12),
        }
        loss = metrics["dos_mae"]
        if n_energies:
            metrics["formation_energy_mae"] = energy_error / n_energies
            loss += self.energy_weight * metrics["formation_energy_mae"] / float(model.energy_scale[1])
        return {"loss": loss, **metrics}

    @torch.no_grad()
    def calibrate(self, model: Predictor, batches: Iterable[Batch]) -> dict[str, Any]:
        """Set the factors of a trained model by crystals that it has not seen; without any they are 1.

        :return: for ``dos`` and ``formation_energy`` the :meth:`.calibration.Calibration.metrics`, and ``calibrated``.
        """
        model.dos_calibration.fill_(1.0)
        model.energy_calibration.fill_(1.0)
        errors: list[tuple[float, float, float, float]] = []
        groups: list[str] = []
        for batch in batches:
            dense = to_dense(batch)
            weights = self.compared(dense)
            prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, _tight_binding(batch))
            dos_std, energy_std = model.uncertainty(prediction, dense.mask)
            deviation = (prediction.dos.clamp_min(0).mean(0) - dense.dos).abs()
            columns = (
                (deviation * weights).sum((1, 2)) / weights.sum((1, 2)),
                _mean_over_atoms(dos_std, dense.mask),
                (prediction.formation_energy.mean(0) - batch.formation_energy).abs(),
                energy_std,
            )
            errors += torch.stack(columns, 1).tolist()
            groups += [str(formula.tolist()) for formula in reduced_formulas(dense, len(model.mean_curves))]
        columns_of = np.array(errors).reshape(-1, 4).T
        metrics: dict[str, Any] = {"calibrated": False}
        for name, factor, (error, spread) in (
            ("dos", model.dos_calibration, columns_of[:2]),
            ("formation_energy", model.energy_calibration, columns_of[2:]),
        ):
            found = calibrate(error, spread, np.array(groups))
            if found is not None:
                factor.fill_(found.factor)
                metrics |= {"calibrated": True, **found.metrics(name)}
        return metrics


def reduced_formulas(batch: DenseBatch, n_elements: int) -> np.ndarray:
    """Return how often each element occurs in the formula of each crystal, shape (B, n_elements)."""
    present = batch.mask[..., None].long()
    counts = (nn.functional.one_hot(batch.types, n_elements) * present).sum(1).cpu().numpy()
    return counts // np.gcd.reduce(counts, axis=1, keepdims=True).clip(1)


def _radial_densities(moments: Tensor, mask: Tensor) -> Tensor:
    """Return ln(1 + number of neighbours under each radial Gaussian), whatever their elements, shape (B, N, radial)."""
    neighbours = mask[:, None, :, None].to(moments.dtype)
    return torch.log1p((moments[..., 0] * neighbours).sum(2))


def _mean_over_atoms(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1)


def _tight_binding(batch: Batch) -> Tensor:
    return to_dense_batch(batch.tight_binding, batch.batch)[0]


# --- use --------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(
    model: Predictor, header: CheckpointHeader, crystals: CrystalSet, batch_size: int = 64, progress: Any = None
) -> CrystalSet:
    """Add what the ensemble predicts as columns.

    For each atom ``predicted_dos`` (float32, states/eV) and ``predicted_dos_std``, the standard deviation of its error
    averaged over the grid; for each crystal ``predicted_dos_uncertainty``, the mean absolute error of its curves to expect
    (states/eV/atom), ``predicted_formation_energy`` (eV/atom) and ``predicted_formation_energy_std``. Uncertainties are
    calibrated (:meth:`Predictor.uncertainty`). All are NaN for crystals that are defective or have an element that the model
    does not know, uncertainties also if the model has a single member.

    :param progress: called with the number of crystals done.
    """
    reference = model.mean_curves
    types = type_indices(crystals.numbers, header.elements)
    offsets = crystals.offsets
    reduced = niggli(crystals)
    usable = [i for i in range(len(crystals)) if _usable(reduced[i], types[offsets[i] : offsets[i + 1]])]
    curves_of = {i: model.tight_binding.curves(reduced[i]) for i in usable}
    dos = np.full((len(crystals.numbers), header.grid.n), np.nan, dtype=np.float32)
    dos_std = np.full(len(crystals.numbers), np.nan)
    energy, energy_std, uncertainty = (np.full(len(crystals), np.nan) for _ in range(3))
    usable.sort(key=lambda i: (int(crystals.n_atoms[i]), i))
    for start in range(0, len(usable), batch_size):
        chosen = usable[start : start + batch_size]
        n = int(crystals.n_atoms[chosen].max())
        padded_types = np.zeros((len(chosen), n), dtype=np.int64)
        fractional, mask = np.zeros((len(chosen), n, 3)), np.zeros((len(chosen), n), dtype=bool)
        tight_binding = np.zeros((len(chosen), n, header.grid.n), dtype=np.float32)
        for row, i in enumerate(chosen):
            atoms, count = slice(offsets[i], offsets[i + 1]), crystals.n_atoms[i]
            tight_binding[row, :count] = curves_of[i]
            padded_types[row, :count], fractional[row, :count], mask[row, :count] = (
                types[atoms],
                reduced.fractional[atoms],
                True,
            )
        atoms_present = torch.from_numpy(mask).to(reference.device)
        prediction = model(
            torch.from_numpy(padded_types).to(reference.device),
            torch.from_numpy(fractional).to(reference),
            torch.from_numpy(reduced.lattices[chosen]).to(reference),
            atoms_present,
            torch.from_numpy(tight_binding).to(reference),
        )
        atoms_std, crystals_std = model.uncertainty(prediction, atoms_present)
        curves_mean, curves_std = prediction.dos.clamp_min(0).mean(0).cpu().numpy(), atoms_std.cpu().numpy()
        energy[chosen] = prediction.formation_energy.mean(0).cpu().numpy()
        energy_std[chosen] = crystals_std.cpu().numpy()
        uncertainty[chosen] = MAE_OF_STD * _mean_over_atoms(atoms_std, atoms_present).cpu().numpy()
        for row, i in enumerate(chosen):
            atoms, count = slice(offsets[i], offsets[i + 1]), crystals.n_atoms[i]
            dos[atoms], dos_std[atoms] = curves_mean[row, :count], curves_std[row, :count]
        if progress is not None:
            progress(start + len(chosen))
    return crystals.with_columns(
        crystal={
            "predicted_formation_energy": energy,
            "predicted_formation_energy_std": energy_std,
            "predicted_dos_uncertainty": uncertainty,
        },
        atom={"predicted_dos": dos, "predicted_dos_std": dos_std},
    )


def _usable(crystal: CrystalSet, types: np.ndarray) -> bool:
    if crystal.defect() is not None or (types < 0).any():
        return False
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattices[0]), axis=0)
    return bool(heights.min() > _SMALLEST_HEIGHT)
