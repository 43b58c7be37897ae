"""The curve that a sampler is conditioned on, made from wishes.

It is the flattest curve that grants them: of all curves D ≥ 0 on the energies of models the one with the smallest

    Σ_i ((a_i·D − b_i)/s_i)² + Σ_j ((D_j+1 − D_j)/ΔE)²·ΔE/q + Σ_j (D_j − D₀)²·ΔE/r

where a_i·D = b_i are the conditions of the wishes (:meth:`.Wish.conditions`) and D₀ is a level that crystals have on average;
broadened as the curves of models are. Where no wish speaks, nothing is said: the sampler is shown its own average there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from ..curves import Curves
from ..dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from .wishes import Wish

LEVEL = 0.5
"""D₀ in states/eV/atom: four electrons in a band of 8 eV."""

_FLAT = 4.0  # q, eV·(states/eV/atom)²/eV²
_NEAR = 40.0  # r


def made_curve(wishes: Sequence[Wish], grid: EnergyGrid = DEFAULT_GRID, sigma: float = DEFAULT_SIGMA) -> Curves:
    """Return the curve of an average atom that grants wishes, known between the first and the last energy they speak of.

    :param grid: its energies.
    :param sigma: its broadening in eV.
    """
    points, step = grid.points, grid.spacing
    given = [found for one in wishes if one.windows and (found := one.conditions(points, LEVEL)) is not None]
    rows = [found.rows / np.broadcast_to(found.scale, found.values.shape)[:, None] for found in given]
    values = [found.values / found.scale for found in given]
    flat = math.sqrt(1 / (step * _FLAT)) * np.diff(np.eye(grid.n), axis=0)
    near = math.sqrt(step / _NEAR) * np.eye(grid.n)
    solution, _ = nnls(
        np.concatenate([*rows, flat, near]),
        np.concatenate([*values, np.zeros(grid.n - 1), near @ np.full(grid.n, LEVEL)]),
        maxiter=30 * grid.n,
    )
    curve = gaussian_filter1d(solution, sigma / step, mode="nearest", truncate=6.0)
    spoken = [window for one in wishes for window in one.windows]
    low = max(grid.emin, min((low for low, _ in spoken), default=grid.emin))
    high = min(grid.emax, max((high for _, high in spoken), default=grid.emax))
    if not low < high:
        low, high = grid.emin, grid.emax
    return Curves(curve[None, None, None], points, sigma, low, high, resolved=False)


def spoken_of(wishes: Iterable[Wish], points: np.ndarray) -> np.ndarray:
    """Tell at which energies wishes say something of the curve, shape (n,).

    :param points: eV, shape (n,).
    """
    said = np.zeros(len(points), dtype=bool)
    for low, high in (window for one in wishes for window in one.windows):
        said |= (points >= low) & (points <= high)
    return said
