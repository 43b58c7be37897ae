"""Edges of the bands in a density of states.

A Gaussian broadening moves the point at which a curve vanishes into the gap, by several σ, and may fill the gap. But the tail
that it makes tells the edge: near it, the density of a band grows as a power p of the energy, so that the broadened curve is

    D(E) = a K((E − E₀)/σ),   K(x) = ∫₀^∞ t^p exp(−(x − t)²/2) dt,

of each band, upside down for the valence band. Both are fitted to ln D around the gap. Of a parabolic band, p is 1/2.
``benchmarks/reading.py`` gives the errors on labelled crystals, from which the constants here come.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

_EMPTY = 2e-4  # of the largest value; below, a curve counts as zero
_LEAST_GAP = 0.05  # eV
_TAIL, _TAIL_OF_UNKNOWN = 0.05, 0.02  # of the largest value, up to which a curve is fitted
_LEAST = 1e-5  # of the largest value, from which on a curve is fitted; and from 20 of its last digit
_LEAST_FILLED = 0.3  # eV; a narrower gap cannot be told from a low density of states
_POWER, _POWER_OF_UNKNOWN = 0.5, 1.0  # a power of 1/2 and a broadening that is fitted, too, are not told apart
_ONE_LEVEL = 0.002  # of the logarithm, within which a tail is that of one level
_SIGMAS = (0.03, 0.6)  # eV, of broadenings that are fitted
_REACH = 25.0  # broadenings; farther inside a band there is no edge


def band_edges(
    energies: np.ndarray, total: np.ndarray, fermi: float, sigma: float | None = None
) -> tuple[float, float | None] | None:
    """Return the valence band maximum and the conduction band minimum in eV if there is a gap at the Fermi energy, else None.

    :param energies: eV, equidistant, shape (n,).
    :param total: states/eV, shape (n,).
    :param sigma: standard deviation of the broadening in eV; None if it is not known. Then a gap is found only where the curve
        vanishes.
    :return: the second is None if there are no states above.
    """
    largest, spacing = float(total.max()), float(energies[1] - energies[0])
    filled = total > _EMPTY * largest
    below = np.flatnonzero(filled & (energies <= fermi + 1e-6))
    if not below.size:
        return None
    last = int(below[-1])
    above = np.flatnonzero(filled[last + 1 :])
    if not above.size and last + 1 >= len(energies):
        return None
    first = last + 1 + int(above[0]) if above.size else len(energies)
    vanishes = first - last >= 2 and (
        not above.size or (energies[first] > fermi - 1e-6 and energies[first] - energies[last] >= _LEAST_GAP)
    )
    if sigma is not None and sigma > spacing / 2:
        edges = _fitted(energies, total, fermi, sigma)
        if edges is not None or not vanishes:
            return edges
    elif not vanishes:
        return None
    elif sigma is None:
        edges = _fitted(energies, total, (energies[last] + energies[min(first, len(energies) - 1)]) / 2, None)
        if edges is not None:
            return edges
    return float(energies[last]), float(energies[first]) if above.size else None


def _fitted(energies: np.ndarray, total: np.ndarray, fermi: float, sigma: float | None) -> tuple[float, float | None] | None:
    """Return both edges of the gap that is nearest to the Fermi energy; None if there are no tails, or no gap."""
    shares = total / total.max()
    lowest = _lowest(shares, int(np.abs(energies - fermi).argmin()))
    power, tail = (_POWER, _TAIL) if sigma is not None else (_POWER_OF_UNKNOWN, _TAIL_OF_UNKNOWN)
    if shares[lowest] > tail:
        return None
    begin, end = lowest, lowest
    while begin > 0 and shares[begin - 1] < tail:
        begin -= 1
    while end < len(shares) - 1 and shares[end + 1] < tail:
        end += 1
    points = np.arange(begin, end + 1)
    points = points[shares[points] > max(_LEAST, 20 * _last_digit(shares))]
    left, right = points[points <= lowest], points[points > lowest]
    least = 3 if sigma is not None else 4
    if begin == 0 or len(left) < least:
        return None
    only_below = end == len(shares) - 1 or len(right) < least
    if only_below and right.size and shares[right].max() > 100 * _LEAST:
        return None  # a band begins that has no tail
    x, y = (energies[left], np.log(shares[left])) if only_below else (energies[points], np.log(shares[points]))
    if sigma is None and not only_below:
        highest, lowest_empty = _level(energies[left], shares[left]), _level(energies[right], shares[right])
        if highest is not None and lowest_empty is not None:
            return highest, lowest_empty
    onset = _onset(power)

    def residuals(p: np.ndarray) -> np.ndarray:
        width = sigma if sigma is not None else math.exp(p[-1])
        curve = p[0] + onset((p[1] - x) / width)
        return (curve if only_below else np.logaddexp(curve, p[2] + onset((x - p[3]) / width))) - y

    start, low, high = [math.log(tail), x[0]], [-12.0, energies[begin] - 1], [3.0, energies[lowest] + 0.1]
    if not only_below:
        start, low, high = (
            [*start, math.log(tail), x[-1]],
            [*low, -12.0, energies[lowest] - 0.1],
            [*high, 3.0, energies[end] + 1],
        )
    if sigma is None:
        start, low, high = [*start, math.log(0.2)], [*low, math.log(_SIGMAS[0])], [*high, math.log(_SIGMAS[1])]
    found = least_squares(residuals, start, bounds=(low, high)).x
    top, bottom = float(found[1]), None if only_below else float(found[3])
    if bottom is not None and not (top - 0.1 <= fermi <= bottom + 0.1 and bottom - top > _LEAST_FILLED):
        return None
    return top, bottom


def _level(energies: np.ndarray, shares: np.ndarray) -> float | None:
    """Return the level whose tail this is, as of a molecule or a coarse mesh; None if it is that of a band."""
    x, y = energies - energies[0], np.log(shares)
    curvature, slope, _ = parabola = np.polyfit(x, y, 2)
    if len(x) < 5 or curvature >= 0 or float(np.abs(y - np.polyval(parabola, x)).max()) > _ONE_LEVEL:
        return None
    return float(energies[0] - slope / (2 * curvature))


def _last_digit(values: np.ndarray) -> float:
    """Return the least difference of values, which the last digit of a file makes."""
    differences = np.abs(np.diff(values))
    return float(differences[differences > 0].min())


def _lowest(shares: np.ndarray, start: int) -> int:
    """Return where the curve has its next minimum on both sides of a point, the lower one."""
    below = above = start
    while below > 0 and shares[below - 1] <= shares[below]:
        below -= 1
    while above < len(shares) - 1 and shares[above + 1] <= shares[above]:
        above += 1
    return below if shares[below] < shares[above] else above


@functools.cache
def _onset(power: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return ln K as a function of x."""
    x = np.linspace(-15, _REACH + 5, 1000)
    root = np.linspace(1e-6, math.sqrt(_REACH + 15), 4000)  # of t, in which the integrand is smooth
    exponents = -((x[:, None] - root**2) ** 2) / 2
    largest = exponents.max(1)
    weights = 2 * root ** (2 * power + 1)
    values = largest + np.log(np.trapezoid(weights * np.exp(exponents - largest[:, None]), root))
    spline = CubicSpline(x, values)
    return lambda x: spline(np.clip(x, -15, _REACH)) - 15 * np.maximum(0, -15 - x)
