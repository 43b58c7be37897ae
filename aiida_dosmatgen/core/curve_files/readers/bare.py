"""Curves from a table whose columns have no names: what they are is told by their values."""

from __future__ import annotations

import re

import numpy as np

from ...errors import ContentError
from ..found import Found, Parts, Total, parts_beside
from .headings import UNIT_NAMES, UNITS
from .notes import set_stated, zero_of_notes
from .table import Table

_UNIT = re.compile(r"energ\w*[^a-z]{0,4}\b(meV|Ha|Hartree|Ry)\b", re.IGNORECASE)
_MOST_CURVES = 20  # of a table that has more columns than rows


def found_without_headings(table: Table, name: str) -> Found:
    values = table.values
    notes, warnings = list[str](), list[str]()
    lower = name.lower()
    if len(values) <= _MOST_CURVES < values.shape[1] and _is_energy(values[0]):
        values = values.T
        notes.append("rows turned into columns")
    if (
        len(values) > 2
        and np.array_equal(values[0], np.arange(values.shape[1]))
        and values[1, 0] < values[0, 0] < values[-1, 0]
    ):
        values = values[1:]
        notes.append("a first row of column numbers left out")
    if values.shape[1] > 2 and is_index(values[:, 0]) and _is_energy(values[:, 1]):
        values = values[:, 1:]
        notes.append("a first column of line numbers left out")
    if values.shape[1] == 2:
        check_not_turned(values[:, 0], values[:, 1], name)
    unit, factor = "eV", 1.0
    match = next(
        (m for note in table.notes if (m := re.search(r"energ\w*[^a-z]{0,4}\b(meV|Ha|Hartree|Ry)\b", note, re.I))), None
    )
    if match:
        unit = match[1]
        factor = UNITS[UNIT_NAMES[unit.lower()]]
    elk = lower.endswith("tdos.out")
    if elk:
        unit, factor = "Hartree", UNITS["hartree"]
    energies, curves = values[:, 0] * factor, values[:, 1:].T / factor
    if factor != 1.0:
        notes.append(f"energies converted from {unit}")
    integrated = None
    if len(curves) == 2 and _is_integral(values[:, 0], values[:, 1], values[:, 2]):
        notes.append("the last column is the integral of the one before, left out")
        integrated = curves[1] * factor
        curves = curves[:1]
    kind = "table without headings"
    states: Total | Parts | None = Total(curves) if len(curves) == 1 else None
    absolute = None
    if len(curves) == 2 and curves[1].max() <= 0 and curves[0].min() >= 0 and curves[1].min() < 0:
        notes.append("the last column, negative, is spin down")
        states = Total(np.abs(curves))
    elif len(curves) == 4 and _are_spins_with_integrals(values[:, 0], values[:, 1:].T):
        notes.append("the last two columns are the integrals of both spins, left out")
        states, integrated = Total(np.abs(curves[:2])), np.abs(curves[2:]).sum(0) * factor
    elif (len(curves) in (2, 4) and lower.endswith(".dos")) or (len(curves) == 1 and name.endswith(".DOS")):
        kind, states = "SIESTA DOS", Total(curves[:2])  # of four, the others are of the two spins together
        absolute = "its energies are absolute; give --zero with the Fermi energy, the first line of the .EIG file beside it"
    elif len(curves) > 2 and (place := _place_of_the_sum(curves)) is not None:
        others = np.delete(curves, place, axis=0)
        states = Total(curves[[place]])
        notes.append(f"the {'first' if place == 0 else 'last'} curve is the sum of the others, hence the total")
        if len(others) == 2:
            notes.append("the others left out: two sites, or two spins")
        else:
            states = parts_beside(states.values, others[:, None, None])
    elif states is None:
        states = Parts(curves[:, None, None])
        warnings.append(f"{len(curves)} columns without a heading taken as sites, all of a cell")
    found = Found(kind, energies, states, integrated=integrated, scaled=False, unit=unit, notes=notes, absolute=absolute)
    found.warnings += warnings
    found.zero = "fermi" if elk else zero_of_notes(table.notes)
    set_stated(found, table, factor)
    return found


def check_not_turned(energies: np.ndarray, curve: np.ndarray, name: str) -> None:
    """Refuse a curve of a figure that stands upright, with the energies as the second column.

    :raises ContentError: if the energies are in no order, and the curve is, below zero, too.
    """
    if not _is_ordered(energies) and _is_energy(curve):
        raise ContentError(f"{name}: the second column seems to hold the energies, not the first; put them first")


def _place_of_the_sum(curves: np.ndarray) -> int | None:
    """Return which of the first and the last curve is the sum of all others, None if neither is."""
    for place in (0, len(curves) - 1):
        others = np.delete(curves, place, axis=0).sum(0)
        if np.allclose(curves[place], others, rtol=1e-3, atol=1e-4 * curves[place].max()):
            return place
    return None


def is_index(column: np.ndarray) -> bool:
    return bool(np.array_equal(column, np.arange(len(column))) or np.array_equal(column, np.arange(1, len(column) + 1)))


def _is_energy(column: np.ndarray) -> bool:
    return _is_ordered(column) and bool(column.min() < 0)


def _is_ordered(column: np.ndarray) -> bool:
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all())


def _is_integral(energies: np.ndarray, curve: np.ndarray, other: np.ndarray) -> bool:
    if other.min() < 0 or (np.diff(other) < -1e-9 * max(other.max(), 1.0)).any() or curve.min() < 0 or other.max() <= 0:
        return False
    own = np.concatenate([[0.0], np.cumsum(0.5 * (curve[1:] + curve[:-1]) * np.diff(energies))])
    return own[-1] > 0 and float(np.abs(other - other[0] - own).max()) < 0.03 * float(other.max() - other[0])


def _are_spins_with_integrals(energies: np.ndarray, columns: np.ndarray) -> bool:
    up, down, up_to, down_to = columns
    if down.max() > 0:
        return _is_integral(energies, up, up_to) and _is_integral(energies, down, down_to)
    return _is_integral(energies, up, up_to) and _is_integral(energies, -down, np.abs(down_to))
