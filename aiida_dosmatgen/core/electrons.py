"""How many electrons a curve holds, and how many each element brings: what a composition must add up to.

D_total holds every state with weight one, so its integral up to energy zero is the number of electrons of the cell that lie
above the lower end of the curve. An element brings whole shells. Which of them lie above that end is told by the levels of the
free atom (local density approximation, NIST, by pymatgen), moved by what separates the vacuum from the zero of crystals. Of the
labels over the periodic table, 70 % hold a number of electrons within 0.06 of what their elements bring, 95 % within 0.3.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Mapping

import numpy as np

from .curves import Curves
from .elements import ATOMIC_NUMBERS
from .units import HARTREE

__all__ = ["electrons_in", "log_likelihood", "shells"]

_SHIFT = 5.0  # eV, from the levels of a free atom to those of a crystal below its highest occupied one
_SPREAD = 2.5  # eV, standard deviation of that
_SMALLEST = 1e-3  # probability below which a number of electrons is not considered
_DEEPEST = -60.0  # eV; no curve begins below
_LAST_LANTHANIDE, _LAST_ACTINIDE = 71, 103

_WIDTH, _WIDTH_PER_ATOM = 0.06, 0.03  # electrons
_CUT = 0.135  # share of crystals with a band that the lower end cuts in two, so that any number between may be there
_OTHER = 0.015  # share of anything else
_RANGE = 30.0  # electrons


@functools.cache
def shells(symbol: str) -> tuple[tuple[int, float], ...]:
    """Return the shells of an element that may lie within a curve, the deepest first: electrons, and energy in eV from zero.

    The 4f of elements after Lu, and the 5f of those after Lr, belong to the core: most pseudopotentials hold them there.
    """
    from pymatgen.core import Element

    number = ATOMIC_NUMBERS[symbol]
    with warnings.catch_warnings():  # of what pymatgen does not know
        warnings.simplefilter("ignore")
        element = Element(symbol)
        try:
            levels, structure = element.atomic_orbitals or {}, element.full_electronic_structure
        except KeyError:  # elements of which some atoms were made
            return ()
    found = []
    for n, shell, count in structure:
        if shell == "f" and (number > _LAST_ACTINIDE or (n == 4 and number > _LAST_LANTHANIDE)):
            continue
        level = levels.get(f"{n}{shell}")
        energy = _SHIFT + HARTREE * (-0.2 if level is None else level)  # an unknown one is among the outermost
        if energy > _DEEPEST:
            found.append((int(count), energy))
    return tuple(sorted(found, key=lambda one: one[1]))


@functools.lru_cache(4096)
def _numbers(symbol: str, low: float) -> tuple[tuple[int, float], ...]:
    """Return the numbers of electrons of an atom above an energy, each with its probability."""
    left, probability, found = sum(count for count, _ in shells(symbol)), 1.0, []
    for count, energy in shells(symbol):
        inside = 0.5 * math.erfc((low - energy) / (math.sqrt(2) * _SPREAD))
        found.append((left, probability * inside))
        left, probability = left - count, probability * (1 - inside)
        if probability < _SMALLEST:
            break
    return tuple((n, p) for n, p in found if p > _SMALLEST) or ((left, 1.0),)


def electrons_in(curves: Curves) -> float | None:
    """Return the electrons of all the sites of a curve between its lower end and zero; None if it cannot tell them.

    Sums of projections miss some, and a curve that begins near zero holds few. In a gap the integral ends at its middle;
    where there is none, what the broadening moves across zero is put back to first order, σ²/2·D'(0).
    """
    energies, low = curves.energies, curves.low
    if curves.meaning != "partition" or low > -3 or curves.high < 0:
        return None
    total = np.where(energies >= low - 1e-9, curves.total, 0.0)
    gap, sigma = curves.gap or 0.0, curves.sigma or 0.0
    end = min(gap / 2, curves.high)
    below = float(np.interp(end, energies, np.concatenate([[0.0], np.cumsum((total[1:] + total[:-1]) / 2)]) * curves.spacing))
    if end > sigma / 3:
        return below
    step = max(curves.spacing, sigma / 2)
    slope = float(np.diff(np.interp([-step, step], energies, total))[0]) / (2 * step)
    return below - sigma**2 / 2 * slope


def log_likelihood(electrons: float, composition: Mapping[str, int], low: float) -> float:
    """Return ln p(electrons | composition) of a cell, up to a constant.

    :param electrons: of the cell, above ``low``.
    :param composition: atoms of each element.
    :param low: eV, the lower end of the curve.
    """
    n_atoms, rounded = sum(composition.values()), round(low, 1)
    width = _WIDTH + _WIDTH_PER_ATOM * n_atoms
    options = [[(count * n, p) for n, p in _numbers(symbol, rounded)] for symbol, count in composition.items()]
    density, sums = _OTHER / _RANGE, list[int]()
    for combination in itertools.product(*options):
        there = sum(n for n, _ in combination)
        sums.append(there)
        deviation = (electrons - there) / width
        weight = math.prod(p for _, p in combination) * (1 - _CUT - _OTHER) / (width * math.sqrt(2 * math.pi))
        density += weight * math.exp(-0.5 * min(deviation**2, 1000.0))
    first, last = min(sums) - 1, max(sums) + 1
    if first <= electrons <= last:
        density += _CUT / (last - first)
    return math.log(density)
