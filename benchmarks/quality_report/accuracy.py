"""How right the predictor is, which ranks all candidates: on crystals of unseen systems, bin by bin, and among allotropes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curves import compare
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.training.comparison import comparison
from aiida_dosmatgen.engine.training.dataset import load_labelled
from aiida_dosmatgen.engine.training.evaluation import bins_within

from . import figures


def accuracy(predictor: Path, dataset: Path, split: str, seed: int) -> dict[str, Any]:
    """Compare predictions of all crystals of a split with their labels, and stated deviations with residuals, bin by bin.

    :return: of ``n`` crystals ``ratio`` of the error over that of the elements' mean curves, ``mae``, ``r2``, ``wasserstein``,
        each with its interval ``…_95``; ``bins_within_std`` and ``bins_within_two_std``, 0.68 and 0.95 for normal errors, each
        crystal counting as much as any other.
    """
    model, header = load_model(predictor, kind="predictor")
    resolved = bool(header.architecture.get("stride"))
    crystals = load_labelled(dataset, header.grid, header.sigma, header.meaning, resolved=resolved)
    crystals = crystals[np.flatnonzero(crystals.crystal_columns["split"] == split)]
    found = comparison(model, header, crystals)
    if not len(found.rows):
        return {"n": 0}
    ratio, ratio_95 = figures.ratio(found.mae, found.mean_curves, seed)
    result: dict[str, Any] = {"n": len(found.rows), "ratio": ratio, "ratio_95": ratio_95}
    for name, values in (("mae", found.mae), ("r2", found.r2), ("wasserstein", found.wasserstein)):
        result[name], result[f"{name}_95"] = figures.mean(values, seed)
    result["r2_median"] = float(np.nanmedian(found.r2))
    result["mae_mean_curves"] = float(found.mean_curves.mean())
    within = bins_within(model, header, crystals[found.rows])
    if within is not None:
        for name, values in zip(("bins_within_std", "bins_within_two_std"), within, strict=True):
            result[name], result[f"{name}_95"] = figures.mean(values, seed)
    return result


def allotropes(predictor: Path, labelled: CrystalSet, seed: int) -> dict[str, Any]:
    """Say where the right crystal is among others of its composition, ranked by predicted distances from its label.

    :param labelled: crystals of one composition with densities of states by DFT.
    :return: ``n`` crystals, the ``ranks`` from 1, their mean ``rank`` with its interval, the share that is ``first``, and
        ``by_chance``, the mean rank of a guess.
    """
    model, header = load_model(predictor, kind="predictor")
    predicted = predict(model, header, labelled)
    curves = [curves_of(predicted, row, "predicted_dos") for row in range(len(labelled))]
    ranks = []
    for row in range(len(labelled)):
        label = curves_of(labelled, row)
        totals = [compare(one.summed(sites=True), label.summed(sites=True), (len(one), len(label))) for one in curves]
        distances = np.array([one.mae_total for one in totals])
        ranks.append(1 + int((distances < distances[row]).sum()))
    mean, interval = figures.mean(np.array(ranks, dtype=float), seed)
    first = float(np.mean(np.array(ranks) == 1))
    return {
        "n": len(ranks),
        "ranks": ranks,
        "rank": mean,
        "rank_95": interval,
        "first": first,
        "by_chance": (len(ranks) + 1) / 2,
    }
