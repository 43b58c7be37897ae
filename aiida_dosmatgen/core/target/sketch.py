"""A density of states from three numbers: where the band lies, how wide it is, and the gap above it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.stats import beta

from ..dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid, gaussian_dos
from ..errors import ContentError
from . import DosTarget

_SUM = 3.0  # of the exponents of the beta distribution; with equal exponents of 3/2 it is the semi-ellipse
_LEAST = 0.3  # an exponent below makes a spike at the edge, not a band
_LEVELS = 2000


def sketch(
    centre: float,
    width: float,
    gap: float = 0.0,
    *,
    electrons: float = 4.0,
    n_atoms: int | None = None,
    sigma: float = DEFAULT_SIGMA,
    grid: EnergyGrid = DEFAULT_GRID,
) -> DosTarget:
    """Return the total target that a band of a given centre and width makes.

    With a gap, the band is filled: it reaches from ``-width`` to 0, the highest occupied level, and ``centre`` is its centre
    of gravity. If that is in the middle, the band is a semi-ellipse, and otherwise a beta distribution that leans to one side.
    Above the gap stands its mirror image. Without a gap, a semi-elliptic band around ``centre`` is filled up to 0.

    The curve is to be compared up to the middle of the upper band, or to the top of the metallic one: beyond, a sketch says
    nothing.

    :param centre: eV relative to the highest occupied level.
    :param width: from the bottom of the band to its top, in eV.
    :param gap: eV.
    :param electrons: in the filled part, for each atom.
    :param n_atoms: atoms of a candidate; None leaves it open.
    :param sigma: Gaussian broadening in eV (standard deviation), that of all curves of this package by default.
    :raises ContentError: for a band that is not filled up to zero, or that the energies do not show.
    """
    for name, value in (("centre", centre), ("width", width), ("gap", gap), ("electrons", electrons)):
        if not math.isfinite(value):
            raise ContentError(f"the {name} is {value}; give a number")
    for name, value in (("width", width), ("number of electrons", electrons)):
        if value <= 0:
            raise ContentError(f"the {name} is {value:g}; it must be positive")
    if gap < 0:
        raise ContentError(f"the gap is {gap:g} eV; it must not be negative")
    if gap > 0:
        levels, weights, limit = _insulator(centre, width, gap)
    else:
        levels, weights, limit = _metal(centre, width)
    if levels.min() < grid.emin or limit > grid.emax:
        raise ContentError(
            f"the band from {levels.min():.1f} to {levels.max():.1f} eV reaches beyond the energies of "
            f"{grid.emin:g} to {grid.emax:g} eV; make it narrower or the gap smaller"
        )
    curve = electrons * gaussian_dos(levels, weights[None], grid, sigma)
    zero: Literal["vbm", "fermi"] = "vbm" if gap > 0 else "fermi"
    return DosTarget(curve, "total", n_atoms, limit, grid, sigma=sigma, zero=zero, gap=gap, meaning="partition")


def _insulator(centre: float, width: float, gap: float) -> tuple[np.ndarray, np.ndarray, float]:
    mean = 1 + centre / width  # of a distribution on 0 to 1
    if not _LEAST / _SUM <= mean <= 1 - _LEAST / _SUM:
        lowest, highest = (width * (share - 1) for share in (_LEAST / _SUM, 1 - _LEAST / _SUM))
        raise ContentError(
            f"a filled band of width {width:g} eV reaches from {-width:g} to 0 eV, the highest occupied level, and cannot have "
            f"its centre of gravity at {centre:g} eV; give one from {lowest:.2f} to {highest:.2f}"
        )
    band = beta(_SUM * mean, _SUM * (1 - mean))
    places = (np.arange(_LEVELS) + 0.5) / _LEVELS
    filled = -width + width * band.ppf(places)  # levels of equal weight
    empty = gap - filled[::-1]
    weights = np.full(2 * _LEVELS, 1 / _LEVELS)
    return np.concatenate([filled, empty]), weights, gap + width / 2


def _metal(centre: float, width: float) -> tuple[np.ndarray, np.ndarray, float]:
    bottom, top = centre - width / 2, centre + width / 2
    if not bottom < 0 < top:
        raise ContentError(
            f"without a gap the highest occupied level, 0 eV, lies within the band, but this one reaches from {bottom:g} to "
            f"{top:g} eV; move its centre, or give a gap"
        )
    levels = bottom + width * beta(_SUM / 2, _SUM / 2).ppf((np.arange(_LEVELS) + 0.5) / _LEVELS)
    return levels, np.full(_LEVELS, 1 / np.count_nonzero(levels <= 0)), top
