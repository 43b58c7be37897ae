"""Records in JSON: this package's own, pymatgen's ``Dos`` and ``CompleteDos``, emmet's ``ElectronicDos``, JARVIS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dft.bands import CHANNELS
from ...elements import ATOMIC_NUMBERS
from ...errors import ContentError
from ..found import Found, Parts, Total, parts_beside
from .table import Table
from .text import found_in_table

_OWN = {
    *("energies", "total", "sites", "site_indices", "n_atoms", "per_atom"),
    *("low", "high", "complete_below", "sigma", "zero", "gap", "meaning", "efermi"),
}
_WRAPPERS = ("dos", "data", "response", "results", "complete_dos", "raw_files", "edos", "electronic_dos")


def is_record(text: str, name: str) -> bool:
    """Say whether a text is JSON."""
    return (text.lstrip()[:1] in ("{", "[") and not text.lstrip().startswith("{\\rtf")) or text.lstrip()[:2] in ('"{', '"[')


def read_record(text: str, name: str) -> Found:
    """Read the one record of a JSON text.

    :raises ContentError: naming the key.
    """
    try:
        record = json.loads(text)
        if isinstance(record, str):  # JSON in JSON
            record = json.loads(record)
    except json.JSONDecodeError as exception:
        several = "it holds several records, one a line: give one of them"
        more = several if exception.msg == "Extra data" else "if it is none, give a table: energies and curves in columns"
        raise ContentError(f"{name} is not valid JSON: {exception}; {more}") from None
    except (RecursionError, ValueError) as exception:  # lists without an end, or a number of thousands of digits
        raise ContentError(f"{name} is not valid JSON: {str(exception).partition(';')[0]}") from None
    return found_in_record(record, name)


def found_in_record(record: Any, name: str, depth: int = 0) -> Found:
    """Return what a record holds, of whichever kind it is."""
    if isinstance(record, list):
        columns = _rows(record, name)
        if columns is not None:
            return columns
        if len(record) != 1:
            raise ContentError(f"{name} is a list of {len(record)} records; give one of them")
        return found_in_record(record[0], name, depth)
    if not isinstance(record, Mapping):
        raise ContentError(f"{name} holds no record of a density of states")
    if "edos_energies" in record:
        return _jarvis(record, name)
    if "spin_up_densities" in record:
        return _electronic_dos(record, name)
    if "densities" in record and "energies" in record:
        return found_in_dos(record, name)
    if "frequencies" in record:
        raise ContentError(f"{name} is a density of states of phonons; one of electrons is needed")
    if str(record.get("@class", "")).endswith("Dos"):
        lacks = [key for key in ("energies", "densities") if key not in record]
        raise ContentError(f"{name} is no whole {record['@class']}; it lacks {' and '.join(lacks)}")
    columns = None if {"total", "sites"} & record.keys() else _columns(record, name)
    if columns is not None:
        return columns
    if "energies" in record or (record.keys() <= _OWN and {"total", "sites"} & record.keys()):
        return _own(record, name)
    for key in _WRAPPERS:
        if isinstance(record.get(key), dict | list) and depth < 4:
            return found_in_record(record[key], name, depth + 1)
    if "y" in record and "atomic_numbers" in record:
        raise ContentError(f"{name} is a record of MP-DOS, a data set; give it as {name}#0")
    if record.get("@class") in ("Structure", "IStructure") or "lattice" in record:
        raise ContentError(f"{name} is a structure, not a density of states")
    if "bands" in record and "kpoints" in record:
        raise ContentError(f"{name} is a band structure, not a density of states; give the Dos of the material")
    of_parts = [str(key) for key, value in record.items() if isinstance(value, Mapping) and "densities" in value]
    if of_parts:
        raise ContentError(f"{name} holds the densities of states of {', '.join(of_parts[:6])}; give the whole CompleteDos")
    raise ContentError(
        f"{name} must have the keys energies and one of total, sites, or be a Dos, CompleteDos, ElectronicDos or a record of "
        f"JARVIS; it has {', '.join(sorted(map(str, record))[:6]) or 'none'}"
    )


# --- columns --------------------------------------------------------------------------------------------------------------


def _columns(record: Mapping[str, Any], name: str) -> Found | None:
    """Return what lists of one length hold, called as columns of a table are: of pandas, or of a figure by WebPlotDigitizer."""
    if isinstance(record.get("datasetColl"), list):
        sets = [one for one in record["datasetColl"] if isinstance(one, Mapping) and one.get("data")]
        if len(sets) != 1:
            names = ", ".join(str(one.get("name"))[:30] for one in sets[:6])
            raise ContentError(f"{name} holds {len(sets)} curves of a figure ({names}); export one of them as CSV")
        points = sets[0]["data"] if isinstance(sets[0]["data"], list) else []
        return _rows([point.get("value") if isinstance(point, Mapping) else None for point in points], name)
    if isinstance(record.get("columns"), list) and isinstance(record.get("data"), list):
        return _rows(
            [dict(zip(map(str, record["columns"]), row, strict=False)) for row in record["data"] if isinstance(row, list)], name
        )
    lists = {}
    for key, value in record.items():
        values = list(value.values()) if isinstance(value, Mapping) else value
        if isinstance(values, list) and len(values) > 1 and all(type(x) in (int, float) for x in values):
            lists[str(key)] = values
    if len(lists) < 2 or len({len(values) for values in lists.values()}) != 1:
        return None
    found = _table(list(lists), list(zip(*lists.values(), strict=True)), name)
    if found.zero is None:
        keys = ("efermi", "e_fermi", "fermi", "fermi_energy")
        found.fermi = next((_number(record, key, name) for key in keys if record.get(key) is not None), None)
    return found


def _rows(rows: list[Any], name: str) -> Found | None:
    """Return what a list of rows holds, each a list of numbers, or numbers by the names of their columns."""
    first, names = rows[0] if len(rows) > 1 else None, None
    if isinstance(first, Mapping) and all(isinstance(row, Mapping) and row.keys() == first.keys() for row in rows):
        names, rows = list(map(str, first)), [[row[key] for key in first] for row in rows]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) > 1 for row in rows) or len(rows) < 2:
        return None
    if not all(type(x) in (int, float) for row in rows for x in row):
        return None
    return _table(names, rows, name)


def _table(headings: list[str] | None, rows: Sequence[Sequence[float]], name: str) -> Found:
    if len(headings or rows[0]) < 2:
        raise ContentError(f"{name} holds one list of numbers; energies, and the density of states, are needed")
    values = _numbers(rows, name)
    found = found_in_table(Table(values, list(range(1, len(values) + 1)), headings, "", []), name)
    found.kind = "JSON of columns"
    return found


# --- this package ---------------------------------------------------------------------------------------------------------


def _own(record: Mapping[str, Any], name: str) -> Found:
    unknown = set(record) - _OWN
    if unknown or "energies" not in record or ("total" in record) == ("sites" in record):
        raise ContentError(
            f"{name} must have the keys energies and one of total, sites"
            + (f"; unknown: {sorted(map(str, unknown))}" if unknown else "")
        )
    energies = _numbers(record["energies"], f"{name}: energies")
    key = "total" if "total" in record else "sites"
    values = _numbers(record[key], f"{name}: {key}")
    if values.ndim != (1 if key == "total" else 2):
        raise ContentError(f"{name}: total is one list of numbers, sites a list of such lists")
    if key == "total" and record.get("site_indices") is not None:
        raise ContentError(f"{name}: a total DOS belongs to no site; give site_indices with sites, not with total")
    zero = record.get("zero")
    if zero not in (None, "vbm", "fermi"):
        raise ContentError(f"{name}: zero is 'vbm' or 'fermi', not {zero!r}")
    sites = record.get("site_indices")
    if sites is not None and not (isinstance(sites, list) and sites and all(type(i) is int and i >= 0 for i in sites)):
        raise ContentError(f"{name}: the sites {sites!r} are not a list of indices of atoms, which count from 0")
    n_atoms = record.get("n_atoms")
    if n_atoms is not None and (type(n_atoms) is not int or n_atoms < 1):
        raise ContentError(f"{name}: n_atoms must be a whole number of atoms, not {n_atoms!r}")
    if not isinstance(record.get("per_atom", False), bool):
        raise ContentError(f"{name}: per_atom must be true or false, not {record['per_atom']!r}")
    meaning = record.get("meaning")
    if meaning not in (None, "partition", "projections"):
        raise ContentError(f"{name}: meaning must be one of partition, projections, not {meaning!r}")
    high = _number(record, "complete_below", name)
    return Found(
        "JSON of a target",
        energies,
        Total(values[None]) if key == "total" else Parts(values[:, None, None]),
        zero=zero,
        fermi=_number(record, "efermi", name),
        gap=_number(record, "gap", name),
        sigma=_sigma(record, name),
        low=_number(record, "low", name),
        high=_number(record, "high", name) if record.get("high") is not None else high,
        meaning=meaning,
        n_atoms=n_atoms,
        per_atom=record.get("per_atom", False),
        sites=None if sites is None else tuple(sites),
    )


# --- pymatgen -------------------------------------------------------------------------------------------------------------


def found_in_dos(record: Mapping[str, Any], name: str) -> Found:
    """Return what a ``Dos``, ``CompleteDos`` or ``LobsterCompleteDos`` holds, as a dictionary, with or without ``@class``."""
    energies = _numbers(record["energies"], f"{name}: energies")
    kind = str(record.get("@class") or ("CompleteDos" if record.get("pdos") else "Dos"))
    total = _spins(record["densities"], energies, f"{name}: densities")
    found = Found(f"{kind} of pymatgen", energies, Total(total), fermi=_number(record, "efermi", name))
    _set_elements(found, record.get("structure"), name)
    pdos = record.get("pdos")
    if not pdos:
        return found
    if isinstance(pdos, Mapping):
        pdos = list(pdos.values())
    if not isinstance(pdos, list) or not all(isinstance(site, Mapping) for site in pdos):
        raise ContentError(f"{name}: pdos is no list with the orbitals of each site")
    parts = np.zeros((len(pdos), len(total), len(CHANNELS), energies.size))
    for i, site in enumerate(pdos):
        for orbital, entry in site.items():
            channel = orbital_channel(str(orbital))
            if channel is None:
                raise ContentError(f"{name}: the orbital {orbital!r} of site {i} is none of s, p, d, f")
            densities = entry.get("densities", entry) if isinstance(entry, Mapping) else entry
            values = _spins(densities, energies, f"{name}: pdos of site {i}, {orbital}")
            if len(values) != len(total):
                raise ContentError(f"{name}: pdos of site {i}, {orbital}, has {len(values)} spins, the total {len(total)}")
            parts[i, :, CHANNELS.index(channel)] += values
    if not parts.any():
        found.notes.append("projections are all zero, left out")
        return found
    if found.elements and len(found.elements) != len(pdos):
        raise ContentError(f"{name}: {len(pdos)} sites have projections, the structure has {len(found.elements)}")
    found.states = parts_beside(total, parts, CHANNELS)
    return found


def orbital_channel(orbital: str) -> str | None:
    """Return s, p, d or f of ``px``, ``dx2``, ``f_3``, ``3p_y``, ``S`` or the numbers that old records have."""
    if orbital.isdigit():
        number = int(orbital)
        return "s" if number < 1 else "p" if number < 4 else "d" if number < 9 else "f" if number < 16 else None
    first = orbital.lstrip("0123456789")[:1].lower()
    return first if first in CHANNELS else None


def _electronic_dos(record: Mapping[str, Any], name: str) -> Found:
    energies = _numbers(record.get("energies"), f"{name}: energies")

    def spins(part: Mapping[str, Any], where: str) -> np.ndarray:
        return _spins({1: part.get("spin_up_densities"), -1: part.get("spin_down_densities")}, energies, where)

    total = spins(record, name)
    found = Found("ElectronicDos of emmet", energies, Total(total), fermi=_number(record, "efermi", name))
    _set_elements(found, record.get("structure"), name)
    projected = record.get("projected_densities")
    if not projected:
        return found
    if isinstance(projected, Mapping):  # parallel lists
        keys = [key for key in projected if isinstance(projected[key], list)]
        length = len(projected.get("orbital") or [])
        projected = [{key: projected[key][i] for key in keys if i < len(projected[key])} for i in range(length)]
    sites: dict[int, np.ndarray] = {}
    for i, entry in enumerate(projected):
        where = f"{name}: projected_densities {i}"
        channel = orbital_channel(str(entry.get("orbital")))
        site = entry.get("site_index")
        if channel is None or type(site) is not int or not 0 <= site < 100_000:
            raise ContentError(f"{where} has the orbital {entry.get('orbital')!r} of site {site!r}, which is none")
        values = spins(entry, where)
        if len(values) != len(total):
            raise ContentError(f"{where} has {len(values)} spins, the total {len(total)}")
        sites.setdefault(site, np.zeros((len(values), len(CHANNELS), energies.size)))[:, CHANNELS.index(channel)] += values
    if sorted(sites) != list(range(len(sites))) or (found.elements and len(found.elements) != len(sites)):
        raise ContentError(f"{name}: projected_densities are of the sites {sorted(sites)}, not of all")
    if sites:
        found.states = parts_beside(total, np.stack([sites[i] for i in range(len(sites))]), CHANNELS)
    return found


def _jarvis(record: Mapping[str, Any], name: str) -> Found:
    def numbers(key: str) -> np.ndarray:
        value = record.get(key)
        if value == "na":
            raise ContentError(f"{name} is a record of JARVIS without a density of states: its {key} is 'na'")
        if isinstance(value, str):
            value = [part for part in value.strip().strip("'\"").split(",") if part.strip()]
        return _numbers(value, f"{name}: {key}")

    energies = numbers("edos_energies")
    spins = [numbers("total_edos_up")]
    if record.get("total_edos_down") not in (None, "", "''", []):
        spins.append(np.abs(numbers("total_edos_down")))
    if any(spin.shape != energies.shape for spin in spins):
        raise ContentError(f"{name}: edos_energies, total_edos_up and total_edos_down have different lengths")
    total = np.stack(spins)
    if len(spins) == 2 and not spins[1].any():
        total = total[:1]
    found = Found("record of JARVIS", energies, Total(total), zero="fermi")
    elements = record.get("atoms", {}).get("elements") if isinstance(record.get("atoms"), Mapping) else None
    if isinstance(elements, list) and all(str(e).strip() in ATOMIC_NUMBERS for e in elements):
        found.elements = tuple(str(e).strip() for e in elements)
        found.n_atoms = len(elements)
    return found


# --- parts ----------------------------------------------------------------------------------------------------------------


def _numbers(value: Any, where: str) -> np.ndarray:
    if isinstance(value, Mapping) and value.get("@class") == "array":  # numpy's, as monty writes it
        value = value.get("data")
    try:
        array = np.array(value, float)
    except (TypeError, ValueError):
        raise ContentError(f"{where} must be lists of numbers, all of one length") from None
    if array.ndim == 0:
        raise ContentError(f"{where} must be a list of numbers")
    return array


def _number(record: Mapping[str, Any], key: str, name: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ContentError(f"{name}: {key} must be a number in eV, not {value!r}")
    return float(value)


def _sigma(record: Mapping[str, Any], name: str) -> float | None:
    sigma = _number(record, "sigma", name)
    if sigma is not None and sigma < 0:
        raise ContentError(f"{name}: sigma must be a broadening in eV that is not negative, not {sigma:g}")
    return sigma


def _spins(densities: Any, energies: np.ndarray, where: str) -> np.ndarray:
    """Return densities by spin, (1 or 2, n), from a dictionary with the keys 1 and -1."""
    if not isinstance(densities, Mapping):
        densities = {"1": densities}
    by_spin: dict[int, np.ndarray] = {}
    for key, values in densities.items():
        spin = {"1": 0, "Spin.up": 0, "up": 0, "-1": 1, "Spin.down": 1, "down": 1}.get(str(key))
        if spin is None:
            raise ContentError(f"{where}: {key!r} is no spin; spins are 1 and -1")
        if values is None or values == []:
            continue
        array = _numbers(values, where)
        if array.shape != energies.shape:
            raise ContentError(f"{where}: {array.shape[0]} values, but {energies.size} energies")
        by_spin[spin] = -array if spin == 1 and array.max() <= 0 else array
    if 0 not in by_spin:
        raise ContentError(f"{where}: the densities of spin 1 are missing")
    return np.stack([by_spin[spin] for spin in sorted(by_spin)])


def _set_elements(found: Found, structure: Any, name: str) -> None:
    """Take the symbols of the sites from a structure, whose species have to be whole elements."""
    if not isinstance(structure, Mapping) or not isinstance(structure.get("sites"), list):
        return
    symbols = []
    for i, site in enumerate(structure["sites"]):
        species = site.get("species") if isinstance(site, Mapping) else None
        if not isinstance(species, list) or len(species) != 1 or not isinstance(species[0], Mapping):
            raise ContentError(f"{name}: site {i} of the structure is shared by several species; an ordered one is needed")
        symbol = str(species[0].get("element", "")).strip()
        symbol = symbol.rstrip("+-0123456789") if symbol not in ATOMIC_NUMBERS else symbol
        if symbol not in ATOMIC_NUMBERS:
            raise ContentError(f"{name}: site {i} of the structure has no element, but {symbol!r}")
        symbols.append(symbol)
    found.elements, found.n_atoms = tuple(symbols), len(symbols)
