"""Chemical symbols, atomic numbers and formulas: what ASE and pymatgen know, in the terms of this package."""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Iterable
from typing import TypeAlias

import ase.data
import numpy as np

from .errors import ContentError

SYMBOLS: list[str] = list(ase.data.chemical_symbols)
"""``SYMBOLS[z]`` is the symbol of atomic number ``z``; index 0 is the placeholder ``X``."""

ATOMIC_NUMBERS: dict[str, int] = dict(ase.data.atomic_numbers)

COVALENT_RADII: list[float] = ase.data.covalent_radii[:97].tolist()
"""Covalent radii in Å by atomic number up to curium, by Cordero et al., Dalton Trans. 2832 (2008); ASE guesses the others."""

Composition: TypeAlias = tuple[tuple[int, int], ...]
"""How many atoms there are of each element: pairs of atomic number and count, sorted."""

_TOKENS = re.compile(r"(?:[A-Z][a-z]?|[1-9][0-9]*|[()])+")


def atomic_number(symbol: str) -> int:
    """Return the atomic number of a chemical symbol.

    :raises ContentError: if there is no such element.
    """
    number = ATOMIC_NUMBERS.get(symbol, 0)
    if number == 0:
        raise ContentError(f"{symbol!r} is not a chemical element; give a symbol such as 'Si'")
    return number


def electronegativity(number: int, otherwise: float) -> float:
    """Return the electronegativity of an element on Pauling's scale, by its atomic number (pymatgen).

    :param otherwise: what stands for it where Pauling has none, as for He, Ne and Ar: what suits differs from use to use.
    """
    from pymatgen.core import Element

    with warnings.catch_warnings():  # that there is none
        warnings.simplefilter("ignore")
        value = float(Element.from_Z(number).X)
    return otherwise if math.isnan(value) else value


def composition(numbers: np.ndarray | Iterable[int]) -> Composition:
    """Return how many atoms there are of each element.

    :param numbers: atomic numbers, shape (n,).
    """
    elements, counts = np.unique(np.asarray(numbers, dtype=np.int64), return_counts=True)
    return tuple(zip(elements.tolist(), counts.tolist(), strict=True))


def formula(numbers: np.ndarray | Iterable[int]) -> str:
    """Return the reduced formula of atoms as pymatgen writes it: Ga₂As₂ is ``GaAs``, and one or two atoms of O are ``O2``.

    :param numbers: atomic numbers, shape (n,).
    """
    return formula_of(composition(numbers))


@functools.lru_cache(maxsize=1 << 16)
def formula_of(counts: Composition) -> str:
    """Return the reduced formula of a composition; each is worked out once, however many crystals have it."""
    from pymatgen.core import Composition as Formula

    if counts and counts[0][0] < 1:  # a broken candidate, which pymatgen does not know how to write
        return "".join(f"{SYMBOLS[z]}{n if n > 1 else ''}" for z, n in counts)
    with warnings.catch_warnings():  # that noble gases have no electronegativity, by which the elements are put in order
        warnings.simplefilter("ignore")
        return Formula({SYMBOLS[z]: n for z, n in counts}).reduced_formula


def parse_formula(text: str) -> dict[str, int]:
    """Return how many atoms of each element a chemical formula has: ``Ca(OH)2`` → {"Ca": 1, "O": 2, "H": 2}.

    :raises ContentError: if it is not a formula of known elements in whole numbers.
    """
    from pymatgen.core import Composition as Formula

    hint = "write one such as GaAs, Al2O3 or Ca(OH)2"
    for symbol in re.findall("[A-Z][a-z]?", text):
        if ATOMIC_NUMBERS.get(symbol, 0) == 0:
            raise ContentError(f"{text!r} is not a chemical formula ({symbol!r}); {hint}")
    try:
        if _TOKENS.fullmatch(text) is None:  # pymatgen takes fractions, zeros and spaces, too
            raise ValueError
        return {element.symbol: round(count) for element, count in Formula(text).items()}
    except ValueError:
        raise ContentError(f"{text!r} is not a chemical formula; {hint}") from None
