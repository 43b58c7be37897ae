"""Valence orbitals and electrons of the elements."""

import math

import pytest
import torch

from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS, COVALENT_RADII, SYMBOLS, electronegativity
from aiida_dosmatgen.engine.prediction.tightbinding.elements import shells_and_electrons, valence


@pytest.mark.parametrize(
    ("symbol", "shells", "electrons"),
    [
        ("H", 1, 1), ("He", 1, 2), ("Li", 2, 1), ("C", 2, 4), ("Ne", 2, 8), ("Mg", 2, 2), ("Cl", 2, 7), ("K", 2, 1),
        ("Sc", 3, 3), ("Fe", 3, 8), ("Cu", 3, 11), ("Zn", 3, 12), ("Ga", 2, 3), ("Kr", 2, 8), ("Rh", 3, 9), ("I", 2, 7),
        ("Ba", 2, 2), ("La", 3, 3), ("Gd", 3, 3), ("Hf", 3, 4), ("Au", 3, 11), ("Pb", 2, 4), ("U", 3, 3),
    ],
)  # fmt: skip
def test_shells_and_electrons(symbol, shells, electrons):
    assert shells_and_electrons(ATOMIC_NUMBERS[symbol]) == (shells, electrons)


def test_all_elements_with_a_radius_have_orbitals_that_hold_their_electrons():
    found = valence(SYMBOLS[1 : len(COVALENT_RADII)])
    room = 2 * (found.present * torch.tensor([1, 3, 5])).sum(1)
    assert (found.electrons <= room).all()
    assert (found.energies[found.present] < 0).all()


def test_electronegativities_are_those_that_shipped_predictors_were_trained_with():
    """A checkpoint holds what a fit added to the starting values, which are made of these."""
    known = {"H": 2.20, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44, "Si": 1.90}
    known |= {"Cu": 1.90, "Ga": 1.81, "Ge": 2.01, "As": 2.18, "Rh": 2.28, "I": 2.66}
    assert {symbol: electronegativity(ATOMIC_NUMBERS[symbol], math.nan) for symbol in known} == known
    assert valence(["He"]).energies[0, 0] == torch.tensor(1.95 * (2.5 - 4.8 * 4.16))
