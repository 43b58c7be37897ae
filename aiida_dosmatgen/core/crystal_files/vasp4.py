"""POSCAR files: their claims, and the symbols of the elements, for which VASP 4 has no line."""

from __future__ import annotations

import re

from ..elements import ATOMIC_NUMBERS
from ..errors import ContentError

_NUMBERS = re.compile(r"\s*\d{1,12}(?:\s+\d{1,12})*\s*")


def with_symbols(text: str, name: str) -> str:
    """Return a POSCAR with a line of symbols, from where VASP 4 has them: behind the coordinates, or as the whole first line.

    :raises ContentError: if neither names an element for each number of atoms, or they name different ones; or if there are
        more atoms than lines.
    """
    lines = text.splitlines()
    atoms = next((line for line in lines[5:7] if _NUMBERS.fullmatch(line)), "")
    if sum(map(int, atoms.split())) > len(lines):
        raise ContentError(f"{name} is truncated: {sum(map(int, atoms.split()))} atoms, and {len(lines)} lines in all")
    if len(lines) < 8 or not _NUMBERS.fullmatch(lines[5]):
        return text
    counts = [int(word) for word in lines[5].split()]
    found = {tuple(symbols) for symbols in (_of_coordinates(lines, counts), _of_the_first_line(lines[0], counts)) if symbols}
    if len(found) > 1:
        ways = " and ".join(sorted(" ".join(symbols) for symbols in found))
        raise ContentError(f"{name} names its elements in two ways, {ways}; write the right ones above the numbers of atoms")
    if not found:
        raise ContentError(f"{name} names no elements (VASP 4); write their symbols into a line above the numbers of atoms")
    return "\n".join([*lines[:5], " ".join(found.pop()), *lines[5:], ""])


def _of_coordinates(lines: list[str], counts: list[int]) -> list[str]:
    """Return the symbol of each kind of atoms from the ends of the lines of coordinates; empty if they do not have them."""
    first = 8 if lines[6].strip()[:1].lower() == "s" else 7
    symbols: list[str] = []
    for count in counts:
        if not 0 < count <= len(lines) - first:
            return []
        here = {_symbol(line.split()[-1]) for line in lines[first : first + count] if len(line.split()) > 3}
        if len(here) != 1 or None in here:
            return []
        symbols.append(str(here.pop()))
        first += count
    return symbols


def _of_the_first_line(line: str, counts: list[int]) -> list[str]:
    """Return the symbols of a first line of nothing else, or of a formula with the same numbers; empty if it is another."""
    words = [re.fullmatch(r"([A-Z][a-z]?)(\d*)", word) for word in line.split()]
    symbols = [match[1] for match in words if match and match[1] in ATOMIC_NUMBERS and match[1] != "X"]
    numbers = [match[2] for match in words if match]
    whole = len(symbols) == len(words) == len(counts) and numbers in ([""] * len(counts), [str(n) for n in counts])
    return symbols if whole else []


def _symbol(word: str) -> str | None:
    match = re.fullmatch(r"([A-Z][a-z]?)\d*", word)
    return match[1] if match and match[1] in ATOMIC_NUMBERS and match[1] not in ("X", "T", "F") else None
