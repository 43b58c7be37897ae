import numpy as np
import pytest
from scipy.stats import beta

from aiida_dosmatgen.core.curve_files.edges import band_edges

ENERGIES = np.linspace(-10, 10, 401)
SHAPE = beta.ppf((np.arange(2000) + 0.5) / 2000, 1.5, 1.5)  # of a band with edges as of parabolic bands
LEVELS = np.concatenate([8 * SHAPE - 8, 6 * SHAPE + 3.2])


def broadened(sigma):
    return np.exp(-0.5 * ((ENERGIES[:, None] - LEVELS) / sigma) ** 2).sum(1) / sigma


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.3])
def test_edges_behind_their_tails(sigma, known):
    top, bottom = band_edges(ENERGIES, broadened(sigma), 1.5, sigma if known else None)
    off = 0.01 if known else 0.4 * sigma
    assert top == pytest.approx(0, abs=off) and bottom == pytest.approx(3.2, abs=off)
    vanishes = ENERGIES[(ENERGIES < 1.5) & (broadened(sigma) > 2e-4 * broadened(sigma).max())].max()
    assert vanishes > 1.9 * sigma  # without the tail in mind the zero would be there


def test_a_gap_that_the_broadening_fills():
    """It is found if the broadening is known; if not, a metal with few states at the Fermi energy looks the same."""
    levels = np.concatenate([8 * SHAPE - 8, 6 * SHAPE + 1.0])
    curve = np.exp(-0.5 * ((ENERGIES[:, None] - levels) / 0.3) ** 2).sum(1)
    assert curve[np.abs(ENERGIES - 0.5).argmin()] > 1e-3 * curve.max()
    assert band_edges(ENERGIES, curve, 0.5, 0.3) == pytest.approx((0, 1), abs=0.03)
    assert band_edges(ENERGIES, curve, 0.5) is None


def test_sharp_edges_are_where_the_curve_vanishes():
    sharp = np.where((ENERGIES < 0.01) | (ENERGIES > 1.99), 1.0, 0.0)
    assert band_edges(ENERGIES, sharp, 0.4) == pytest.approx((0, 2))
    assert band_edges(ENERGIES, sharp, 0.0) == pytest.approx((0, 2))


def test_there_is_no_gap_in_a_metal_and_no_upper_edge_where_nothing_is_above():
    assert band_edges(ENERGIES, np.ones(401), 0.0) is None
    assert band_edges(ENERGIES, np.where(ENERGIES < 0.01, 1.0, 0.0), 0.4) == (pytest.approx(0), None)
    assert band_edges(ENERGIES, np.where(ENERGIES > 0, 1.0, 0.0), -5.0) is None
