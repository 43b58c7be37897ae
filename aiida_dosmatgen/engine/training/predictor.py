"""Training objective and evaluation of a predictor, and the calibration of its uncertainties."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import to_dense_batch

from ...core.crystals import CrystalSet
from ...core.dos import EnergyGrid
from ...core.errors import ContentError
from ..batch import DenseBatch, to_dense
from ..prediction.calibration import calibrate, calibrate_bins
from ..prediction.predictor import Prediction, Predictor, mean_over_atoms


class PredictorObjective:
    """What a predictor is trained and evaluated by.

    The loss of each member is the mean |ΔDOS| over atoms and complete points plus ``energy_weight`` times the mean
    |ΔE_f| in units of its deviation; members are summed, so that each sees its own error only. Of a model that knows channels,
    half of the former is that of the sum, and half the sum of those of the channels.

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
        complete = (points >= batch.low[:, None, None]) & (points <= batch.complete_below[:, None, None])
        return (complete & batch.mask[..., None]).to(batch.dos.dtype)

    def loss(self, model: Predictor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` to minimise, and its parts ``dos`` (states/eV/atom) and ``energy`` (eV/atom)."""
        dense = to_dense(batch)
        weights = self.compared(dense)
        prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, tight_binding_of(batch))
        seen = self.seen(dense, len(model.mean_curves), len(model.members))
        errors, counted = self._errors(model, prediction, batch, dense, weights)
        dos = (errors * seen).sum(1) / (counted * seen).sum(1).clamp_min(1)
        known = torch.isfinite(batch.formation_energy)
        wanted = torch.where(known, batch.formation_energy, torch.zeros_like(batch.formation_energy))
        seen = seen * known
        energy = ((prediction.formation_energy - wanted).abs() * seen).sum(1) / seen.sum(1).clamp_min(1)
        total = (dos + self.energy_weight * energy / model.energy_scale[1]).sum()
        return {"loss": total, "dos": dos.mean(), "energy": energy.mean()}

    @staticmethod
    def _errors(
        model: Predictor, prediction: Prediction, batch: Batch, dense: DenseBatch, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the deviations of each member for each crystal, (M, B), and the numbers of points, (B,)."""
        if prediction.channels is None:
            return ((prediction.dos - dense.dos).abs() * weights).sum((2, 3)), weights.sum((1, 2))
        coarse = weights[..., :: model.stride]
        difference = prediction.channels - to_dense_batch(batch.channels, batch.batch)[0]
        deviation = 0.5 * (difference.sum(-2).abs() + difference.abs().sum(-2))
        return (deviation * coarse).sum((2, 3)), coarse.sum((1, 2))

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
            prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, tight_binding_of(batch))
            dos, energy = model.mean_dos(prediction), prediction.formation_energy.mean(0)
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
        """Set the factors of a trained model by crystals that it has not seen; without any they stay as they are.

        Those of a new model are 1, and those of one that was fine-tuned are its parent's.

        The crystals should not have chosen the epoch either. A model that knows channels is calibrated by the residuals of
        single bins, an earlier one by the mean errors of the crystals.

        :return: for ``dos`` and ``formation_energy`` the :meth:`.calibration.Calibration.metrics` or
            :meth:`.calibration.BinCalibration.metrics`, and ``calibrated``.
        """
        factors = (model.dos_calibration, model.energy_calibration, model.dos_floor, model.dos_mae)
        given = [factor.clone() for factor in factors]
        model.dos_calibration.fill_(1.0)
        model.energy_calibration.fill_(1.0)
        model.dos_floor.fill_(0.0)
        errors: list[tuple[float, float, float, float]] = []
        groups: list[str] = []
        bins: dict[str, list[Tensor]] = {}
        for batch in batches:
            dense = to_dense(batch)
            weights = self.compared(dense)
            prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, tight_binding_of(batch))
            dos_std, energy_std = model.uncertainty(prediction, dense.mask)
            deviation = (model.mean_dos(prediction) - dense.dos).abs()
            columns = (
                (deviation * weights).sum((1, 2)) / weights.sum((1, 2)),
                mean_over_atoms(dos_std, dense.mask),
                (prediction.formation_energy.mean(0) - batch.formation_energy).abs(),
                energy_std,
            )
            if model.stride and len(model.members) > 1:
                counted = weights.bool()
                novelty = prediction.novelty[..., None]
                crystals = torch.arange(len(dense), device=weights.device)[:, None, None] + len(groups)
                spread = model.dos_deviation(prediction) / novelty
                parts = {"residuals": deviation, "spreads": spread, "novelty": novelty, "crystals": crystals}
                for name, part in parts.items():
                    bins.setdefault(name, []).append(part.expand_as(weights)[counted].cpu())
            errors += torch.stack(columns, 1).tolist()
            groups += [str(formula.tolist()) for formula in reduced_formulas(dense, len(model.mean_curves))]
        if not errors:
            for factor, before in zip(factors, given, strict=True):
                factor.copy_(before)
            return {"calibrated": False}
        columns_of = np.array(errors).reshape(-1, 4).T
        metrics: dict[str, Any] = {"calibrated": False}
        if bins:
            of_bins = calibrate_bins(
                **{name: torch.cat(parts).numpy() for name, parts in bins.items()}, groups=np.array(groups)
            )
            if of_bins is not None:
                model.dos_calibration.fill_(of_bins.factor)
                model.dos_floor.fill_(of_bins.floor)
                model.dos_mae.fill_(of_bins.mae)
                metrics |= {"calibrated": True, **of_bins.metrics()}
        for name, factor, (error, spread) in (
            ("dos", model.dos_calibration, columns_of[:2]),
            ("formation_energy", model.energy_calibration, columns_of[2:]),
        ):
            found = None if bins and name == "dos" else calibrate(error, spread, np.array(groups))
            if found is not None:
                factor.fill_(found.factor)
                metrics |= {"calibrated": True, **found.metrics(name)}
        return metrics


def reduced_formulas(batch: DenseBatch, n_elements: int) -> np.ndarray:
    """Return how often each element occurs in the formula of each crystal, shape (B, n_elements)."""
    present = batch.mask[..., None].long()
    counts = (nn.functional.one_hot(batch.types, n_elements) * present).sum(1).cpu().numpy()
    return counts // np.gcd.reduce(counts, axis=1, keepdims=True).clip(1)


def tight_binding_of(batch: Batch) -> Tensor:
    """Return the tight-binding curves of a batch of :func:`prepared` crystals, padded."""
    return to_dense_batch(batch.tight_binding, batch.batch)[0]


def prepared(crystals: CrystalSet, model: Predictor) -> CrystalSet:
    """Return crystals with the columns that a predictor's networks learn from, ``tight_binding`` and perhaps ``channels``.

    :raises ContentError: if the model knows channels, and the crystals do not.
    """
    columns = {"tight_binding": model.tight_binding_of(crystals)}
    if model.stride:
        if "resolved" not in crystals.atom_columns:
            raise ContentError("the checkpoint knows channels s, p, d and f, but the labels of the data set have none")
        columns["channels"] = crystals.atom_columns["resolved"].sum(1)[..., :: model.stride]
    kept = {name: values for name, values in crystals.atom_columns.items() if name != "resolved"}
    return crystals.replace(atom_columns={**kept, **columns})
