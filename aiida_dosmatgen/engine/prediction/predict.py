"""Predictions of a trained predictor, as columns of a crystal set."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import torch

from ...core.crystals import CrystalSet
from ...core.files.checkpoint_header import CheckpointHeader
from ...core.screening import Predict
from ..batch import type_indices
from ..memory import halving
from ..niggli import niggli
from .predictor import Predictor, mean_over_atoms

_SMALLEST_HEIGHT = 0.7  # Å between lattice planes; flatter cells are no crystals and have thousands of images


@torch.no_grad()
def predict(model: Predictor, header: CheckpointHeader, crystals: CrystalSet, batch_size: int = 64) -> CrystalSet:
    """Add what the ensemble predicts as columns.

    For each atom ``predicted_dos`` (float32, states/eV) and ``predicted_dos_std``, the standard deviation of its error
    averaged over the grid; for each crystal ``predicted_dos_uncertainty``, the mean absolute error of its curves to expect
    (states/eV/atom), ``predicted_formation_energy`` (eV/atom) and ``predicted_formation_energy_std``. Models that know channels
    add ``predicted_channels`` (float16, states/eV) of each atom, of which ``predicted_dos`` is the sum. Uncertainties are
    calibrated (:meth:`Predictor.uncertainty`). All are NaN for crystals that are defective or have an element that the model
    does not know, uncertainties also if the model has a single member. The columns ``predicted_dos_low``,
    ``predicted_dos_high``, ``predicted_sigma`` and ``predicted_meaning`` say what they are (:mod:`...core.curve_columns`).
    """
    reference = model.mean_curves
    types = type_indices(crystals.numbers, header.elements)
    offsets = crystals.offsets
    reduced = niggli(crystals)
    usable = [i for i in range(len(crystals)) if _usable(reduced[i], types[offsets[i] : offsets[i + 1]])]
    channels = np.full((len(crystals.numbers), *model.mean_channels.shape[1:]), np.nan, np.float16) if model.stride else None
    dos = np.full((len(crystals.numbers), header.grid.n), np.nan, dtype=np.float32)
    dos_std = np.full(len(crystals.numbers), np.nan)
    energy, energy_std, uncertainty = (np.full(len(crystals), np.nan) for _ in range(3))
    usable.sort(key=lambda i: (int(crystals.n_atoms[i]), i))
    for start in range(0, len(usable), batch_size):
        chosen = usable[start : start + batch_size]
        n = int(crystals.n_atoms[chosen].max())
        padded_types = np.zeros((len(chosen), n), dtype=np.int64)
        fractional, mask = np.zeros((len(chosen), n, 3)), np.zeros((len(chosen), n), dtype=bool)
        tight_binding = np.zeros((len(chosen), n, *model.mean_tight_binding.shape[1:]), dtype=np.float32)
        of_atoms = np.split(model.tight_binding_of(reduced[chosen]), np.cumsum(crystals.n_atoms[chosen])[:-1])
        for row, i in enumerate(chosen):
            atoms, count = slice(offsets[i], offsets[i + 1]), crystals.n_atoms[i]
            tight_binding[row, :count] = of_atoms[row]
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
        curves_mean, curves_std = model.mean_dos(prediction).cpu().numpy(), atoms_std.cpu().numpy()
        parts = None if prediction.channels is None else model.mean_channels_of(prediction).cpu().numpy()
        energy[chosen] = prediction.formation_energy.mean(0).cpu().numpy()
        energy_std[chosen] = crystals_std.cpu().numpy()
        uncertainty[chosen] = float(model.dos_mae) * mean_over_atoms(atoms_std, atoms_present).cpu().numpy()
        for row, i in enumerate(chosen):
            atoms, count = slice(offsets[i], offsets[i + 1]), crystals.n_atoms[i]
            dos[atoms], dos_std[atoms] = curves_mean[row, :count], curves_std[row, :count]
            if channels is not None and parts is not None:
                channels[atoms] = parts[row, :count]
    n = len(crystals)
    return crystals.with_columns(
        crystal={
            "predicted_dos_low": np.full(n, header.grid.emin),
            "predicted_dos_high": np.full(n, header.grid.emax),
            "predicted_sigma": np.full(n, header.sigma),
            "predicted_meaning": np.full(n, header.meaning),
            "predicted_formation_energy": energy,
            "predicted_formation_energy_std": energy_std,
            "predicted_dos_uncertainty": uncertainty,
        },
        atom={
            "predicted_dos": dos,
            "predicted_dos_std": dos_std,
            **({} if channels is None else {"predicted_channels": channels}),
        },
    )


def in_batches(
    model: Predictor, header: CheckpointHeader, crystals: CrystalSet, batch_size: int, first_look: bool = False
) -> Predict:
    """Return what predicts chosen rows of a set batch by batch.

    :param first_look: take a coarse mesh of k-points and one network of the ensemble.
    """

    def rows_predicted(rows: np.ndarray) -> Iterator[tuple[np.ndarray, CrystalSet]]:
        rows = rows[np.argsort(crystals.n_atoms[rows], kind="stable")]  # little padding
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            with _first_look(model) if first_look else contextlib.nullcontext():
                predicted, _ = halving(
                    functools.partial(predict, model, header, crystals[chosen]),
                    batch_size,
                    model.mean_curves.device,
                    "crystals",
                )
            yield chosen, predicted

    return rows_predicted


@contextlib.contextmanager
def _first_look(model: Predictor) -> Iterator[None]:
    members = model.members
    model.members = members[:1]
    try:
        with model.tight_binding.coarse():
            yield
    finally:
        model.members = members


def _usable(crystal: CrystalSet, types: np.ndarray) -> bool:
    if crystal.defect() is not None or (types < 0).any():
        return False
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattices[0]), axis=0)
    return bool(heights.min() > _SMALLEST_HEIGHT)
