"""The curve that a sampler is conditioned on, made from wishes.

It is the usual curve, bent until it grants them: of all curves D = D₀ + C ≥ 0 on the energies of models the one with the
smallest

    Σ_i ((a_i·D − b_i)/s_i)² + Σ_j ((C_j+1 − C_j)/ΔE)²·ΔE/q + Σ_j C_j²·ΔE/r

where a_i·D = b_i are the conditions of the wishes (:meth:`.Wish.conditions`) and D₀ is what crystals have on average
(:func:`usual`); broadened as the curves of models are. Where no wish speaks, nothing is said: the sampler is shown the average
of its own training set there.
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

_FLAT = 4.0  # q, eV·(states/eV/atom)²/eV²
_NEAR = 40.0  # r


def made_curve(wishes: Sequence[Wish], grid: EnergyGrid = DEFAULT_GRID, sigma: float = DEFAULT_SIGMA) -> Curves:
    """Return the curve of an average atom that grants wishes, known between the first and the last energy they speak of.

    :param grid: its energies.
    :param sigma: its broadening in eV.
    """
    points, step = grid.points, grid.spacing
    average = usual(points)
    given = [found for one in wishes if one.windows and (found := one.conditions(points, average)) is not None]
    rows = [found.rows / np.broadcast_to(found.scale, found.values.shape)[:, None] for found in given]
    values = [found.values / found.scale for found in given]
    flat = math.sqrt(1 / (step * _FLAT)) * np.diff(np.eye(grid.n), axis=0)
    near = math.sqrt(step / _NEAR) * np.eye(grid.n)
    solution, _ = nnls(
        np.concatenate([*rows, flat, near]),
        np.concatenate([*values, flat @ average, near @ average]),
        maxiter=30 * grid.n,
    )
    curve = gaussian_filter1d(solution, sigma / step, mode="nearest", truncate=6.0)
    spoken = [window for one in wishes for window in one.windows]
    low = max(grid.emin, min((low for low, _ in spoken), default=grid.emin))
    high = min(grid.emax, max((high for _, high in spoken), default=grid.emax))
    if not low < high:
        low, high = grid.emin, grid.emax
    return Curves(curve[None, None, None], points, sigma, low, high, resolved=False)


def usual(points: np.ndarray) -> np.ndarray:
    """Return D₀ in states/eV/atom: about the mean of the labels that come with this package, shape (n,).

    :param points: eV, shape (n,).
    """
    return np.asarray(0.25 + 0.4 * np.exp(-0.5 * ((points + 1.5) / 2.0) ** 2))


def spoken_of(wishes: Iterable[Wish], points: np.ndarray) -> np.ndarray:
    """Tell at which energies wishes say something of the curve, shape (n,).

    :param points: eV, shape (n,).
    """
    said = np.zeros(len(points), dtype=bool)
    for low, high in (window for one in wishes for window in one.windows):
        said |= (points >= low) & (points <= high)
    return said
