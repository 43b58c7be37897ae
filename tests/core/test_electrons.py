"""Counting electrons: of curves, of elements, and whether the two agree."""

import math
from collections import Counter

import numpy as np
import pytest

from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import EnergyGrid, gaussian_dos
from aiida_dosmatgen.core.electrons import electrons_in, log_likelihood, shells

GRID = EnergyGrid(-20.0, 10.0, 601)
ENERGIES = GRID.points


def curves(levels, weights, gap, sigma=0.3, low=-20.0, **about):
    values = gaussian_dos(np.array(levels), np.array(weights), GRID, sigma)
    return Curves(values[None, None, None], ENERGIES, sigma, low, 10.0, gap=gap, resolved=False, **about)


def test_of_an_insulator_the_integral_ends_in_the_gap():
    """Levels at zero are half of them beyond zero once they are broadened."""
    assert electrons_in(curves([-12.0, -3.0, 0.0, 2.0], [2, 4, 2, 6], gap=2.0)) == pytest.approx(8.0, abs=0.01)


def test_of_a_metal_the_broadening_is_put_back():
    levels = np.linspace(-5, 5, 4001)
    states = (levels + 5) * (levels[1] - levels[0])  # a density that rises: 12.5 below zero
    curve = curves(levels, states, gap=0.0)
    plain = np.trapezoid(curve.total[ENERGIES <= 0], ENERGIES[ENERGIES <= 0])
    assert electrons_in(curve) == pytest.approx(12.5, abs=0.005)
    assert abs(plain - 12.5) > 0.03


def test_it_does_not_count_what_nobody_knows():
    assert electrons_in(curves([-12.0, -3.0], [2, 4], gap=2.0, low=-8.0)) == pytest.approx(4.0, abs=0.01)
    assert electrons_in(curves([-3.0], [4], gap=2.0, meaning="projections")) is None
    assert electrons_in(curves([-1.0], [4], gap=2.0, low=-2.0)) is None


def test_elements_bring_their_shells():
    assert sum(count for count, _ in shells("Si")[-2:]) == 4
    assert sum(count for count, energy in shells("Hf") if energy > -20) == 4  # its 4f belongs to the core
    assert sum(count for count, energy in shells("Ga") if energy > -20) == 13  # its 3d does not


@pytest.mark.parametrize(
    ("composition", "electrons", "low"),
    [
        ({"Si": 2}, 8, -20.0),
        ({"Ga": 1, "As": 1}, 18, -20.0),
        ({"Ga": 1, "As": 1}, 8, -12.5),  # the 3d lies below the curve
        ({"Ca": 1, "F": 2}, 12, -20.0),  # Ca 3p and F 2s too
        ({"Cu": 1}, 11, -10.0),
        ({"K": 1, "Cl": 1}, 6, -9.0),  # K 3p and Cl 3s lie below
    ],
)
def test_the_right_number_is_likelier_than_its_neighbours(composition, electrons, low):
    at = [log_likelihood(electrons + d, composition, low) for d in (-1, 0, 1)]
    assert at[1] > at[0] + 1 and at[1] > at[2] + 1


def test_nothing_is_impossible_and_it_is_a_density():
    assert log_likelihood(25.0, {"H": 1}, -20.0) > -12
    numbers = np.linspace(-10, 30, 8001)
    density = np.exp([log_likelihood(n, Counter({"Si": 1, "C": 1}), -20.0) for n in numbers])
    assert np.trapezoid(density, numbers) == pytest.approx(1.0, abs=0.03)
    assert math.isfinite(log_likelihood(8.0, {"Og": 1}, -20.0))
