"""Errors of a force field in energies and forces, against labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import eye_array, hstack, vstack

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluation, Evaluator

OUT_OF_EQUILIBRIUM = 0.1  # eV/Å, of the largest force
_ATOMS_AT_A_TIME = 400
_LEAST_CRYSTALS = 3  # with an element, for a constant of it to mean something


def evaluate(crystals: CrystalSet, evaluator: Evaluator) -> Evaluation:
    """Evaluate many crystals; NaN for those whose elements are not known."""
    energies, stresses = np.full(len(crystals), np.nan), np.full((len(crystals), 3, 3), np.nan)
    forces = np.full((len(crystals.numbers), 3), np.nan)
    unknown = np.zeros(len(crystals), dtype=bool)
    unknown[crystals.crystal_of_atom[~evaluator.knows(crystals.numbers)]] = True
    known = np.flatnonzero(~unknown)
    group = np.cumsum(crystals.n_atoms[known]) // _ATOMS_AT_A_TIME
    for g in np.unique(group):
        rows = known[group == g]
        found = evaluator.evaluate(crystals[rows].replace(crystal_columns={}, atom_columns={}))
        energies[rows], stresses[rows] = found.energies, found.stresses
        forces[np.isin(crystals.crystal_of_atom, rows)] = found.forces
    return Evaluation(energies, forces, stresses)


def energies_after_constants(labelled: CrystalSet, evaluated: np.ndarray, evaluator: Evaluator) -> dict[str, Any]:
    """Compare energies of real crystals, up to one constant for each element.

    :param labelled: with the columns ``energy``, ``kind`` and ``split``.
    :param evaluated: which crystals to evaluate on, shape (N,) bool; the constants come from the split ``train``.
    """
    at_rest = np.isin(labelled.crystal_columns["kind"], ["real", "element"])
    fitted = at_rest & (labelled.crystal_columns["split"] == "train")
    rows = np.flatnonzero(at_rest & (evaluated | fitted))
    crystals = labelled[rows]
    predicted = evaluate(crystals, evaluator).energies
    counts = np.zeros((len(crystals), len(SYMBOLS)))
    np.add.at(counts, (crystals.crystal_of_atom, crystals.numbers), 1)
    fractions = counts / crystals.n_atoms[:, None]
    difference = (crystals.crystal_columns["energy"] - predicted) / crystals.n_atoms
    usable = np.isfinite(difference)
    train = usable & fitted[rows]
    elements = np.flatnonzero((counts[train] > 0).sum(0) >= _LEAST_CRYSTALS)
    covered = usable & (counts[:, np.setdiff1d(np.arange(len(SYMBOLS)), elements)].sum(1) == 0)
    test = covered & evaluated[rows] & (crystals.crystal_columns["kind"] == "real")
    if not test.any():
        return {"n": 0, "mae": None}
    train &= covered
    constants = _least_absolute(fractions[train][:, elements], difference[train])
    error = 1000 * np.abs(difference - fractions[:, elements] @ constants)
    return {
        "n": int(test.sum()),
        "mae": float(error[test].mean()),
        "median": float(np.median(error[test])),
        "n_fitted": int(train.sum()),
        "mae_fitted": float(error[train].mean()),
        "elements": len(elements),
    }


def forces_out_of_equilibrium(labelled: CrystalSet, evaluator: Evaluator) -> dict[str, Any]:
    """Compare forces on the crystals that are not at rest: displaced and scaled real ones, and prototypes as they were made."""
    size = np.linalg.norm(np.nan_to_num(labelled.atom_columns["forces"]), axis=1)
    largest = np.maximum.reduceat(size, labelled.offsets[:-1])
    moved, kind = largest > OUT_OF_EQUILIBRIUM, labelled.crystal_columns["kind"]
    groups = {"displaced": ["distorted", "scaled"], "prototypes": ["substituted"]}
    return {
        name: _force_errors(labelled[np.flatnonzero(moved & np.isin(kind, kinds))], evaluator) for name, kinds in groups.items()
    }


def _force_errors(crystals: CrystalSet, evaluator: Evaluator) -> dict[str, Any]:
    if not len(crystals):
        return {"n": 0, "mae": None}
    forces, label = evaluate(crystals, evaluator).forces, crystals.atom_columns["forces"]
    usable = np.isfinite(forces).all(1) & np.isfinite(label).all(1)
    if not usable.any():
        return {"n": 0, "mae": None}
    error = np.abs(forces - label)[usable]
    of_crystal = crystals.crystal_of_atom[usable]
    present = np.unique(of_crystal)
    each = np.bincount(of_crystal, weights=error.mean(1))[present] / np.bincount(of_crystal)[present]
    return {
        "n": len(present),
        "mae": float(error.mean()),
        "median_of_crystals": float(np.median(each)),
        "mean_size": float(np.abs(label[usable]).mean()),
    }


def _least_absolute(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the x that minimises Σ|matrix·x − values|: (N, M), (N,) -> (M,)."""
    n, m = matrix.shape
    one = eye_array(n)
    cost = np.concatenate([np.zeros(m), np.ones(n)])
    rows = vstack([hstack([matrix, -one]), hstack([-matrix, -one])])
    bounds = [(None, None)] * m + [(0, None)] * n
    return linprog(cost, A_ub=rows, b_ub=np.concatenate([values, -values]), bounds=bounds, method="highs").x[:m]
