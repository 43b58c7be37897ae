"""How far candidates are from what was asked for, by the predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.prediction.predictor import Predictor

from .targets import targets_of

VALID_CONTACT = ScreenCriteria().min_contact  # over the sum of the covalent radii


class Evaluated(NamedTuple):
    """What is found of n candidates, each array of shape (n,).

    :param wanted: number of the target.
    :param distances: of the predicted DOS from the target, NaN where there is no prediction.
    :param composition: whether the formula is that of the crystal that the target belongs to.
    :param valid: whether no two atoms are nearer than ``VALID_CONTACT``, the limit of the screening.
    """

    wanted: np.ndarray
    distances: np.ndarray
    composition: np.ndarray
    valid: np.ndarray


class Surrogate:
    """Distances from the targets by the predictor.

    :param crystals: those that the targets belong to.
    """

    def __init__(self, path: Path, crystals: CrystalSet) -> None:
        self.model: Predictor
        self.model, self.header = load_model(path, kind="predictor")
        self.targets, self.compositions = targets_of(crystals), crystals.compositions

    def __call__(self, parts: list[CrystalSet]) -> Evaluated:
        """Evaluate candidates, the column ``target`` of which says what they were asked for."""
        crystals = predict(self.model, self.header, CrystalSet.concatenate(parts))
        wanted, dos, offsets = crystals.crystal_columns["target"], crystals.atom_columns["predicted_dos"], crystals.offsets
        found = np.full(len(crystals), np.nan)
        for i, target in enumerate(wanted):
            if np.isfinite(dos[offsets[i] : offsets[i + 1]]).all():
                found[i] = self.targets[target].distances(curves_of(crystals, i, "predicted_dos"))["mae"]
        right = np.array([own == self.compositions[i] for own, i in zip(crystals.compositions, wanted, strict=True)])
        return Evaluated(wanted, found, right, closest_contacts(crystals) > VALID_CONTACT)


def summary(evaluated: Evaluated, worst: float) -> dict[str, Any]:
    """Return mean, best and failures; a candidate without a distance has the worst one.

    :return: ``mean`` over candidates, then targets; ``best`` of each target, over targets; ``of_target``: the means;
        ``composition`` and ``valid``: shares of the candidates.
    """
    wanted, distances = evaluated.wanted, evaluated.distances
    values = np.where(np.isfinite(distances), distances, worst)
    groups = [values[wanted == i] for i in np.unique(wanted)]
    return {
        "composition": float(evaluated.composition.mean()),
        "valid": float(evaluated.valid.mean()),
        "mean": float(np.mean([g.mean() for g in groups])),
        "best": float(np.mean([g.min() for g in groups])),
        "candidates_per_target": len(groups[0]),
        "failed": int((~np.isfinite(distances)).sum()),
        "of_target": [float(g.mean()) for g in groups],
    }
