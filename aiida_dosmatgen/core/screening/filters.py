"""The criteria: each function returns the reason of every candidate that fails it."""

from __future__ import annotations

import numpy as np

from ..contacts import valid_crystals
from ..crystals import CrystalSet
from ..elements import SYMBOLS
from .criteria import ScreenCriteria
from .matching import composition_of, reduced_composition


def invalid(crystals: CrystalSet, left: list[int], contacts: np.ndarray, criteria: ScreenCriteria) -> dict[int, str]:
    """Name those that are no crystal, have atoms too close, a wrong volume, or elements or a formula that are not allowed.

    :param contacts: closest contact of each crystal over the sum of the covalent radii, shape (N,).
    """
    valid = valid_crystals(crystals)
    per_atom = np.where(valid, np.abs(np.linalg.det(np.where(valid[:, None, None], crystals.lattices, np.eye(3)))), np.nan)
    per_atom = per_atom / crystals.n_atoms
    allowed = criteria.allowed_elements
    formulas = None if criteria.allowed_formulas is None else set(map(reduced_composition, criteria.allowed_formulas))
    offsets = crystals.offsets
    failing = {}
    for i in left:
        if not valid[i]:
            failing[i] = "not a crystal"
        elif allowed is not None and not {SYMBOLS[z] for z in crystals.numbers[offsets[i] : offsets[i + 1]]} <= set(allowed):
            failing[i] = "element not allowed"
        elif formulas is not None and composition_of(crystals.numbers[offsets[i] : offsets[i + 1]]) not in formulas:
            failing[i] = "formula not allowed"
        elif contacts[i] < criteria.min_contact:
            failing[i] = "atoms too close"
        elif per_atom[i] < criteria.min_volume_per_atom:
            failing[i] = "volume too small"
        elif per_atom[i] > criteria.max_volume_per_atom:
            failing[i] = "volume too large"
    return failing


def unconverged(left: list[int], status: np.ndarray, require_converged: bool) -> dict[int, str]:
    """Name those whose relaxation failed, or did not converge if it must have."""
    passing = {"converged"} if require_converged else {"converged", "max steps", "too slow", "out of time"}
    return {i: f"relaxation: {status[i]}" for i in left if str(status[i]) not in passing}


def unstable(left: list[int], energies: np.ndarray, criteria: ScreenCriteria) -> dict[int, str]:
    """Name those whose formation energy (eV/atom, shape (N,)) is outside of the limits, or unknown but limited."""
    failing = {i: "formation energy too low to be true" for i in left if energies[i] < criteria.min_formation_energy}
    limit = criteria.max_formation_energy
    if limit is None:
        return failing
    failing |= {i: "formation energy too high" for i in left if energies[i] > limit}
    return failing | {i: "formation energy unknown" for i in left if not np.isfinite(energies[i])}


def above_hull(left: list[int], hull: np.ndarray, limit: float) -> dict[int, str]:
    """Name those whose energy above the hull (eV/atom, shape (N,)) is unknown or beyond the limit."""
    failing = {i: "too far above the hull" for i in left if hull[i] > limit}
    return failing | {i: "hull distance unknown" for i in left if not np.isfinite(hull[i])}
