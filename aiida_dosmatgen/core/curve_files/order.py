"""Energies in order, values that a density of states can have, and both on a grid."""

from __future__ import annotations

import math

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..errors import ContentError
from .found import Found, Parts, Total

_SAME = 1e-9  # eV; energies nearer than that are one
_LARGEST = 1e30  # states/eV
_FARTHEST = 1e6  # eV from zero; the deepest level of any atom is at 1e5
_MOST_POINTS = 20_001
_SHUFFLED = 0.3  # of the steps between energies; more go down in no file that has an order
_FEW, _FLOOR = 20, 0.02  # energies of a curve that may be judged, and the part of its largest value where an integral begins
_NEGATIVE = 0.05  # of the largest value; Methfessel-Paxton smearing goes below zero by less


def put_in_order(found: Found, name: str) -> None:
    """Make energies increase, each given once.

    :raises ContentError: for energies in no order, or values that are not finite or not as many.
    """
    energies = np.asarray(found.energies, float)
    for array in _arrays(found):
        if array.shape[-1:] != energies.shape:
            raise ContentError(f"{name}: {energies.size} energies but {array.shape[-1] if array.ndim else 0} values in a curve")
        if not np.isfinite(array).all():
            raise ContentError(f"{name}: the density of states has NaN or infinite values")
        if np.abs(array).max(initial=0.0) > _LARGEST:
            raise ContentError(f"{name}: the density of states has values up to {np.abs(array).max():.3g}, which none has")
    if energies.ndim != 1 or energies.size < 2 or not np.isfinite(energies).all():
        raise ContentError(f"{name}: the energies are no list of two finite numbers or more")
    if np.abs(energies).max() > _FARTHEST:
        raise ContentError(f"{name}: energies up to {np.abs(energies).max():.3g} eV, which no electron has; are they in eV?")
    steps = np.diff(energies)
    if (steps < 0).all():
        _select(found, np.arange(energies.size)[::-1])
        found.notes.append("energies fall, turned round")
        return
    if (steps < 0).any():
        falls = int((steps < 0).sum())
        shuffled = (
            energies.size >= 10 and falls > _SHUFFLED * energies.size
        )  # points in no order at all, as from a figure; not curves below each other
        if not shuffled and (falls > 0.05 * energies.size or np.ptp(energies) < -10 * steps.min()):
            where = int(np.argmax(steps < 0)) + 1
            raise ContentError(
                f"{name}: the energies neither rise nor fall throughout: {energies[where]:g} eV follows "
                f"{energies[where - 1]:g} eV; give one curve after the other in columns, not in rows"
            )
        _select(found, np.argsort(energies, kind="stable"))
        found.notes.append("energies put in order" if shuffled else f"{falls} energies put in order")
    same = np.flatnonzero(np.diff(found.energies) < _SAME)
    if same.size:
        if any(not np.allclose(array[..., same], array[..., same + 1]) for array in _arrays(found)):
            raise ContentError(f"{name}: the energy {found.energies[same[0]]:g} eV has two values; give each energy once")
        _select(found, np.setdiff1d(np.arange(found.energies.size), same))
    if found.energies.size < 2:
        raise ContentError(f"{name}: there is only one energy")


def check_values(found: Found, name: str) -> None:
    """Set small negative values to zero.

    :raises ContentError: for large ones, and if all values are zero.
    """
    states = found.states
    parts = [(states, "the total")] if isinstance(states, Total) else [(states.total, "the total"), (states, "a part")]
    for holder, what in parts:
        if holder is None:
            continue
        array = holder.values
        lowest, highest = float(array.min()), float(array.max())
        if lowest < -_NEGATIVE * max(highest, 1e-300):
            place = np.unravel_index(int(array.argmin()), array.shape)[-1]
            raise ContentError(
                f"{name}: {what} is negative ({lowest:.3g} states/eV at {found.energies[place]:g} eV), as no density of "
                "states is; call a column of spin down so in the heading, if it is one"
            )
        if lowest < -1e-6 * highest:
            found.notes.append(f"negative values down to {lowest:.2g} set to zero")
    found.states = states.mapped(lambda array: np.clip(array, 0, None))
    total = found.states.summed
    if total.max() <= 0:
        raise ContentError(f"{name}: the density of states is zero everywhere")
    if total.size >= _FEW and total[0] < _FLOOR * total.max() and (np.diff(total) > -1e-6 * total.max()).all():
        found.warnings.append("the curve never falls, as an integral does; the density of states itself is needed")


def put_on_a_grid(found: Found) -> None:
    """Make the energies equidistant: exactly where they are so up to how they are written, else by interpolation."""
    energies = found.energies
    found.number = energies.size
    even = np.linspace(energies[0], energies[-1], energies.size)
    if np.abs(energies - even).max() < 0.1 * (even[1] - even[0]):
        found.energies = even
        return
    steps = np.diff(energies)
    step = max(float(np.quantile(steps, 0.1)), float(np.ptp(energies)) / (_MOST_POINTS - 1), 1e-3)
    points = np.linspace(energies[0], energies[-1], max(2, math.ceil(np.ptp(energies) / step) + 1))
    found.change(points, lambda array: PchipInterpolator(energies, array, axis=-1)(points))
    found.notes.append(
        f"energies {steps.min():.2g} to {steps.max():.2g} eV apart, put on a grid of {points[1] - points[0]:.2g} eV"
    )


def _arrays(found: Found) -> list[np.ndarray]:
    states = found.states
    more = [states.total.values] if isinstance(states, Parts) and states.total is not None else []
    return [states.values, *more, *([] if found.integrated is None else [found.integrated])]


def _select(found: Found, index: np.ndarray) -> None:
    found.change(found.energies[index], lambda array: array[..., index])
