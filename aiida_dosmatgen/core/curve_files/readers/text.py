"""Curves from a table of numbers, by what its headings mean: CSV files and the text of many codes."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from ...dft.bands import CHANNELS
from ...elements import ATOMIC_NUMBERS
from ...errors import ContentError
from ..found import Found, Parts, Total, parts_beside
from .headings import (
    UNITS,
    Column,
    atoms_of_notes,
    fermi_energy,
    is_no_energy,
    is_of_phonons,
    meaning_of_notes,
    number_of_notes,
    sigma_of_notes,
    understand,
    zero_of_notes,
)
from .table import Table, read_table

_HELP = (
    "call columns energy (E-E_F, if relative to the Fermi energy), total, spin up, spin down, integrated, s, p, d, f, "
    "or sites Si1, Si2, Si1_p; or leave it out"
)
_MOST_CURVES = 20  # of a table that has more columns than rows
_ONE_SPIN = re.compile(r"_(?:UP|DW)\.dat$")  # of VASPKIT
_VACUUM = re.compile(r"(?:reference|relative|aligned|zero)\b.{0,40}\bvacuum", re.IGNORECASE)
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
        return _without_headings(table, name)
    columns = [understand(heading) for heading in table.headings]
    return _with_headings(table, columns, table.headings, name)


# --- with headings --------------------------------------------------------------------------------------------------------


def _with_headings(table: Table, columns: list[Column], headings: list[str], name: str) -> Found:
    columns, notes = _unmistaken(columns, headings), list[str]()
    place = next((i for i, column in enumerate(columns) if column.role == "energy"), None)
    if place is None:  # the first that is no index
        place = next((i for i, column in enumerate(columns) if column.role != "index"), 0)
        if columns[place].role not in ("unknown", "total") or columns[place].spin is not None:
            raise ContentError(f"{name}: no column is called energy; the first is {headings[place]!r}; {_HELP}")
        if is_no_energy(headings[place]):
            raise ContentError(
                f"{name}: the column {headings[place]!r} does not hold energies that grow upwards; give energies in eV, "
                "of a binding energy its negative"
            )
        if len(columns) > 2 and columns[place].role == "unknown":
            raise ContentError(f"{name}: the column {headings[place]!r} cannot be understood; {_HELP}")
        notes.append(f"{headings[place]}, the first column, taken for the energies")
    energy = columns[place]
    rest = [i for i, column in enumerate(columns) if i != place and column.role not in ("index", "integrated", "left out")]
    if not rest:
        raise ContentError(f"{name} has no density of states besides {', '.join(h for h in headings if h)}; {_HELP}")
    if len(rest) == 1 and _is_all_there_is(columns[rest[0]]):
        columns[rest[0]] = dataclasses.replace(columns[rest[0]], role="total", site=None)
        notes.append(f"{headings[rest[0]]}, the one curve, taken for the total")
    for i in rest:
        unit = columns[i].unit
        if columns[i].role in ("unknown", "energy") or (unit is not None and unit not in UNITS):
            what = "is in a unit that is not known" if unit is not None and unit not in UNITS else "cannot be understood"
            raise ContentError(f"{name}: the column {headings[i]!r} {what}; {_HELP}")
    _check_spins(columns, headings, rest, name)
    wien2k = "total-DOS" in headings
    if wien2k and energy.unit is None and not re.search(r"ev(?:up|dn)?$", name):
        energy = dataclasses.replace(energy, unit="rydberg")
    factor = _unit_of_energy(energy, headings[place], table, name)
    per_unit = {i: UNITS.get(columns[i].unit or "", factor) for i in rest}  # of densities
    values = {i: table.values[:, i] / per_unit[i] for i in rest}
    for i in rest:
        if columns[i].spin == 1 and values[i].max() <= 0:
            values[i] = -values[i]
    _check_doubles(columns, headings, rest, name)
    if _ONE_SPIN.search(name) and not any(columns[i].spin is not None for i in rest):
        raise ContentError(
            f"{name} is of one spin, by its name; give a table with both, as TDOS.dat: columns energy, spin up, spin down"
        )
    states, elements = _states(columns, values, rest, notes)
    found = Found(
        "table",
        table.values[:, place] * factor,
        states,
        elements=elements,
        notes=notes,
        zero=energy.zero or zero_of_notes(table.notes),
        per_atom=any(columns[i].per_atom for i in rest),
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
    _set_stated(found, table, factor)
    left_out = [headings[i] for i, column in enumerate(columns) if column.role in ("integrated", "left out")]
    if left_out:
        found.notes.append(f"{', '.join(left_out)} left out")
        integrated = [table.values[:, i] for i, column in enumerate(columns) if column.role == "integrated"]
        if len(integrated) == 1 or any(column.spin is not None for column in columns if column.role == "integrated"):
            found.integrated = np.abs(integrated).sum(0)
    return found


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


def _check_spins(columns: list[Column], headings: list[str], rest: list[int], name: str) -> None:
    keys: dict[tuple, set] = {}
    for i in rest:
        keys.setdefault((columns[i].role, columns[i].site), set()).add(columns[i].spin)
    for i in rest:
        spins = keys[columns[i].role, columns[i].site]
        if columns[i].spin is not None and not {0, 1} <= spins:
            other = "down" if columns[i].spin == 0 else "up"
            raise ContentError(
                f"{name}: the column {headings[i]!r} is of one spin, and there is none of spin {other}; give both, or their sum"
            )


def _check_doubles(columns: list[Column], headings: list[str], rest: list[int], name: str) -> None:
    seen: dict[tuple, int] = {}
    for i in rest:
        column = columns[i]
        key = (column.role, column.site, column.spin)
        if column.role == "total" and key in seen:
            raise ContentError(
                f"{name}: the columns {headings[seen[key]]!r} and {headings[i]!r} both seem to be the total; {_HELP}"
            )
        seen[key] = i


def _is_all_there_is(column: Column) -> bool:
    """Say whether a column without others is the total, whatever it is called: as a formula may look like a site."""
    return column.role == "unknown" or (column.role == "curve" and column.channel is None and (column.site or "1").isalpha())


def _states(
    columns: list[Column], values: dict[int, np.ndarray], rest: list[int], notes: list[str]
) -> tuple[Total | Parts, tuple[str, ...] | None]:
    """Return the curves of columns, and the elements of the sites if they are called so."""
    totals = {columns[i].spin: values[i] for i in rest if columns[i].role == "total"}
    parts = [i for i in rest if columns[i].role == "curve"]
    total = None
    if totals:
        total = np.stack([totals[0], totals[1]]) if {0, 1} <= totals.keys() else totals[None][None]
    if total is not None and not parts:
        return Total(total), None
    sites: list[str | None] = []
    own: dict[int, int] = {}
    count: dict[tuple, int] = {}
    for i in parts:  # columns of one name are of different sites, unless they are orbitals, which add up
        column = columns[i]
        name = column.site
        if column.site is not None and column.channel is None:
            key = (column.site, column.spin)
            count[key] = count.get(key, 0) + 1
            name = column.site if count[key] == 1 else f"{column.site}.{count[key]}"
        if name not in sites:
            sites.append(name)
        own[i] = sites.index(name)
    whole = sites == [None]
    if not whole and None in sites:
        own = {i: place - (place > sites.index(None)) for i, place in own.items() if sites[place] is not None}
        sites.remove(None)
        notes.append("orbitals of the whole cell left out, sites kept")
    channels = CHANNELS if any(columns[i].channel for i in own) else ("all",)
    n_spins = 1 if {columns[i].spin for i in parts} == {None} else 2
    array = np.zeros((len(sites), n_spins, len(channels), values[parts[0]].size))
    all_of: dict[int, np.ndarray] = {}
    for i, site in own.items():
        column = columns[i]
        spins = [column.spin or 0] if column.spin is not None or n_spins == 1 else [0, 1]
        if channels != ("all",) and column.channel is None:
            all_of.setdefault(site, np.zeros((n_spins, array.shape[-1])))[spins] += values[i] / len(spins)
            continue
        array[site, spins, channels.index(column.channel or "all")] += values[i] / len(spins)
    for site, curve in all_of.items():  # a site that has its orbitals and their sum
        held = array[site].sum(1)
        share = np.where(held[:, None] > 0, array[site] / np.maximum(held[:, None], 1e-300), 1 / len(channels))
        array[site] = share * curve[:, None]
    alone = {columns[i].channel for i in own}
    if whole and total is None and len(alone) == 1 and None not in alone:
        notes.append(f"warning: only the orbital {alone.pop()}; is this the whole density of states?")
    symbols = [re.sub(r"[\d.]+$", "", site or "") for site in sites]
    named = not whole and all(symbol in ATOMIC_NUMBERS for symbol in symbols)
    return parts_beside(total, array, channels, not whole), tuple(symbols) if named else None


# --- without headings -----------------------------------------------------------------------------------------------------


def _without_headings(table: Table, name: str) -> Found:
    values = table.values
    notes = []
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
    if values.shape[1] > 2 and _is_index(values[:, 0]) and _is_energy(values[:, 1]):
        values = values[:, 1:]
        notes.append("a first column of line numbers left out")
    unit, factor = "eV", 1.0
    match = next((m for note in table.notes if (m := re.search(r"energ\w*[^a-z]{0,4}\b(meV|Ha|Hartree|Ry)\b", note))), None)
    if match:
        unit = match[1]
        factor = UNITS[{"meV": "mev", "Ha": "hartree", "Hartree": "hartree", "Ry": "rydberg"}[unit]]
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
    elif len(curves) == 2 and lower.endswith(".dos"):
        kind, states = "SIESTA DOS", Total(curves)
        absolute = "its energies are absolute; give --zero with the Fermi energy, the first line of the .EIG file beside it"
    elif len(curves) > 2 and np.allclose(curves[0], curves[1:].sum(0), rtol=1e-3, atol=1e-4 * curves[0].max()):
        notes.append("the first curve is the sum of the others, hence the total")
        states = parts_beside(curves[:1], curves[1:, None, None])
    elif states is None:
        states = Parts(curves[:, None, None])
        notes.append(f"{len(curves)} columns without a heading taken as sites")
    found = Found(kind, energies, states, integrated=integrated, scaled=False, unit=unit, notes=notes, absolute=absolute)
    found.zero = "fermi" if elk else zero_of_notes(table.notes)
    _set_stated(found, table, factor)
    return found


def _is_index(column: np.ndarray) -> bool:
    return bool(np.array_equal(column, np.arange(len(column))) or np.array_equal(column, np.arange(1, len(column) + 1)))


def _is_energy(column: np.ndarray) -> bool:
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all()) and bool(column.min() < 0)


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


# --- both -----------------------------------------------------------------------------------------------------------------


def _set_stated(found: Found, table: Table, factor: float) -> None:
    """Take what the lines above the table state."""
    stated = fermi_energy(table.notes)
    if stated is not None and found.zero is None:
        found.fermi = stated[0] * (UNITS[stated[1]] if stated[1] else factor)
    if found.zero is None and found.fermi is None and _is_vaspkit(table):
        found.zero, found.kind = "fermi", "VASPKIT text"
    if any("ABINIT" in note for note in table.notes):
        found.kind = "ABINIT DOS"
    if found.zero is None and found.fermi is None and any(_VACUUM.search(note) for note in table.notes):
        found.absolute = (
            "its energies are relative to the vacuum level; give the highest occupied level or Fermi energy by --zero"
        )
    found.sigma = sigma_of_notes(table.notes)
    found.n_atoms = atoms_of_notes(table.notes)
    numbers = {key: number_of_notes(table.notes, key) for key in ("low", "high", "gap")}
    found.low, found.high, found.gap = numbers["low"], numbers["high"], numbers["gap"]
    found.meaning = meaning_of_notes(table.notes)


def _of_abinit(table: Table) -> Table:
    """Return a table of ABINIT with Hartree in its headings, and without the curves of half and twice the smearing."""
    if table.headings is None or not re.fullmatch(r"energy.*", table.headings[0], re.IGNORECASE):
        return table
    n = 3 if any("tsmear/2" in note for note in table.notes) and len(table.headings) == 5 else len(table.headings)
    names = ["energy (Ha)", *table.headings[1:n]]
    return dataclasses.replace(table, values=table.values[:, :n], headings=names)


def _is_vaspkit(table: Table) -> bool:
    names = {heading.lower() for heading in table.headings or ()}
    return "x2-y2" in names or bool(names & {"tdos", "tdos-up"} and "energy" in {n.lstrip("#") for n in names})


def _unit_of_energy(energy: Column, heading: str, table: Table, name: str) -> float:
    if energy.unit is not None and energy.unit not in UNITS:
        raise ContentError(f"{name}: the energies {heading!r} are in a unit that is not known; give eV, meV, Hartree or Ry")
    return UNITS[energy.unit or "ev"]
