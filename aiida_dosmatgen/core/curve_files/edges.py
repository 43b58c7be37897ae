"""Edges of the bands in a density of states."""

from __future__ import annotations

import math

import numpy as np

_EMPTY = 2e-4  # of the largest value; below, a curve counts as zero
_LEAST_GAP = 0.05  # eV
_TAILS = (0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3)  # of the largest value; below, an edge is the tail of its outermost levels
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
    edge, largest = float(energies[last]), float(total.max())
    spacing = float(energies[1] - energies[0])
    start, stop = last, last + 1
    while start > 0 and total[start - 1] >= total[start] and total[start - 1] < _TAILS[0] * largest:
        start -= 1
    while stop < len(total) and 0 < total[stop] < total[stop - 1]:
        stop += 1
    differences = np.abs(np.diff(total))
    written = max(float(differences[differences > 0].min()), 1e-12 * largest)  # the last digit of the file, or less
    lowest = max(
        20 * written, 30 * float(total[stop - 1]) if stop < len(total) and total[stop] > 0 else 0.0
    )  # from the other band
    tail = np.arange(start, stop)
    tail = tail[total[tail] > lowest]
    if sigma is not None and sigma <= spacing / 2:
        return edge
    for limit in _TAILS:
        far = tail[total[tail] < limit * largest]
        if len(far) < (5 if sigma is None else 4):
            break
        x, y = energies[far] - edge, np.log(total[far])
        if sigma is not None:
            level, width = float(np.polyfit(x, y + x**2 / (2 * sigma**2), 1)[0]) * sigma**2, sigma
        else:
            curvature, slope, _ = parabola = np.polyfit(x, y, 2)
            if curvature >= 0 or float(np.abs(y - np.polyval(parabola, x)).max()) > _RESIDUAL:
                continue
            width = math.sqrt(-0.5 / curvature)
            level = float(slope) * width**2
        if spacing / 2 < width < 0.6 and -6 * width < level < spacing:
            return edge + level
    return edge
