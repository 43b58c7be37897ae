"""How far the curves of a predictor are from labels, crystal by crystal, as everything else is compared.

The distance of two densities of states has one definition (:func:`...core.curves.compare`); here it is taken between what is
predicted of a crystal and its label, and between its elements' mean curves and its label.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...core.crystals import CrystalSet
from ...core.curve_columns import curves_of
from ...core.curves import compare
from ...core.files.checkpoint_header import CheckpointHeader
from ..batch import type_indices
from ..prediction.predict import predict
from ..prediction.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Distances of the predicted curves from the labels of C crystals, all of shape (C,).

    :param rows: of the crystals that have a prediction.
    :param mae: mean absolute difference of the sites' curves, in states/eV/atom.
    :param mean_curves: the same of the mean curves of the elements over the training set.
    :param r2: coefficient of determination of the totals.
    :param wasserstein: first Wasserstein distance of the totals, in eV.
    """

    rows: np.ndarray
    mae: np.ndarray
    mean_curves: np.ndarray
    r2: np.ndarray
    wasserstein: np.ndarray

    def figures(self) -> dict[str, Any]:
        """Return the means over the crystals, of R² the median too, which single odd crystals do not decide."""
        if not len(self.rows):
            return {"n": 0}
        return {
            "n": len(self.rows),
            "mae": float(self.mae.mean()),
            "mae_mean_curves": float(self.mean_curves.mean()),
            "ratio": float(self.mae.mean() / max(self.mean_curves.mean(), 1e-12)),
            "r2": float(np.nanmean(self.r2)),
            "r2_median": float(np.nanmedian(self.r2)),
            "wasserstein": float(self.wasserstein.mean()),
        }


def comparison(model: Predictor, header: CheckpointHeader, crystals: CrystalSet, batch_size: int = 64) -> Comparison:
    """Compare what a model predicts of labelled crystals with their labels.

    :param crystals: with the columns of :mod:`...core.curve_columns`; those that the model predicts nothing of are left out.
    """
    predicted = predict(model, header, crystals, batch_size)
    types = type_indices(crystals.numbers, header.elements)
    guess = predicted.atom_columns["predicted_dos"]
    means = np.where((types >= 0)[:, None], model.mean_curves.cpu().numpy()[types.clip(0)], np.nan)
    rows, found = [], []
    for row, (first, last) in enumerate(zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True)):
        if not np.isfinite(guess[first:last]).all():
            continue
        label, curves = curves_of(crystals, row), curves_of(predicted, row, "predicted_dos")
        ours = compare(curves, label)
        theirs = compare(dataclasses.replace(curves, values=means[first:last, None, None].astype(float)), label)
        rows.append(row)
        found.append((ours.mae, theirs.mae, ours.r2, ours.wasserstein))
    return Comparison(np.array(rows, dtype=int), *np.array(found, dtype=float).reshape(-1, 4).T)
