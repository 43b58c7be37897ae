"""Symbols, numbers, formulas."""

import ase.data
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_dosmatgen.core.elements import SYMBOLS, atomic_number, composition, electronegativity, formula, parse_formula
from aiida_dosmatgen.core.errors import ContentError


def test_the_table_is_the_periodic_table():
    assert list(SYMBOLS) == list(ase.data.chemical_symbols)


@given(st.integers(1, 118))
def test_symbols_and_numbers_invert(number):
    assert atomic_number(SYMBOLS[number]) == number


@pytest.mark.parametrize("symbol", ["X", "si", "Xx", "", "14"])
def test_unknown_symbols_are_refused(symbol):
    with pytest.raises(ContentError, match="is not a chemical element"):
        atomic_number(symbol)


def test_electronegativities_are_paulings_or_what_is_said_instead():
    assert electronegativity(14, 0.0) == 1.90 and electronegativity(2, 4.0) == 4.0


@given(st.lists(st.integers(1, 118), min_size=1, max_size=12), st.randoms())
def test_a_formula_does_not_depend_on_the_order(numbers, random):
    shuffled = numbers.copy()
    random.shuffle(shuffled)
    assert formula(shuffled) == formula(numbers)


def test_formulas():
    for numbers, written in (
        ([31, 33], "GaAs"),
        ([33, 31, 33, 31], "GaAs"),
        ([6, 14], "SiC"),
        ([8, 14, 8], "SiO2"),
        ([14, 14], "Si"),
        ([8], "O2"),
        ([0, 14, 0], "X2Si"),  # of a broken candidate
    ):
        assert formula(numbers) == formula(np.array(numbers)) == written
    assert composition([8, 14, 8, 8, 14, 8]) == ((8, 4), (14, 2))


@given(st.lists(st.integers(1, 118), min_size=1, max_size=12))
def test_a_formula_is_read_as_it_was_written(numbers):
    written, counts = parse_formula(formula(numbers)), dict(composition(numbers))
    first = min(counts)
    read = {atomic_number(symbol): count for symbol, count in written.items()}
    assert {z: n * counts[first] for z, n in read.items()} == {z: n * read[first] for z, n in counts.items()}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("GaAs", {"Ga": 1, "As": 1}),
        ("Al2O3", {"Al": 2, "O": 3}),
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}),
        ("CHCH3", {"C": 2, "H": 4}),
        ("(Mg(AlO2)2)3Si12", {"Mg": 3, "Al": 6, "O": 12, "Si": 12}),
    ],
)
def test_formulas_are_parsed(text, counts):
    assert parse_formula(text) == counts


@pytest.mark.parametrize(
    "text", ["", "Xx2", "X", "gaas", "Ga0.5As", "Ga0", "2Ga", "Ga(As", "GaAs)", "()", "Ga As", "Ga²", "end"]
)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ContentError, match="is not a chemical formula"):
        parse_formula(text)
