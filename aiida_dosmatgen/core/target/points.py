"""Curves from points at any energies, put on equidistant ones."""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import cumulative_trapezoid

from ..dos import DEFAULT_GRID, EnergyGrid
from ..errors import ContentError

_WIDEST = (-20.0, 20.0)
"""Energies in eV beyond which nothing is kept: no model looks there."""

_PER_SIGMA = 1.9
"""Energies within a standard deviation of the broadening, about."""


def energies_for(low: float, high: float, sigma: float | None, spacing: float = 0.0) -> EnergyGrid:
    """Return the energies on which curves are kept: those of models, more where the curves go further, finer for sharp ones.

    :param low: the first energy of the curves in eV.
    :param high: the last one.
    :param sigma: their broadening in eV, None if unknown, 0 if they are as sharp as their own energies.
    :param spacing: distance of their own energies in eV, below which no others tell more.
    """
    width = _PER_SIGMA * spacing if sigma == 0 else sigma
    finer = 1 if not width else max(1, math.ceil(_PER_SIGMA * DEFAULT_GRID.spacing / max(width, spacing, 0.01) - 1e-9))
    if DEFAULT_GRID.emin <= low and high <= DEFAULT_GRID.emax and finer == 1:
        return DEFAULT_GRID
    before = max(0, math.floor((DEFAULT_GRID.emin - max(low, _WIDEST[0])) / DEFAULT_GRID.spacing))
    after = max(0, math.floor((min(high, _WIDEST[1]) - DEFAULT_GRID.emax) / DEFAULT_GRID.spacing))
    return EnergyGrid(
        DEFAULT_GRID.emin - before * DEFAULT_GRID.spacing,
        DEFAULT_GRID.emax + after * DEFAULT_GRID.spacing,
        finer * (before + DEFAULT_GRID.n - 1 + after) + 1,
    )


def resampled(energies: np.ndarray, values: np.ndarray, grid: EnergyGrid) -> np.ndarray:
    """Put curves on a grid by linear interpolation between their points; zero where there are none.

    :param energies: strictly increasing energies in eV, shape (m,).
    :param values: states/eV, shape (…, m).
    :return: shape (…, grid.n).
    """
    curves = values.reshape(-1, energies.size)
    out = np.stack([np.interp(grid.points, energies, c, left=0.0, right=0.0) for c in curves])
    return out.reshape(*values.shape[:-1], grid.n)


def averaged(energies: np.ndarray, values: np.ndarray, grid: EnergyGrid) -> np.ndarray:
    """Put curves on a coarser grid, so that no states are lost: means over the cells of the grid; zero where there are none.

    :param energies: strictly increasing energies in eV, shape (m,).
    :param values: states/eV, shape (…, m).
    :return: shape (…, grid.n).
    """
    sums = cumulative_trapezoid(values, energies, axis=-1, initial=0.0)
    ends = grid.emin + (np.arange(grid.n + 1) - 0.5) * grid.spacing
    held = np.stack([np.interp(ends, energies, one) for one in sums.reshape(-1, energies.size)])
    return (np.diff(held, axis=-1) / grid.spacing).reshape(*values.shape[:-1], grid.n)


def checked(energies: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return energies and values of curves as arrays.

    :raises ContentError: for unsorted energies, lengths that differ, NaN or infinite values.
    """
    energies, values = np.asarray(energies, float), np.asarray(values, float)
    if energies.ndim != 1 or values.shape[-1:] != energies.shape:
        raise ContentError(f"{energies.size} energies but {values.shape[-1] if values.ndim else 0} values in each curve")
    for name, array in (("energies", energies), ("DOS", values)):
        if not np.isfinite(array).all():
            raise ContentError(
                f"the {name} has NaN or infinite values, the first at index {int(np.argmax(~np.isfinite(array.reshape(-1))))}"
            )
    if energies.size < 2 or (np.diff(energies) <= 0).any():
        where = int(np.argmax(np.diff(energies) <= 0)) + 1 if energies.size > 1 else 0
        raise ContentError(
            f"energies must increase strictly; they do not at index {where}"
            + (f", where {energies[where]:g} eV follows {energies[where - 1]:g} eV" if where else "")
        )
    return energies, values
