"""Edges of the bands in a density of states."""

from __future__ import annotations

import math

import numpy as np

_EMPTY = 2e-4  # of the largest value; below, a curve counts as zero
_LEAST_GAP = 0.05  # eV
_TAIL = 0.05  # of the largest value; below, a broadened edge is the tail of its outermost levels
_RESIDUAL = 0.05  # of the logarithm, within which a tail is a Gaussian


def band_edges(
    energies: np.ndarray, total: np.ndarray, fermi: float, sigma: float | None = None
) -> tuple[float, float | None] | None:
    """Return the valence band maximum and the conduction band minimum in eV if there is a gap at the Fermi energy, else None.

    A Gaussian broadening moves the point at which a curve vanishes into the gap. Far out it is the tail of the outermost level
    alone, a parabola in the logarithm, whose vertex is that level.

    :param energies: eV, equidistant, shape (n,).
    :param total: states/eV, shape (n,).
    :param sigma: standard deviation of the broadening in eV; None if it is not known.
    :return: the second is None if there are no states above.
    """
    filled = total > _EMPTY * float(total.max())
    below = np.flatnonzero(filled & (energies <= fermi + 1e-6))
    if not below.size:
        return None
    last = int(below[-1])
    above = np.flatnonzero(filled[last + 1 :])
    first = last + 1 + int(above[0]) if above.size else None
    if first is None:
        if last + 1 >= len(energies):
            return None
        return _outermost(energies, total, last, sigma), None
    if first - last < 2 or energies[first] <= fermi - 1e-6 or energies[first] - energies[last] < _LEAST_GAP:
        return None
    top = _outermost(energies, total, last, sigma)
    bottom = -_outermost(-energies[::-1], total[::-1], len(energies) - 1 - first, sigma)
    return top, bottom


def _outermost(energies: np.ndarray, total: np.ndarray, last: int, sigma: float | None) -> float:
    """Return the highest level of a band whose curve vanishes after the point ``last``."""
    edge = float(energies[last])
    differences = np.abs(np.diff(total))
    written = float(differences[differences > 0].min())  # the last digit of the file, or less
    limit = _TAIL * float(total.max())
    start = last
    while start > 0 and total[start - 1] >= total[start] and total[start - 1] < limit:
        start -= 1
    stop = last + 1
    while stop < len(total) and 0 < total[stop] < total[stop - 1]:
        stop += 1
    tail = np.arange(start, stop)
    tail = tail[total[tail] > 20 * written]
    spacing = float(energies[1] - energies[0])
    if len(tail) < 4:
        return edge
    x, y = energies[tail] - edge, np.log(total[tail])
    if sigma is None:
        curvature, slope, _ = np.polyfit(x, y, 2)
        if curvature >= 0:
            return edge
        residual = float(np.abs(y - np.polyval(np.polyfit(x, y, 2), x)).max())
        sigma = math.sqrt(-0.5 / curvature)
        if len(tail) < 5 or residual > _RESIDUAL or not spacing < sigma < 0.6:
            return edge
        level = slope * sigma**2
    elif sigma > spacing / 2:
        level = float(np.polyfit(x, y + x**2 / (2 * sigma**2), 1)[0]) * sigma**2
    else:
        return edge
    return edge + level if -6 * sigma < level < spacing else edge
