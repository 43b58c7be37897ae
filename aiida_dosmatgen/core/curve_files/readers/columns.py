"""From columns that are understood to states: totals, sites, elements, orbitals and spins."""

from __future__ import annotations

import re

import numpy as np

from ...dft.bands import CHANNELS
from ...elements import ATOMIC_NUMBERS
from ...errors import ContentError
from ..found import Parts, Rows, Total, parts_beside
from .headings import HELP, Column

_ONLY_S = {"H", "He"}


def check_spins(columns: list[Column], headings: list[str], rest: list[int], name: str) -> None:
    """Refuse one spin without the other.

    :param rest: the columns that hold curves.
    :raises ContentError: naming the column.
    """
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


def check_doubles(columns: list[Column], headings: list[str], rest: list[int], name: str) -> None:
    """Refuse two totals.

    :param rest: the columns that hold curves.
    :raises ContentError: naming the columns.
    """
    seen: dict[tuple, int] = {}
    for i in rest:
        column = columns[i]
        key = (column.role, column.site, column.spin)
        if column.role == "total" and key in seen:
            raise ContentError(
                f"{name}: the columns {headings[seen[key]]!r} and {headings[i]!r} both seem to be the total; {HELP}"
            )
        seen[key] = i


def is_all_there_is(column: Column, heading: str) -> bool:
    """Say whether a column without others is the total, whatever it is called: as a formula may look like a site, or D(E)."""
    if column.site is None and column.channel == "d" and heading.lstrip("\"'$ ")[:1] == "D":
        return True
    return column.role == "unknown" or (column.role == "curve" and column.channel is None and (column.site or "1").isalpha())


def states_of(
    columns: list[Column], headings: list[str], values: dict[int, np.ndarray], name: str, notes: list[str]
) -> tuple[Total | Parts, Rows, tuple[str, ...] | None]:
    """Return the curves of columns, what the parts are of, and the elements of these if they are called so.

    :param values: states/eV of the columns that hold curves, by their number.
    :param notes: takes what was made of them, in words.
    :raises ContentError: if they are pieces of atoms.
    """
    totals = {columns[i].spin: values[i] for i in values if columns[i].role == "total"}
    parts = [i for i in values if columns[i].role == "curve"]
    total = None
    if totals:
        total = np.stack([totals[0], totals[1]]) if {0, 1} <= totals.keys() else totals[None][None]
    if total is not None and not parts:
        return Total(total), "sites", None
    sites, own = _places(columns, parts)
    whole = sites == [None]
    if not whole and None in sites:
        own = {i: place - (place > sites.index(None)) for i, place in own.items() if sites[place] is not None}
        sites.remove(None)
        notes.append("orbitals of the whole cell left out, sites kept")
    named = [site or "" for site in sites]
    rows: Rows = "sites" if whole else _rows(named)
    pieces = [] if whole else [i for i in own if _lacks_s(named[own[i]], [columns[j].channel for j in own if own[j] == own[i]])]
    if pieces or (rows == "some sites" and total is not None):
        left_out = ", ".join(headings[i] for i in (pieces or own))
        if total is None:
            raise ContentError(f"{name}: {left_out} are orbitals, not all of an atom; give its s, p, d, f, or the total")
        notes.append(f"{left_out} left out, not all of the atoms of a cell")
        return Total(total), "sites", None
    channels = CHANNELS if any(columns[i].channel for i in own) else ("all",)
    array = _array(columns, values, own, len(sites), channels)
    alone = {columns[i].channel for i in own}
    if whole and total is None and len(alone) == 1 and None not in alone:
        notes.append(f"warning: only the orbital {alone.pop()}; is this the whole density of states?")
    symbols = tuple(re.sub(r"[\d.]+$", "", site) for site in named)
    if whole or not all(symbol in ATOMIC_NUMBERS for symbol in symbols):
        return parts_beside(total, array, channels, not whole), rows, None
    return parts_beside(total, array, channels), rows, symbols


def _places(columns: list[Column], parts: list[int]) -> tuple[list[str | None], dict[int, int]]:
    """Return the sites, and to which of them each column belongs.

    Columns of one name are of different sites, unless they are orbitals, which add up.
    """
    sites: list[str | None] = []
    own: dict[int, int] = {}
    count: dict[tuple, int] = {}
    for i in parts:
        column = columns[i]
        name = column.site
        if column.site is not None and column.channel is None:
            key = (column.site, column.spin)
            count[key] = count.get(key, 0) + 1
            name = column.site if count[key] == 1 else f"{column.site}.{count[key]}"
        if name not in sites:
            sites.append(name)
        own[i] = sites.index(name)
    return sites, own


def _rows(sites: list[str]) -> Rows:
    """Say what curves with these names are of.

    Numbers have to count all atoms, or those of each element. An element by its name alone may be one atom or all of its kind.
    """
    elements = [re.sub(r"[\d.]+$", "", site) for site in sites]
    numbers = [re.search(r"(?<![\d.])\d+$", site) for site in sites]
    if not any(numbers):
        return "elements" if len(set(elements)) == len(sites) else "sites"
    if not all(numbers):
        return "elements"
    by_element: dict[str, list[int]] = {}
    for element, number in zip(elements, numbers, strict=True):
        by_element.setdefault(element, []).append(int(number[0]) if number else 0)
    for groups in ([[n for ns in by_element.values() for n in ns]], list(by_element.values())):
        if all(sorted(group) in (list(range(len(group))), list(range(1, len(group) + 1))) for group in groups):
            return "sites"
    return "some sites"


def _lacks_s(site: str, channels: list[str | None]) -> bool:
    """Say whether orbitals are not all of an atom: each atom has s, and most have more."""
    if None in channels:
        return False
    return "s" not in channels or (set(channels) == {"s"} and re.sub(r"[\d.]+$", "", site) not in _ONLY_S)


def _array(
    columns: list[Column], values: dict[int, np.ndarray], own: dict[int, int], n_sites: int, channels: tuple[str, ...]
) -> np.ndarray:
    """Return the curves of sites, shape (n_sites, n_spins, n_channels, n)."""
    n_spins = 1 if {columns[i].spin for i in own} == {None} else 2
    array = np.zeros((n_sites, n_spins, len(channels), next(iter(values.values())).size))
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
        there = array[site].any((0, 2))
        rest = there / there.sum() if there.any() else np.full(len(channels), 1 / len(channels))
        share = np.where(held[:, None] > 0, array[site] / np.maximum(held[:, None], 1e-300), rest[:, None])
        array[site] = share * curve[:, None]
    return array
