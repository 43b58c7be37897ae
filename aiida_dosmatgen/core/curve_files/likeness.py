"""What two files leave open: a comparison that hangs on it is refused instead of guessed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..curves import Curves, Distance, compare
from ..errors import ContentError
from .found import ReadCurves
from .made import settled

_STEP = 0.05  # eV
_FARTHEST = 25.0  # eV, that an energy zero may be off
_EQUAL = 0.01  # states/eV/atom; curves nearer than this are the same
_CLOSER = 0.25  # of the distance; a change that brings curves so near is taken for the explanation
_SHARP = 0.3  # of the other's broadening; one below changes the sum of squares by little
_BROADENINGS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # eV


def compare_files(
    a: ReadCurves,
    b: ReadCurves,
    n_atoms: tuple[int | None, int | None] = (None, None),
    window: tuple[float, float] | None = None,
) -> tuple[Distance, list[str]]:
    """Compare what two files hold, and say what had to be assumed.

    A file may not tell its zero of energy, its broadening or its scale. Curves are compared as they are then; but where another
    zero, broadening or scale would bring them together, the distance would say nothing of the crystals.

    :param n_atoms: atoms of the cell of each, for totals; by default what the files tell.
    :param window: limits (low, high) in eV.
    :raises ContentError: if something is missing that the distance hangs on, naming the option that gives it.
    """
    a, b = settled(a, n_atoms[0]), settled(b, n_atoms[1])
    counts = [_count(read, n, letter) for read, n, letter in zip((a, b), n_atoms, "ab", strict=True)]
    chosen = b.sites is not None or a.sites is not None
    if a.sites is not None and b.sites is None:
        distance, notes = compare_files(b, a, (n_atoms[1], n_atoms[0]), window)
        return distance, notes
    first, second, notes = _of_one_broadening(a, b, counts, window, chosen)
    distance = compare(first, second, counts, window, chosen)
    _refuse_what_another_reading_explains(a, b, first, second, counts, distance, window)
    for read, letter in ((a, "A"), (b, "B")):
        if "zero" in read.unknown:
            notes.append(f"{letter} does not say its zero of energy, taken as it is")
    return distance, notes


def most_sigma(curves: Curves) -> float:
    """Return the largest broadening in eV that a curve can have.

    A sum of Gaussians of one width σ has (ln D)'' ≥ −1/σ² everywhere, with equality in the tail of its outermost level.
    """
    total = curves.total
    stride = max(1, round(2 * _STEP / curves.spacing))
    total = np.maximum(total[::stride], 1e-9 * total.max())
    middle = total[1:-1]
    bend = -(np.log(total[2:]) - 2 * np.log(middle) + np.log(total[:-2])) / (stride * curves.spacing) ** 2
    bend = bend[middle > 0.02 * total.max()]
    steepest = float(bend.max()) if bend.size else 0.0
    return math.inf if steepest <= 0 else 1 / math.sqrt(steepest)


# --- parts ----------------------------------------------------------------------------------------------------------------


def _count(read: ReadCurves, n_atoms: int | None, letter: str) -> int | None:
    if read.per_atom:
        return 1
    if n_atoms is not None:
        return n_atoms
    if read.curves.resolved:
        return None
    if read.n_atoms is None:
        raise ContentError(
            f"{letter.upper()} is a total and does not say of how many atoms; "
            "give --n-atoms N, or N,M for the two (1 if it is per atom)"
        )
    return read.n_atoms


def _of_one_broadening(
    a: ReadCurves, b: ReadCurves, counts: list[int | None], window: tuple[float, float] | None, chosen: bool
) -> tuple[Curves, Curves, list[str]]:
    """Return the curves with broadenings that are known, or known not to matter."""
    unknown = ["sigma" in a.unknown, "sigma" in b.unknown]
    if all(unknown):
        return a.curves, b.curves, ["neither says its broadening, taken as equal"]
    if not any(unknown):
        return a.curves, b.curves, []
    read, other, letter = (a, b, "A") if unknown[0] else (b, a, "B")
    sigma = other.curves.sigma or 0.0
    equal = dataclasses.replace(read.curves, sigma=sigma)

    def pair(curves: Curves) -> tuple[Curves, Curves]:
        return (curves, b.curves) if unknown[0] else (a.curves, curves)

    if sigma < _STEP:
        return *pair(equal), [f"{letter} does not say its broadening, taken as that of the other"]
    if compare(*pair(equal), counts, window, chosen).mae_total < _EQUAL:
        return *pair(equal), [f"{letter} does not say its broadening, taken as that of the other, {sigma:g} eV"]
    most = most_sigma(read.curves)
    if most < _SHARP * sigma:
        return *pair(read.curves), [f"{letter} does not say its broadening, which is small ({most:.2f} eV at most)"]
    raise ContentError(
        f"{letter} does not say its broadening, which may be up to {min(most, 9.99):.2f} eV; "
        f"the other has {sigma:g} eV; give --sigma-{letter.lower()} (0 if there is none)"
    )


def _refuse_what_another_reading_explains(
    a: ReadCurves,
    b: ReadCurves,
    first: Curves,
    second: Curves,
    counts: list[int | None],
    distance: Distance,
    window: tuple[float, float] | None,
) -> None:
    unsure = a.unknown | b.unknown
    if any(read.curves.zero == "fermi" and read.curves.gap is None for read in (a, b)):
        unsure = unsure | {"zero"}
    if distance.mae_total < _EQUAL or not unsure or a.sites is not None or b.sites is not None:
        return
    one, other = (_on_steps(c, n, distance.sigma or 0.0) for c, n in zip((first, second), counts, strict=True))
    plain = _distance(one, other)
    shifts = _shifts(one, other) if "zero" in unsure else [0.0]
    zero_of = "a" if "zero" in a.unknown or (a.curves.gap is None and "zero" not in b.unknown) else "b"
    ways = sorted(
        (
            (bool(shift) + bool(broadening) + scaled, shift, broadening, scaled)
            for shift in (0.0, *shifts)
            for broadening in (
                (0.0, *_BROADENINGS, *(-s for s in _BROADENINGS)) if {"sigma"} <= a.unknown & b.unknown else (0.0,)
            )
            for scaled in ((False, True) if "scale" in unsure else (False,))
        ),
        key=lambda way: way[0],
    )
    for changes, shift, broadening, scaled in ways:
        if not changes:
            continue
        value, factor = _tried(one, other, shift, broadening, scaled)
        if value > _CLOSER * plain or value > max(_CLOSER * float(np.mean(other[1])), _EQUAL):
            continue
        what = []
        if shift:
            what.append(f"moved by {-shift:.2f} eV (zero of energy not sure; give --zero-{zero_of} ENERGY)")
        if broadening:
            which = "a" if broadening > 0 else "b"
            what.append(
                f"broadened by {abs(broadening):.2f} eV (neither says its broadening; give --sigma-a and --sigma-b; "
                f"{which.upper()} is the sharper one)"
            )
        if scaled and factor:
            what.append(
                f"multiplied by {factor:.3g} (its unit, its number of atoms, or what its projections lost is not known; "
                "give a file with a total, or --n-atoms N,M)"
            )
        raise ContentError(
            f"the curves fit each other if A is {' and '.join(what)}; this distance would not be that of the crystals"
        )


_Steps = tuple[np.ndarray, np.ndarray]


def _on_steps(curves: Curves, count: int | None, sigma: float) -> _Steps:
    """Return energies on multiples of a step, and the total per atom."""
    curves_of_sites, curves = curves, curves.summed(sites=True)
    if (curves.sigma or 0.0) < sigma - 1e-3:
        curves = curves.broadened(sigma)
    points = np.arange(math.ceil(curves.low / _STEP), math.floor(curves.high / _STEP) + 1) * _STEP
    total = np.interp(points, curves.energies, curves.total)
    return points, total / (count or len(curves_of_sites))


def _overlap(one: _Steps, other: _Steps, shift: float) -> tuple[np.ndarray, np.ndarray] | None:
    low, high = max(one[0][0] + shift, other[0][0]), min(one[0][-1] + shift, other[0][-1])
    shorter = min(np.ptp(one[0]), np.ptp(other[0]))
    if high - low < max(2.0, 0.5 * shorter):
        return None
    points = np.arange(math.ceil(low / _STEP), math.floor(high / _STEP) + 1) * _STEP
    return np.interp(points, one[0] + shift, one[1]), np.interp(points, *other)


def _distance(one: _Steps, other: _Steps, shift: float = 0.0) -> float:
    pair = _overlap(one, other, shift)
    return math.inf if pair is None else float(np.abs(pair[0] - pair[1]).mean())


def _shifts(one: _Steps, other: _Steps) -> list[float]:
    """Return the shifts of the first at which the two have the most in common, at any scale."""
    best = []
    for number in range(-round(_FARTHEST / _STEP), round(_FARTHEST / _STEP) + 1):
        shift = number * _STEP
        pair = _overlap(one, other, shift)
        if pair is None or abs(shift) < 2 * _STEP:
            continue
        norms = float(np.linalg.norm(pair[0]) * np.linalg.norm(pair[1]))
        best.append((-float(pair[0] @ pair[1]) / norms if norms > 0 else 0.0, shift))
    return [shift for _, shift in sorted(best)[:3]]


def _tried(one: _Steps, other: _Steps, shift: float, broadening: float, scaled: bool) -> tuple[float, float]:
    if broadening > 0:
        one = one[0], gaussian_filter1d(one[1], broadening / _STEP, mode="nearest")
    if broadening < 0:
        other = other[0], gaussian_filter1d(other[1], -broadening / _STEP, mode="nearest")
    pair = _overlap(one, other, shift)
    if pair is None:
        return math.inf, 1.0
    square = float(pair[0] @ pair[0])
    factor = float(pair[0] @ pair[1]) / square if scaled and square > 0 else 1.0
    if scaled and abs(factor - 1) < 0.02:
        return math.inf, 1.0
    return float(np.abs(factor * pair[0] - pair[1]).mean()), factor
