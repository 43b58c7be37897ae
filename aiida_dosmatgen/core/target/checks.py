"""What is checked of a target before it is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..curves import Curves
from ..dos import EnergyGrid
from ..errors import ContentError

_MOST_SIGMA = 10.0  # eV, wider than any band


def check_options(
    n_atoms: Any = None,
    low: Any = None,
    high: Any = None,
    complete_below: Any = None,
    sigma: Any = None,
    gap: Any = None,
    meaning: Any = "partition",
    zero: Any = None,
) -> None:
    """Check what is said of curves besides their values; see :meth:`DosTarget.from_curves`.

    :raises ContentError: naming what is not what it should be.
    """
    if n_atoms is not None and (isinstance(n_atoms, bool) or not isinstance(n_atoms, int | np.integer) or n_atoms < 1):
        raise ContentError(f"n_atoms must be a whole number of atoms, not {n_atoms!r}")
    numbers = {"complete_below": complete_below, "high": high, "low": low, "sigma": sigma, "gap": gap}
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, float | int)):
            raise ContentError(f"{name} must be a number in eV, not {number!r}")
    for name, word, words in (("zero", zero, ("vbm", "fermi")), ("meaning", meaning, ("partition", "projections"))):
        if word not in words and not (name == "zero" and word is None):
            raise ContentError(f"{name} must be one of {', '.join(words)}, not {word!r}")
    if sigma is not None and not 0 <= sigma <= _MOST_SIGMA:
        raise ContentError(f"sigma must be a broadening from 0 to {_MOST_SIGMA:g} eV, not {sigma:g}")


def check_values(values: np.ndarray, grid: EnergyGrid) -> np.ndarray:
    if values.ndim != 2 or values.shape[1] != grid.n or not len(values):
        raise ContentError(f"the curves have shape {values.shape}, expected (number of sites, {grid.n})")
    if not np.isfinite(values).all():
        raise ContentError("the DOS has NaN or infinite values")
    return values


def check_window(low: float, high: float, grid: EnergyGrid) -> None:
    if high <= grid.emin:
        raise ContentError(f"the curve is complete below {high:g} eV only, left of the grid")
    if low >= min(high, grid.emax):
        raise ContentError(
            f"the curve is known from {low:g} to {high:g} eV only: it is zero everywhere that a model looks, from "
            f"{grid.emin:g} to {grid.emax:g} eV; are the energies in eV, relative to the highest occupied level?"
        )


def placed_curves(dos: Curves, kind: str, n_atoms: int | None, given: Sequence[int]) -> tuple[Curves, tuple[int, ...] | None]:
    """Check the chosen sites, and put their curves in order."""
    if kind == "total":
        raise ContentError("a total DOS belongs to no site; give the curve as one for sites if it is meant for them")
    sites = indices_of(given)
    if len(sites) != len(dos):
        raise ContentError(f"{len(dos)} site curves but {len(sites)} sites {list(sites)}")
    twice = sorted({site for site in sites if sites.count(site) > 1})
    if twice:
        raise ContentError(f"site {twice[0]} is given {sites.count(twice[0])} times; each site has one curve")
    if n_atoms is not None and max(sites) >= n_atoms:
        raise ContentError(f"there is no site {max(sites)}: the crystal has {n_atoms} atoms, counted from 0")
    order = np.argsort(sites)
    placed = None if n_atoms == len(sites) else tuple(sorted(sites))
    return dataclasses.replace(dos, values=dos.values[order]), placed


def indices_of(given: Any) -> tuple[int, ...]:
    """Return indices of atoms as whole numbers.

    :raises ContentError: if they are none.
    """
    listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) and len(given) > 0
    if listed and all(isinstance(i, int | np.integer) and not isinstance(i, bool) and i >= 0 for i in given):
        return tuple(int(i) for i in given)
    raise ContentError(f"the sites {given!r} are not a list of indices of atoms, which count from 0")
