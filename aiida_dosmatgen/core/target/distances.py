"""How far the density of states of a crystal is from the curves of a target."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..dos import EnergyGrid, comparison_mask, mean_absolute_error, wasserstein
from ..errors import ContentError

NEAR = (-3.0, 3.0)
"""The energies in eV that ``mae_window`` looks at, if no window is given."""


def best_atoms(
    curves: np.ndarray,
    dos: np.ndarray,
    grid: EnergyGrid,
    complete_below: float = math.inf,
    window: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return the atom of a crystal for each curve, such that they fit best (least summed |difference|), shape (n_curves,).

    :param curves: states/eV, shape (n_curves, grid.n).
    :param dos: of at least as many atoms as there are curves, states/eV, shape (n_atoms, grid.n).
    :param complete_below: eV; nothing beyond is looked at.
    :raises ContentError: if there are fewer atoms.
    """
    if len(dos) < len(curves):
        raise ContentError(f"a crystal of {len(dos)} atoms cannot have the {len(curves)} sites of the target")
    mask = comparison_mask(grid, complete_below, window)
    cost = np.abs(curves[:, None, mask] - dos[None][..., mask]).sum(-1)
    return linear_sum_assignment(cost)[1]


def distances(
    wanted: np.ndarray,
    got: np.ndarray,
    total: np.ndarray,
    grid: EnergyGrid,
    complete_below: float = math.inf,
    window: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Compare curves pair by pair, and the mean of those of a crystal with the total of a target.

    :param wanted: states/eV/atom, shape (n, grid.n), like ``got``.
    :param total: that of the target, shape (grid.n,).
    :return: ``mae``, ``mae_window``, ``mae_total`` in states/eV/atom and ``wasserstein`` in eV; see
        :meth:`.DosTarget.distances`.
    """
    mean = got.mean(0)
    return {
        "mae": mean_absolute_error(got, wanted, grid, complete_below, window),
        "mae_window": mean_absolute_error(got, wanted, grid, complete_below, window or NEAR),
        "mae_total": mean_absolute_error(mean, total, grid, complete_below, window),
        "wasserstein": wasserstein(mean, total, grid, complete_below, window),
    }
