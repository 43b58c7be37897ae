"""The errors of a trained model on labelled crystals, by the objective that it was trained with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.loader import DataLoader

from ...core.crystals import CrystalSet
from ...core.dos import DEFAULT_GRID
from ...core.errors import ContentError
from ...core.files.checkpoint_header import CheckpointHeader
from ...core.job import TrainParameters
from ...core.thermo import elemental_references, formation_energy
from ..batch import to_dense, type_indices
from ..checkpoint import load_model
from ..diffusion.augmentation import Dropout
from ..memory import halving
from ..prediction.predictor import Predictor
from .classifier import ClassifierObjective
from .comparison import comparison
from .dataset import LabelledDataset, load_labelled, with_channels
from .denoiser import DenoiserObjective
from .loop import Objective
from .predictor import PredictorObjective, prepared, tight_binding_of

_BATCH_SIZE = 64


def evaluate(
    checkpoint: Path,
    crystals: Path,
    dataset: Path | None = None,
    *,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Return the errors of a checkpoint: what its objective calls ``loss``, ``dos_mae``, …, and how many crystals there were.

    Noise, times and dropped conditions of a denoiser are the same at each call, so that two checkpoints can be compared.

    :param crystals: labelled crystals; splits mean nothing here.
    :param dataset: labelled crystals whose elements formation energies are counted from; None takes those of the crystals.
    :return: with ``kind``, ``n_crystals``, and ``n_left_out``: of unknown elements, or larger than the model makes them. Of a
        predictor with ``comparison`` (:mod:`.comparison`).
    :raises ContentError: if no crystal is left.
    """
    model, header = load_model(checkpoint, device)
    stride = header.architecture.get("stride") or 0
    found = load_labelled(crystals, header.grid, header.sigma, header.meaning, resolved=stride > 0)
    known = _known(found, header.elements, header.architecture.get("max_atoms"))
    if not len(known):
        raise ContentError(f"none of the {len(found)} crystals has only elements that the model knows")
    left_out, found = len(found) - len(known), found[known]
    if "energy" in found.crystal_columns:
        anchors = found if dataset is None else load_labelled(dataset, header.grid, header.sigma, header.meaning)
        if "energy" in anchors.crystal_columns:
            energies = formation_energy(found.crystal_columns["energy"], found, elemental_references(anchors))
            found = found.with_columns(crystal={"formation_energy": energies})
    found = prepared(found, model) if header.kind == "predictor" else with_channels(found, stride)
    labelled, objective = LabelledDataset(found, header.elements, header.grid), _objective(header.kind)

    def once(size: int) -> dict[str, float]:
        return objective.evaluate(model, (batch.to(device) for batch in DataLoader(labelled, batch_size=size)))

    metrics, _ = halving(once, batch_size or _BATCH_SIZE, torch.device(device), "crystals")
    finite: dict[str, Any] = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    if header.kind == "predictor":
        finite["comparison"] = comparison(model, header, found, batch_size or _BATCH_SIZE).figures()
    return {"kind": header.kind, "n_crystals": len(found), "n_left_out": left_out, **finite}


@torch.no_grad()
def bins_within(
    model: Predictor, header: CheckpointHeader, crystals: CrystalSet, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return of each crystal the shares of the bins of its curves within one and two stated deviations, shape (C,) each.

    Of normal errors they are 0.68 and 0.95.

    :param crystals: labelled, as :func:`.dataset.load_labelled` returns them, of elements that the model knows.
    :return: None for a model that states no deviation of single bins: one of a single member, or without channels.
    """
    if not model.stride or len(model.members) < 2:
        return None
    labelled, objective = (
        LabelledDataset(prepared(crystals, model), header.elements, header.grid),
        PredictorObjective(header.grid),
    )
    shares: list[np.ndarray] = []
    for batch in DataLoader(labelled, batch_size=_BATCH_SIZE):
        dense = to_dense(batch.to(device))
        counted = objective.compared(dense)
        prediction = model(dense.types, dense.fractional, dense.lattices, dense.mask, tight_binding_of(batch))
        residuals, stated = (model.mean_dos(prediction) - dense.dos).abs(), model.dos_deviation(prediction)
        points = counted.sum((1, 2)).clamp_min(1)
        within = [((residuals <= limit * stated) * counted).sum((1, 2)) / points for limit in (1, 2)]
        shares.append(torch.stack(within).cpu().numpy())
    both = np.concatenate(shares, axis=1)
    return both[0], both[1]


def _known(crystals: CrystalSet, elements: list[str], max_atoms: int | None) -> np.ndarray:
    unknown = np.unique(crystals.crystal_of_atom[type_indices(crystals.numbers, elements) < 0])
    fits = np.ones(len(crystals), dtype=bool) if max_atoms is None else crystals.n_atoms <= max_atoms
    fits[unknown] = False
    return np.flatnonzero(fits)


def _objective(kind: str) -> Objective:
    if kind == "predictor":
        return PredictorObjective(DEFAULT_GRID)
    if kind == "classifier":
        return ClassifierObjective()
    usual = TrainParameters(model="denoiser")
    return DenoiserObjective(Dropout(usual.drop_crystal, usual.drop_site, usual.total_only))
