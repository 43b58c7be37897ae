"""Curves from a table of numbers, by what its headings mean: CSV files and the text of many codes."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from ...errors import ContentError
from ..found import Found
from .bare import check_not_turned, found_without_headings, is_index
from .columns import check_doubles, check_spins, is_all_there_is, states_of
from .headings import HELP, UNITS, Column, is_no_energy, understand
from .named import by_its_name
from .notes import is_of_phonons, set_stated, zero_of_notes
from .table import Table, read_table

_PER_SPIN = re.compile(r"[/ ]\s*spin\b|spin\^?\{?(?:-1|⁻¹)", re.IGNORECASE)
_LEVELS = re.compile(r"\boccupation\b", re.IGNORECASE)


def read_text(text: str, name: str) -> Found:
    """Return what a text of columns holds.

    :raises ContentError: naming the line or the column that cannot be understood.
    """
    return found_in_table(read_table(text, name), name)


def found_in_table(table: Table, name: str) -> Found:
    """Return what a table holds.

    :raises ContentError: naming the column that cannot be understood.
    """
    if any(_LEVELS.search(note) and re.search("eigenvalue|MO", note) for note in table.notes):
        raise ContentError(f"{name} is a list of levels with occupations, not a density of states; broaden it first")
    if is_of_phonons(table.notes):
        raise ContentError(
            f"{name} is a density of states of phonons, by the lines above its table; one of electrons is needed"
        )
    if any("ABINIT" in note for note in table.notes):
        table = _of_abinit(table)
    if table.headings is None and table.heading and table.values.shape[1] > 2:
        raise ContentError(
            f"{name}: the heading {table.heading[:80]!r} does not name {table.values.shape[1]} columns; write a name for each"
        )
    if table.headings is None:
        return found_without_headings(table, name)
    columns = [understand(heading) for heading in table.headings]
    return _with_headings(table, columns, table.headings, name)


# --- with headings --------------------------------------------------------------------------------------------------------


def _with_headings(table: Table, columns: list[Column], headings: list[str], name: str) -> Found:
    columns, notes = _unmistaken(columns, headings), list[str]()
    place = _place_of_energies(table, columns, headings, name, notes)
    energy = columns[place]
    rest = [i for i, column in enumerate(columns) if i != place and column.role not in ("index", "integrated", "left out")]
    if not rest:
        raise ContentError(f"{name} has no density of states besides {', '.join(h for h in headings if h)}; {HELP}")
    for i in rest:
        if columns[i].unit == "a.u." and energy.unit not in ("a.u.", "hartree"):  # arbitrary ones, beside eV
            columns[i] = dataclasses.replace(columns[i], unit=None, arbitrary=True)
    if len(rest) == 1 and is_all_there_is(columns[rest[0]], headings[rest[0]]):
        columns[rest[0]] = dataclasses.replace(columns[rest[0]], role="total", site=None, channel=None)
        notes.append(f"{headings[rest[0]]}, the one curve, taken for the total")
    for i in rest:
        unit = columns[i].unit
        if columns[i].role == "energy":
            raise ContentError(
                f"{name}: the column {headings[i]!r} seems to hold energies, too; give a file for each curve, or one with "
                "all curves at the same energies"
            )
        if columns[i].spin is None and _PER_SPIN.search(headings[i]):
            raise ContentError(f"{name}: the column {headings[i]!r} is per spin; give both spins, or their sum in states/eV")
        if columns[i].role == "unknown" or (unit is not None and unit not in UNITS):
            what = "is in a unit that is not known" if unit is not None and unit not in UNITS else "cannot be understood"
            raise ContentError(f"{name}: the column {headings[i]!r} {what}; {HELP}")
    check_spins(columns, headings, rest, name)
    wien2k = "total-DOS" in headings
    if wien2k and energy.unit is None and not re.search(r"ev(?:up|dn)?$", name):
        energy = dataclasses.replace(energy, unit="rydberg")
    factor = _unit_of_energy(energy, headings[place], table, name)
    per_unit = {i: UNITS.get(columns[i].unit or "", factor) for i in rest}  # of densities
    values = {i: table.values[:, i] / per_unit[i] for i in rest}
    for i in rest:
        if columns[i].spin == 1 and values[i].max() <= 0:
            values[i] = -values[i]
    check_doubles(columns, headings, rest, name)
    if len(columns) == 2:
        check_not_turned(table.values[:, place], table.values[:, rest[0]], name)
    states, rows, elements = states_of(columns, headings, values, name, notes)
    found = Found(
        "table",
        table.values[:, place] * factor,
        states,
        rows=rows,
        elements=elements,
        notes=notes,
        zero=energy.zero or zero_of_notes(table.notes),
        per_atom=any(columns[i].per_atom and columns[i].site is None for i in rest),
        scaled=all(columns[i].unit for i in rest) and not any(columns[i].arbitrary for i in rest),
    )
    if any(columns[i].arbitrary for i in rest):
        found.warnings.append(
            "in units that are not states/eV of the cell; the values are taken as they are, and --n-atoms as what they are for"
        )
    if factor != 1.0:
        found.unit = energy.unit or "eV"
        found.notes.append(f"energies converted from {found.unit}")
    if wien2k:
        found.kind, found.zero = "DOS of WIEN2k", "fermi" if factor == 1.0 else found.zero
    set_stated(found, table, factor)
    left_out = [headings[i] for i, column in enumerate(columns) if column.role in ("integrated", "left out")]
    if left_out:
        found.notes.append(f"{', '.join(left_out)} left out")
        integrated = [table.values[:, i] for i, column in enumerate(columns) if column.role == "integrated"]
        if len(integrated) == 1 or any(column.spin is not None for column in columns if column.role == "integrated"):
            found.integrated = np.abs(integrated).sum(0)
    by_its_name(found, name)
    return found


def _place_of_energies(table: Table, columns: list[Column], headings: list[str], name: str, notes: list[str]) -> int:
    """Return which column holds the energies.

    :raises ContentError: naming the first column, if it cannot be that.
    """
    place = next((i for i, column in enumerate(columns) if column.role == "energy"), None)
    if place is not None:
        return place
    if columns[0].role == "index" and not is_index(table.values[:, 0]):  # as pandas writes energies that are an index
        notes.append("the first column, without a name, taken for the energies")
        return 0
    place = next((i for i, column in enumerate(columns) if column.role != "index"), 0)
    if columns[place].role not in ("unknown", "total") or columns[place].spin is not None:
        raise ContentError(f"{name}: no column is called energy; the first is {headings[place]!r}; {HELP}")
    if is_no_energy(headings[place]):
        raise ContentError(
            f"{name}: the column {headings[place]!r} does not hold energies that grow upwards; give energies in eV, "
            "of a binding energy its negative"
        )
    if len(columns) > 2 and columns[place].role == "unknown":
        raise ContentError(f"{name}: the column {headings[place]!r} cannot be understood; {HELP}")
    notes.append(f"{headings[place]}, the first column, taken for the energies")
    return place


def _unmistaken(columns: list[Column], headings: list[str]) -> list[Column]:
    """Take S, P, F beside D, or after one another, for orbitals and not for elements."""
    letters = [h.strip() for h, c in zip(headings, columns, strict=True) if c.role == "curve"]
    if (
        letters[:1] == ["S"]
        and letters[:2] in (["S", "P"], ["S"])
        and set(letters) <= {"S", "P", "D", "F"}
        and len(letters) > 1
    ):
        return [
            Column("curve", channel=h.strip().lower(), spin=c.spin, unit=c.unit) if c.role == "curve" else c
            for h, c in zip(headings, columns, strict=True)
        ]
    return columns


def _of_abinit(table: Table) -> Table:
    """Return a table of ABINIT with Hartree in its headings, and without the curves of half and twice the smearing."""
    if table.headings is None or not re.fullmatch(r"energy.*", table.headings[0], re.IGNORECASE):
        return table
    n = 3 if any("tsmear/2" in note for note in table.notes) and len(table.headings) == 5 else len(table.headings)
    names = ["energy (Ha)", *table.headings[1:n]]
    return dataclasses.replace(table, values=table.values[:, :n], headings=names)


def _unit_of_energy(energy: Column, heading: str, table: Table, name: str) -> float:
    if energy.unit is not None and energy.unit not in UNITS:
        raise ContentError(f"{name}: the energies {heading!r} are in a unit that is not known; give eV, meV, Hartree or Ry")
    return UNITS[energy.unit or "ev"]
