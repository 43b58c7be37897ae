"""Curves from the text of a CSV or JSON file."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import numpy as np

from ..errors import ContentError

STATED = (
    *("n_atoms", "per_atom", "low", "high", "complete_below", "sigma", "zero", "gap", "meaning"),
    "site_indices",
)
"""What the text of a target may say besides its curves."""

_WORDS = ("zero", "meaning")
_SAID = re.compile(r"#\s*(low|high|sigma|gap|zero|meaning)\s*[:=]\s*(\S+)\s*$")


def read_text(text: str, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return energies (m,), values (m,) or (n_sites, m), and what the file says besides, one of :data:`STATED` each.

    :param name: of the file, for errors.
    :raises ContentError: naming the line or key.
    """
    return _read_json(text, name) if text.lstrip().startswith("{") else _read_csv(text, name)


def _read_json(text: str, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as exception:
        raise ContentError(f"{name} is not valid JSON: {exception}") from None
    unknown = set(record) - {"energies", "total", "sites", *STATED}
    if unknown or "energies" not in record or ("total" in record) == ("sites" in record):
        raise ContentError(
            f"{name} must have the keys energies and one of total, sites" + (f"; unknown: {sorted(unknown)}" if unknown else "")
        )
    try:
        energies = np.array(record["energies"], float)
        values = np.array(record["total"] if "total" in record else record["sites"], float)
    except (TypeError, ValueError):
        raise ContentError(f"{name}: energies and curves must be lists of numbers, all of one length") from None
    if values.ndim != (1 if "total" in record else 2):
        raise ContentError(f"{name}: total is one list of numbers, sites a list of such lists")
    if "total" in record and record.get("site_indices") is not None:
        raise ContentError(f"{name}: a total DOS belongs to no site; give site_indices with sites, not with total")
    return energies, values, {k: record[k] for k in STATED if k in record}


def _read_csv(text: str, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    rows: list[list[float]] = []
    stated: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = _SAID.search(line)
        if said:
            stated[said[1]] = said[2] if said[1] in _WORDS else _number(said[2], said[1], f"{name}, line {number}")
        line = line.split("#")[0].strip()
        if not line:
            continue
        cells = next(csv.reader(io.StringIO(line))) if "," in line else line.replace(";", " ").split()
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            if rows:
                raise ContentError(f"{name}, line {number}: {line!r} are not numbers") from None
            continue  # a heading
        if len(rows[-1]) != len(rows[0]) or len(rows[-1]) < 2:
            raise ContentError(f"{name}, line {number}: {len(rows[-1])} columns, expected {max(len(rows[0]), 2)}")
    if len(rows) < 2:
        raise ContentError(
            f"{name} has no table of numbers (two lines or more); the first column is the energy in eV, the others the DOS"
        )
    table = np.array(rows)
    return table[:, 0], table[:, 1] if table.shape[1] == 2 else table[:, 1:].T, stated


def _number(text: str, key: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ContentError(f"{where}: {key} must be a number in eV, not {text!r}") from None
