"""Densities of states of one crystal, with all that is needed to compare them with others.

Everything that is called a density of states (DOS) is one :class:`Curves`: values on a grid of energies, resolved by site, spin
and channel, together with the broadening, the energies between which they are known, and what energy zero means.
:func:`compare` is the one way to put two of them side by side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment

from .errors import ContentError

Zero = Literal["vbm", "fermi"]
"""What energy zero is: the valence band maximum of a crystal with a gap, the Fermi energy of one without."""

Meaning = Literal["partition", "projections"]
"""What the sites hold: their parts of the total, or what projectors saw, which adds up to less (models before 0.3)."""

NEAR_ZERO = (-3.0, 3.0)
"""Energies in eV between which ``mae_near_zero`` looks."""

LEAST_HELD = 0.08
"""Share of a cell's electrons that is in any curve of it: alkali metals keep one of nine near the Fermi energy."""

_SIGMA_TOLERANCE = 1e-3  # eV
_SAME_POINT = 1e-6  # of the distance of two energies


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """The density of states of a crystal, in states/eV for the whole cell.

    The sites are a partition of the total: at each energy they add up to it, whatever the projectors of the calculation were;
    unless ``meaning`` says that they are sums of projections, as in the data that earlier models learnt from.

    :param values: states/eV, shape (n_sites, n_spins, n_channels, n). One spin holds the sum of both; one site the whole cell,
        if ``resolved`` is false.
    :param energies: eV relative to ``zero``, equidistant and increasing, shape (n,).
    :param sigma: standard deviation of the Gaussian broadening in eV; 0 for curves that were not broadened; None where nobody
        says, and then it is taken for that of whatever they are compared with.
    :param low: the energy in eV from which the curve is known.
    :param high: the energy in eV up to which the curve is known; it falls with the bands that were computed.
    :param zero: what energy zero is, see :data:`Zero`; None if the source does not say.
    :param gap: the band gap in eV, 0 for a metal; None if it is not known.
    :param n_electrons: electrons of the cell below energy zero; None if they are not known.
    :param channels: names of the third axis, e.g. ``("s", "p", "d", "f")``; ``("all",)`` for their sum.
    :param resolved: whether the first axis are the sites of the cell, or the cell as a whole.
    :param projected: share of the occupied states that the projectors of the source saw, before they were scaled to the total.
    :param meaning: what the sites hold, see :data:`Meaning`.
    :raises ContentError: for shapes that do not fit, energies that are not equidistant, values that are not finite.
    """

    values: np.ndarray
    energies: np.ndarray
    sigma: float | None
    low: float
    high: float
    zero: Zero | None = None
    gap: float | None = None
    n_electrons: float | None = None
    channels: tuple[str, ...] = ("all",)
    resolved: bool = True
    projected: float | None = None
    meaning: Meaning = "partition"

    def __post_init__(self) -> None:
        values, energies = np.array(self.values, dtype=np.float64), np.array(self.energies, dtype=np.float64)
        if values.ndim != 4 or energies.ndim != 1 or values.shape[3:] != energies.shape or not values.size:
            raise ContentError(f"values {values.shape} are not (sites, spins, channels, {energies.size} energies)")
        if len(self.channels) != values.shape[2] or values.shape[1] not in (1, 2):
            raise ContentError(f"values {values.shape} do not have the channels {self.channels} and one or two spins")
        if not (np.isfinite(values).all() and np.isfinite(energies).all()):
            raise ContentError("the density of states has NaN or infinite values")
        steps = np.diff(energies)
        if energies.size < 2 or steps.min() <= 0 or np.ptp(steps) > 1e-6 * steps.mean() + 1e-9:
            raise ContentError("the energies are not equidistant and increasing; put the curve on a grid first")
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise ContentError(f"the broadening is {self.sigma} eV; give a number that is not negative")
        if not self.low < self.high:
            raise ContentError(f"the curve is known from {self.low:g} to {self.high:g} eV, so nowhere")
        for array in (values, energies):
            array.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "low", max(self.low, float(energies[0])))
        object.__setattr__(self, "high", min(self.high, float(energies[-1])))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def spacing(self) -> float:
        """Distance of two energies in eV."""
        return float((self.energies[-1] - self.energies[0]) / (len(self.energies) - 1))

    @property
    def sites(self) -> np.ndarray:
        """States/eV of each site, spins and channels summed, shape (n_sites, n)."""
        return self.values.sum((1, 2))

    @property
    def total(self) -> np.ndarray:
        """States/eV of the cell, shape (n,)."""
        return self.values.sum((0, 1, 2))

    @property
    def electrons(self) -> float:
        """States below energy zero, by the trapezoidal rule over what is known; the broadening smears the edge."""
        occupied = self.energies <= 0
        return float(np.trapezoid(self.total[occupied], self.energies[occupied])) if occupied.sum() > 1 else 0.0

    # --- other ways to say the same -----------------------------------------------------------------------------------

    def summed(self, spins: bool = True, channels: bool = True, sites: bool = False) -> Curves:
        """Return the curves with axes summed."""
        values, changes = self.values, dict[str, Any]()
        if spins:
            values = values.sum(1, keepdims=True)
        if channels:
            values, changes["channels"] = values.sum(2, keepdims=True), ("all",)
        if sites:
            values, changes["resolved"] = values.sum(0, keepdims=True), False
        return dataclasses.replace(self, values=values, **changes)

    def shifted(self, energy: float, zero: Zero | None = None) -> Curves:
        """Return the curves with energy zero at what is ``energy`` now, in eV."""
        return dataclasses.replace(
            self, energies=self.energies - energy, low=self.low - energy, high=self.high - energy, zero=zero or self.zero
        )

    def cut(self, low: float = -math.inf, high: float = math.inf) -> Curves:
        """Return the curves, known between ``low`` and ``high`` eV at most."""
        return dataclasses.replace(self, low=max(self.low, low), high=min(self.high, high))

    def scaled_to(self, total: np.ndarray, floor: float = 1e-3) -> Curves:
        """Return the curves with sites that add up to a total at each energy, each with its present share.

        Where the sites hold less than ``floor`` of the largest total, each gets an equal share.

        :param total: states/eV of the cell, shape (n,).
        """
        total = np.asarray(total, float)
        mine = self.total
        seen = mine > floor * max(float(total.max()), 1e-300)
        share = np.where(seen, self.values / np.where(seen, mine, 1.0), 1.0 / np.prod(self.values.shape[:3]))
        occupied = self.energies <= 0
        there = float(total[occupied].sum())
        return dataclasses.replace(
            self,
            values=share * total,
            projected=float(mine[occupied].sum()) / there if there > 0 else None,
            meaning="partition",
        )

    def broadened(self, sigma: float) -> Curves:
        """Return the curves with a broadening of ``sigma`` eV.

        Near the ends of what is known, states from beyond are missing: the known interval shrinks by two standard deviations
        of what was added.

        :raises ContentError: if they are broader already, or their grid is too coarse to tell.
        """
        if self.sigma is None:
            return dataclasses.replace(self, sigma=sigma)
        if abs(sigma - self.sigma) <= _SIGMA_TOLERANCE:
            return self
        if sigma < self.sigma:
            raise ContentError(f"the curve is broadened by {self.sigma:g} eV already; it cannot be sharpened to {sigma:g} eV")
        added = math.sqrt(sigma**2 - self.sigma**2)
        if self.spacing > sigma:
            raise ContentError(f"energies {self.spacing:g} eV apart are too coarse for a broadening of {sigma:g} eV")
        values = gaussian_filter1d(self.values, added / self.spacing, axis=-1, mode="nearest", truncate=6.0)
        return dataclasses.replace(self, values=values, sigma=sigma, low=self.low + 2 * added, high=self.high - 2 * added)

    def on(self, energies: np.ndarray) -> Curves:
        """Return the curves on other equidistant energies, by cubic splines; outside of their own they are zero, and not known.

        :param energies: eV, from the same zero, shape (n,).
        :raises ContentError: if none of the energies is within those of the curves.
        """
        energies = np.asarray(energies, float)
        places = (energies - self.energies[0]) / self.spacing
        whole = np.rint(places).astype(int)
        if np.abs(places - whole).max() < _SAME_POINT and whole[0] >= 0 and whole[-1] < len(self.energies):
            return dataclasses.replace(self, values=self.values[..., whole], energies=energies)  # nothing to interpolate
        inside = (energies >= self.energies[0] - 1e-9) & (energies <= self.energies[-1] + 1e-9)
        if not inside.any():
            raise ContentError(
                f"the curve goes from {self.energies[0]:g} to {self.energies[-1]:g} eV, and has nothing between "
                f"{energies[0]:g} and {energies[-1]:g} eV"
            )
        values = np.zeros((*self.values.shape[:3], energies.size))
        values[..., inside] = np.clip(CubicSpline(self.energies, self.values, axis=-1)(energies[inside]), 0, None)
        return dataclasses.replace(self, values=values, energies=energies)


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far two crystals are apart by their densities of states, in states/eV/atom and eV.

    :param mae: mean absolute difference over the window; of sites under the best assignment where both have equally many, else
        of the totals per atom.
    :param mae_near_zero: the same between the energies :data:`NEAR_ZERO`, None if the window has none of them.
    :param mae_total: mean absolute difference of the totals per atom.
    :param wasserstein: first Wasserstein distance of the totals in eV, each normalised over the window.
    :param r2: coefficient of determination of the totals, 1 for equal ones.
    :param low: lower end of the window in eV.
    :param high: upper end of the window in eV.
    :param sigma: the broadening at which they were compared in eV, None if neither says its own.
    """

    mae: float
    mae_near_zero: float | None
    mae_total: float
    wasserstein: float
    r2: float
    low: float
    high: float
    sigma: float | None


def compare(
    curves: Curves,
    reference: Curves,
    n_atoms: int | Sequence[int | None] | None = None,
    window: tuple[float, float] | None = None,
    chosen: bool = False,
) -> Distance:
    """Compare two densities of states over the energies that both are known at.

    Both are broadened to the larger of their broadenings, put on one grid and cut to the common window.

    :param curves: of one crystal.
    :param reference: what it is compared with.
    :param n_atoms: atoms of the cell, of both or of each; by default the number of sites.
    :param window: further limits (low, high) in eV.
    :param chosen: whether the reference is for chosen sites of a crystal with more. They are compared with the sites that fit
        them best, and the totals are those of these sites.
    :raises ContentError: if there is no common window, or a number of atoms is missing.
    """
    numbers = [n_atoms, n_atoms] if n_atoms is None or isinstance(n_atoms, int) else list(n_atoms)
    counts = [_atoms(c, n) for c, n in zip((curves, reference), numbers, strict=True)]
    sigma = max((c.sigma for c in (curves, reference) if c.sigma is not None), default=None)
    a, b = (c.summed() if sigma is None else c.summed().broadened(sigma) for c in (curves, reference))
    low, high = max(a.low, b.low), min(a.high, b.high)
    if window is not None:
        low, high = max(low, window[0]), min(high, window[1])
    if high - low < 4 * max(sigma or 0.0, 0.05):
        raise ContentError(
            f"the curves have no window in common that is worth a comparison: known from {a.low:g} to {a.high:g} and from "
            f"{b.low:g} to {b.high:g} eV" + (f", asked for {window[0]:g} to {window[1]:g} eV" if window else "")
        )
    points = _common_points(a, b, low, high)
    a, b = a.on(points), b.on(points)
    total_a, total_b = a.total / counts[0], b.total / counts[1]
    if a.resolved and b.resolved and (len(a) == len(b) or (chosen and len(a) > len(b))):
        rows, columns = best_sites(a, b)
        difference = np.abs(a.sites[rows] - b.sites[columns]).mean(0)
        if chosen:
            total_a, total_b = a.sites[rows].mean(0), b.sites.mean(0)
    else:
        difference = np.abs(total_a - total_b)
    near = (points >= NEAR_ZERO[0]) & (points <= NEAR_ZERO[1])
    spread = float(((total_b - total_b.mean()) ** 2).sum())
    return Distance(
        mae=float(difference.mean()),
        mae_near_zero=float(difference[near].mean()) if near.any() else None,
        mae_total=float(np.abs(total_a - total_b).mean()),
        wasserstein=_wasserstein(total_a, total_b, points),
        r2=1.0 - float(((total_a - total_b) ** 2).sum()) / spread if spread > 0 else math.nan,
        low=float(low),
        high=float(high),
        sigma=sigma,
    )


def _common_points(a: Curves, b: Curves, low: float, high: float) -> np.ndarray:
    """Return equidistant energies from ``low`` to ``high``: those of both curves if they share them, else as fine as theirs."""
    if len(a.energies) == len(b.energies) and np.abs(a.energies - b.energies).max() < _SAME_POINT * a.spacing:
        inside = (a.energies >= low - _SAME_POINT) & (a.energies <= high + _SAME_POINT)
        return a.energies[inside]
    return np.linspace(low, high, max(2, round((high - low) / min(a.spacing, b.spacing)) + 1))


def best_sites(curves: Curves, reference: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of both whose curves fit best, least summed |difference|, as many as the shorter has.

    :param curves: on the energies of ``reference``.
    """
    cost = np.abs(curves.sites[:, None] - reference.sites[None]).mean(-1)
    return linear_sum_assignment(cost)


def _atoms(curves: Curves, n_atoms: int | None) -> int:
    if n_atoms is None:
        if not curves.resolved:
            raise ContentError("a total density of states needs the number of atoms of its cell")
        return len(curves)
    if n_atoms < 1:
        raise ContentError(f"a cell cannot have {n_atoms} atoms")
    return n_atoms


def _wasserstein(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> float:
    """W₁ = ∫|F_a − F_b| dE of the normalised curves; the width of the window if one of them is empty."""
    sums = a.sum(), b.sum()
    if min(sums) <= 0:
        return 0.0 if max(sums) <= 0 else float(points[-1] - points[0])
    return float(np.abs(np.cumsum(a) / sums[0] - np.cumsum(b) / sums[1])[:-1].sum() * (points[1] - points[0]))
