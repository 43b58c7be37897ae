"""What fails a criterion: each function returns the reason of every row that does, or None if the criteria do not ask for it.

Their order, and what each of them needs, is in :mod:`.funnel`.
"""

from __future__ import annotations

import numpy as np

from ..contacts import valid_crystals
from ..elements import SYMBOLS
from ..target.distances import rank_key
from .candidates import Candidates
from .matching import composition_of, duplicates, reduced_composition

NO_PREDICTION = "no predicted density of states"
DUPLICATE = "duplicate"


def invalid(of: Candidates, rows: list[int]) -> dict[int, str]:
    """Name those that are no crystal, have atoms too close, a wrong volume, or elements or a formula that are not allowed."""
    crystals, criteria = of.crystals, of.criteria
    valid = valid_crystals(crystals)
    per_atom = np.where(valid, np.abs(np.linalg.det(np.where(valid[:, None, None], crystals.lattices, np.eye(3)))), np.nan)
    per_atom = per_atom / crystals.n_atoms
    allowed = criteria.allowed_elements
    formulas = None if criteria.allowed_formulas is None else set(map(reduced_composition, criteria.allowed_formulas))
    offsets = crystals.offsets
    failing = {}
    for i in rows:
        if not valid[i]:
            failing[i] = "not a crystal"
        elif allowed is not None and not {SYMBOLS[z] for z in crystals.numbers[offsets[i] : offsets[i + 1]]} <= set(allowed):
            failing[i] = "element not allowed"
        elif formulas is not None and composition_of(crystals.numbers[offsets[i] : offsets[i + 1]]) not in formulas:
            failing[i] = "formula not allowed"
        elif of.contacts[i] < criteria.min_contact:
            failing[i] = "atoms too close"
        elif per_atom[i] < criteria.min_volume_per_atom:
            failing[i] = "volume too small"
        elif per_atom[i] > criteria.max_volume_per_atom:
            failing[i] = "volume too large"
    return failing


def unconverged(of: Candidates, rows: list[int]) -> dict[int, str]:
    """Name those whose relaxation failed, or did not converge if it must have."""
    passing = {"converged"} if of.criteria.require_converged else {"converged", "max steps", "too slow", "out of time"}
    return {i: f"relaxation: {of.status[i]}" for i in rows if str(of.status[i]) not in passing}


def unstable(of: Candidates, rows: list[int]) -> dict[int, str]:
    """Name those whose formation energy is outside of the limits, or unknown but limited."""
    energies, limit = of.formation_energies, of.criteria.max_formation_energy
    failing = {i: "formation energy too low to be true" for i in rows if energies[i] < of.criteria.min_formation_energy}
    if limit is None:
        return failing
    failing |= {i: "formation energy too high" for i in rows if energies[i] > limit}
    return failing | {i: "formation energy unknown" for i in rows if not np.isfinite(energies[i])}


def above_hull(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those whose energy above the hull is unknown or beyond the limit."""
    limit = of.criteria.max_hull_distance
    if limit is None:
        return None
    above = of.above_hull(rows)
    failing = {i: "too far above the hull" for i in rows if above[i] > limit}
    return failing | {i: "hull distance unknown" for i in rows if not np.isfinite(above[i])}


def unpredicted(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those without a prediction to compare with the target."""
    return None if of.target is None else {i: NO_PREDICTION for i in rows if of.distances(i) is None}


def far(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those whose predicted DOS is too far from the target."""
    limit = of.criteria.max_predicted_distance
    if limit is None:
        return None
    return {i: "predicted distance too large" for i in rows if not rank_key(of.distances(i)) <= limit}


def uncertain(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those whose predicted DOS is too uncertain."""
    limit = of.criteria.max_uncertainty
    return None if limit is None else {i: "prediction too uncertain" for i in rows if not of.uncertainties[i] <= limit}


def duplicate(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those that equal a better one.

    :param rows: best first.
    """
    return dict.fromkeys(duplicates(of.crystals, rows), DUPLICATE) if of.criteria.unique else None


def known(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those that are known crystals."""
    return dict.fromkeys(of.known_as(rows), "known") if of.criteria.novel and of.known is not None else None


def beyond_the_best(of: Candidates, rows: list[int]) -> dict[int, str] | None:
    """Name those that come after the ones that are ranked; None if there are none.

    :param rows: best first.
    """
    most = of.criteria.max_ranked
    return dict.fromkeys(rows[most:], f"beyond the best {most}") or None
