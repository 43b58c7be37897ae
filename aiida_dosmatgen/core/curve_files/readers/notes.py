"""What the lines above a table say: the Fermi energy, what zero is, the broadening, the number of atoms."""

from __future__ import annotations

import re
from typing import Literal

from ...curves import Meaning
from ..found import Found
from .headings import UNIT_NAMES, UNITS
from .table import Table

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_FERMI_WORD = r"(?:\be_?\{?f(?:ermi)?\}?\b|\bfermi(?:[ _-]?(?:energy|level))?\b|\bef\b)"
_FERMI = re.compile(
    rf"{_FERMI_WORD}\s*(?:\([^)]*\)|\[[^\]]*\])?\s*(?:[:=]|\bis\b|\bat\b)?\s*({_NUMBER})\s*([A-Za-z.]+)?", re.IGNORECASE
)
_AFTER_COMMA = re.compile(rf"{_FERMI_WORD}\s*(?:\([^)]*\)|\[[^\]]*\])?\s*[,;\t]\s*({_NUMBER})\s*[,;\t]*()", re.IGNORECASE)
_VBM, _CBM = (
    re.compile(rf"\b(?:{words})\s*(?:\([^)]*\))?\s*[:=]\s*({_NUMBER})\s*([A-Za-z.]+)?", re.IGNORECASE)
    for words in (
        "vbm|valence band maximum|homo|highest occupied level",
        "cbm|conduction band minimum|lumo|lowest unoccupied level",
    )
)
_TO = r"(?:relative|reference|referenced|shifted|aligned|w\.?r\.?t\.?|vs|versus|subtract\w*|zero)\b.{0,40}?"
_AT_FERMI = re.compile(
    rf"fermi\b(?:[^.;]|\.\d){{0,40}}?\b(?:(?:at|to|=|is)\s+(?:zero|0(?:\.0*)?\b)|subtracted)"
    rf"|{_TO}(?:fermi|chemical potential|\be_?f\b)|\be minus e_?f"
    r"|\be(?:nergy)?\s*-\s*e_?\{?f",
    re.IGNORECASE,
)
_AT_VBM = re.compile(
    rf"{_TO}(?:vbm|valence band maximum|highest occupied|homo)"
    r"|(?:vbm|valence band maximum|highest occupied (?:level|state))\b.{0,20}?\b(?:at|to|=|is)\s+(?:zero|0(?:\.0*)?\b)"
    r"|\be(?:nergy)?\s*-\s*e_?\{?(?:vbm|v\b|homo)",
    re.IGNORECASE,
)
_SIGMA = re.compile(
    rf"\b(sigma|σ|broadening|smearing|degauss|fwhm)\b[^\d.,;+-]{{0,30}}?({_NUMBER})\s*([A-Za-z.]+)?", re.IGNORECASE
)
_MOST_SIGMA = 3.0  # eV; larger numbers are of something else, as a temperature
_MEANING = re.compile(r"meaning\s*[:=]\s*(partition|projections)")
_ATOMS = re.compile(r"\b(?:n_?atoms|nat|number of atoms|atoms in (?:the )?cell)\s*[:=]\s*(\d+)", re.IGNORECASE)
_OF_SITES = re.compile(r"\bper[- ]site\b|\b(?:of|for) each (?:site|atom)\b", re.IGNORECASE)
_PHONONS = re.compile(
    r"(?<!electron.)phonon(?:ic)? (?:dos|density)|phonopy|\bfrequenc|\bthz\b|\bcm\^?-1\b|\bcm⁻¹", re.IGNORECASE
)
_VACUUM = re.compile(r"(?:reference|relative|aligned|zero)\b.{0,40}\bvacuum", re.IGNORECASE)
_VASPKIT = re.compile(r"#?Energy\s{2,}(?:TDOS\b|s\s{2,}p[xyz]?\b)")  # whose columns are wide; of others such words say less


def set_stated(found: Found, table: Table, factor: float) -> None:
    """Take what the lines above the table state."""
    stated = fermi_energy(table.notes)
    if stated is not None and found.zero is None:
        found.fermi = stated[0] * (UNITS[stated[1]] if stated[1] else factor)
    if found.zero is None and found.fermi is None and any(_VASPKIT.match(note) for note in table.notes):
        found.zero, found.kind = "fermi", "VASPKIT text"
    if found.zero is None and found.fermi is None:
        found.edges = _edges_of_notes(table.notes, factor)
    if any("ABINIT" in note for note in table.notes):
        found.kind = "ABINIT DOS"
    if found.zero is None and found.fermi is None and any(_VACUUM.search(note) for note in table.notes):
        found.absolute = (
            "its energies are relative to the vacuum level; give the highest occupied level or Fermi energy by --zero"
        )
    found.sigma = sigma_of_notes(table.notes)
    found.n_atoms = atoms_of_notes(table.notes)
    if found.rows == "elements" and any(map(_OF_SITES.search, table.notes)):
        found.rows = "sites"
    numbers = {key: number_of_notes(table.notes, key) for key in ("low", "high", "gap")}
    found.low, found.high, found.gap = numbers["low"], numbers["high"], numbers["gap"]
    found.meaning = meaning_of_notes(table.notes)


def fermi_energy(notes: list[str]) -> tuple[float, str | None] | None:
    """Return the Fermi energy that lines above a table state, and its unit; None if none does."""
    for note in notes:
        match = _FERMI.search(note) or _AFTER_COMMA.fullmatch(note)
        if match:
            return float(re.sub("[dD]", "e", match[1])), UNIT_NAMES.get((match[2] or "").lower().rstrip(".,;"))
    return None


def _edges_of_notes(notes: list[str], factor: float) -> tuple[float, float | None] | None:
    """Return the valence band maximum and the conduction band minimum in eV that lines above a table state."""
    edges = list[float | None]()
    for pattern in (_VBM, _CBM):
        match = next((m for note in notes if (m := pattern.search(note))), None)
        unit = UNIT_NAMES.get((match[2] or "").lower().rstrip(".,;")) if match else None
        edges.append(float(re.sub("[dD]", "e", match[1])) * (UNITS[unit] if unit else factor) if match else None)
    return None if edges[0] is None else (edges[0], edges[1])


def zero_of_notes(notes: list[str]) -> Literal["fermi", "vbm"] | None:
    """Return what the energies are relative to, if lines above a table say so."""
    for note in notes:
        ways = (note, note.replace("_", " "))
        if any(map(_AT_VBM.search, ways)):
            return "vbm"
        if any(map(_AT_FERMI.search, ways)):
            return "fermi"
    return None


def sigma_of_notes(notes: list[str]) -> float | None:
    """Return the standard deviation of a Gaussian broadening in eV, if lines above a table state one."""
    for note in notes:
        match = _SIGMA.search(note)
        if match:
            value = float(re.sub("[dD]", "e", match[2])) * UNITS[UNIT_NAMES.get((match[3] or "ev").lower(), "ev")]
            value = value / 2.354820045 if match[1].lower() == "fwhm" else value
            if 0 <= value <= _MOST_SIGMA and (match[3] or "") not in ("K", "mRy", "mHa", "THz", "cm"):
                return value
    return None


def atoms_of_notes(notes: list[str]) -> int | None:
    """Return the number of atoms of the cell, if lines above a table state one."""
    return next((int(match[1]) for note in notes if (match := _ATOMS.search(note)) and 0 < int(match[1]) < 100_000), None)


def is_of_phonons(notes: list[str]) -> bool:
    """Say whether lines above a table speak of frequencies, as densities of states of phonons do."""
    return any(_PHONONS.search(note) for note in notes)


def number_of_notes(notes: list[str], key: str) -> float | None:
    """Return the number in eV of a line such as ``high: 5.5``, None if there is no such line."""
    pattern = re.compile(rf"{key}\s*[:=]\s*({_NUMBER})(?:\s*eV)?", re.IGNORECASE)
    return next((float(re.sub("[dD]", "e", match[1])) for note in notes if (match := pattern.fullmatch(note.strip()))), None)


def meaning_of_notes(notes: list[str]) -> Meaning | None:
    """Return what sites hold, if a line says so: ``meaning: projections``."""
    found = {match[1] for note in notes if (match := _MEANING.fullmatch(note.strip().lower()))}
    return "projections" if "projections" in found else "partition" if found else None
