"""How wrong the surrogate and the force field are on crystals that they have not seen, by the labels of pw.x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase.units import GPa
from scipy.stats import spearmanr

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.engine.batch import type_indices
from aiida_dosmatgen.engine.prediction.predictor import Predictor
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluator

from . import figures
from .surrogate import Surrogate
from .targets import near_equilibrium

_CHUNK = 64


def surrogate_errors(surrogate: Surrogate, predictor: Predictor, crystals: CrystalSet, seed: int) -> dict[str, Any]:
    """Compare what the surrogate predicts of labelled crystals with their labels.

    :param predictor: of the surrogate. Its elements' mean curves over the training set are the baseline.
    :return: ``over_baseline``, the ratio of the summed absolute errors, points beyond the complete bands left out;
        ``tight_binding_over_baseline``, the same for the tight binding below the networks; mean
        absolute errors of curves (states/eV/atom) and formation energies (eV/atom); how many errors lie within the stated
        standard deviation (68 % of normal ones do), and the rank correlation of the two.
    """
    elements = predictor.tight_binding.elements
    known = type_indices(crystals.numbers, elements) >= 0
    crystals = crystals[
        np.array([known[a:b].all() for a, b in zip(crystals.offsets, crystals.offsets[1:], strict=False)], bool)
    ]
    if not len(crystals):
        return {"n": 0}
    predicted = surrogate.predicted(crystals)
    base = predictor.mean_curves.cpu().numpy()[type_indices(crystals.numbers, elements)]
    start = predictor.tight_binding.curves(crystals)
    complete = DEFAULT_GRID.points <= crystals.crystal_columns["complete_below"][:, None]
    weights = complete[crystals.crystal_of_atom]
    label, guess = crystals.atom_columns["dos"], predicted.atom_columns["predicted_dos"]

    def of_crystals(values: np.ndarray) -> np.ndarray:
        return np.bincount(crystals.crystal_of_atom, weights=values, minlength=len(crystals))

    points = of_crystals(weights.sum(-1))
    error = of_crystals((np.abs(guess - label) * weights).sum(-1))
    baseline = of_crystals((np.abs(base - label) * weights).sum(-1))
    below = of_crystals((np.abs(start - label) * weights).sum(-1))
    good = np.isfinite(error) & (points > 0)
    error, baseline, points = error[good], baseline[good], points[good]
    over, interval = figures.ratio(error, baseline, seed)
    stated = (of_crystals(predicted.atom_columns["predicted_dos_std"]) / crystals.n_atoms)[good]
    energy = np.abs(predicted.crystal_columns["predicted_formation_energy"] - crystals.crystal_columns["formation_energy"])[
        good
    ]
    energy_stated = predicted.crystal_columns["predicted_formation_energy_std"][good]
    return {
        "n": len(error),
        "without_prediction": int((~good).sum()),
        "over_baseline": over,
        "over_baseline_95": interval,
        "tight_binding_over_baseline": float(below[good].sum() / baseline.sum()),
        "dos_mae": float(error.sum() / points.sum()),
        "dos_mae_baseline": float(baseline.sum() / points.sum()),
        "formation_energy_mae": _mean(energy),
        "dos_within_std": _share(error / points, stated),
        "formation_energy_within_std": _share(energy, energy_stated),
        "dos_uncertainty_rank_correlation": _spearman(error / points, stated),
        "formation_energy_uncertainty_rank_correlation": _spearman(energy, energy_stated),
    }


def force_field_errors(evaluator: Evaluator, crystals: CrystalSet, seed: int) -> dict[str, Any]:
    """Compare a force field with the labels of pw.x: of all crystals, and of those near to equilibrium.

    :return: for each, mean absolute errors of energies (meV/atom), force components (eV/Å) and stress components (GPa).
        ``energy_mae_shifted_meV`` leaves out what a constant for each element explains: the error of formation energies.
    """
    known = evaluator.knows(crystals.numbers)
    crystals = crystals[
        np.array([known[a:b].all() for a, b in zip(crystals.offsets, crystals.offsets[1:], strict=False)], bool)
    ]
    if not len(crystals):
        return {"all": {"n": 0}}
    parts = [evaluator.evaluate(crystals[k : k + _CHUNK]) for k in range(0, len(crystals), _CHUNK)]
    energy = (np.concatenate([p.energies for p in parts]) - crystals.crystal_columns["energy"]) / crystals.n_atoms
    forces = np.abs(np.concatenate([p.forces for p in parts]) - crystals.atom_columns["forces"]).mean(1)
    stress = np.abs(np.concatenate([p.stresses for p in parts]) - crystals.crystal_columns["stress"]).mean((1, 2)) / GPa
    species = np.unique(crystals.numbers)
    shares = np.stack([np.bincount(crystals.crystal_of_atom, crystals.numbers == z, len(crystals)) for z in species], 1)
    shares = shares / crystals.n_atoms[:, None]

    def summary(chosen: np.ndarray) -> dict[str, Any]:
        rows = np.flatnonzero(chosen & np.isfinite(energy))
        if not len(rows):
            return {"n": 0}
        shift, *_ = np.linalg.lstsq(shares[rows], energy[rows], rcond=None)
        value, interval = figures.mean(1000 * np.abs(energy[rows]), seed)
        return {
            "n": len(rows),
            "failed": int((chosen & ~np.isfinite(energy)).sum()),
            "energy_mae_meV": value,
            "energy_mae_meV_95": interval,
            "energy_median_meV": float(1000 * np.median(np.abs(energy[rows]))),
            "energy_mae_shifted_meV": float(1000 * np.abs(energy[rows] - shares[rows] @ shift).mean()),
            "force_mae": float(forces[np.isin(crystals.crystal_of_atom, rows)].mean()),
            "stress_mae_GPa": float(stress[rows].mean()),
        }

    return {"all": summary(np.ones(len(crystals), bool)), "near_equilibrium": summary(near_equilibrium(crystals))}


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _share(errors: np.ndarray, stated: np.ndarray) -> float | None:
    known = np.isfinite(errors) & np.isfinite(stated)
    return float((errors <= stated)[known].mean()) if known.any() else None


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return None
    value = float(spearmanr(a[known], b[known]).statistic)
    return value if math.isfinite(value) else None
