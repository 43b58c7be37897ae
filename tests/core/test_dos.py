"""Densities of states: filling, broadening, projection."""

import math

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st

from aiida_dosmatgen.core.dos import (
    DEFAULT_GRID,
    DEFAULT_SIGMA,
    EnergyGrid,
    check_electrons,
    complete_below,
    gaussian_dos,
    highest_occupied_level,
    project,
)
from aiida_dosmatgen.core.errors import ContentError

seeds = st.integers(0, 2**32 - 1)


def integral(curve, energies):
    return float(scipy.integrate.trapezoid(curve, energies))


# --- the grid -------------------------------------------------------------------------------------------------------------


def test_the_default_grid():
    points = DEFAULT_GRID.points
    assert (points[0], points[-1], len(points)) == (-10, 10, 400)
    np.testing.assert_allclose(np.diff(points), DEFAULT_GRID.spacing)


@pytest.mark.parametrize("arguments", [(1, 1, 10), (2, 1, 10), (0, 1, 1), (math.nan, 1, 10), (0, math.inf, 10)])
def test_impossible_grids_are_refused(arguments):
    with pytest.raises(ContentError, match="no energy grid from"):
        EnergyGrid(*arguments)


# --- filling --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.floats(-20, 20), st.floats(0.5, 4), seeds)
def test_an_insulator_is_filled_to_its_valence_band_maximum(n_kpoints, n_valence, n_empty, bottom, gap, seed):
    rng = np.random.default_rng(seed)
    valence = bottom + rng.random((n_kpoints, n_valence))
    empty = bottom + 1 + gap + rng.random((n_kpoints, n_empty))
    eigenvalues = np.sort(np.hstack([valence, empty]), axis=1)
    weights = rng.uniform(0.1, 1, n_kpoints)
    assert highest_occupied_level(eigenvalues, weights, 2 * n_valence) == valence.max()


@given(seeds, st.floats(0.1, 7.9))
def test_the_filled_states_hold_the_electrons_of_a_metal(seed, n_electrons):
    rng = np.random.default_rng(seed)
    eigenvalues, weights = np.sort(rng.normal(0, 3, (6, 4)), axis=1), rng.uniform(0.1, 1, 6)
    level = highest_occupied_level(eigenvalues, weights, n_electrons)
    held = 2 * (weights / weights.sum()) @ (eigenvalues <= level).sum(1)
    held_below = 2 * (weights / weights.sum()) @ (eigenvalues < level).sum(1)
    assert held_below < n_electrons <= held + 1e-3


@given(seeds, st.floats(1e-3, 1e3), st.floats(-50, 50))
def test_filling_knows_no_scale_of_weights_and_no_zero_of_energy(seed, scale, shift):
    rng = np.random.default_rng(seed)
    eigenvalues, weights = rng.normal(size=(4, 3)), rng.uniform(0.1, 1, 4)
    level = highest_occupied_level(eigenvalues, weights, 3)
    assert highest_occupied_level(eigenvalues, scale * weights, 3) == level
    assert highest_occupied_level(eigenvalues + shift, weights, 3) == pytest.approx(level + shift)


def test_too_few_bands_are_refused():
    with pytest.raises(ContentError, match="2 bands cannot hold 5 electrons; compute more bands"):
        highest_occupied_level(np.zeros((3, 2)), np.ones(3), 5)


def test_bands_are_complete_up_to_the_bottom_of_the_highest():
    assert complete_below(np.array([[0, 5.0], [1, 4.5]]), reference=1) == 3.5


# --- broadening -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-7, 7), st.floats(0, 3)), min_size=1, max_size=8), st.floats(0.15, 0.6))
def test_broadening_keeps_the_number_of_states(levels, sigma):
    energies, weights = np.array(levels).T
    curve = gaussian_dos(energies, weights, sigma=sigma)
    assert curve.min() >= 0
    assert integral(curve, DEFAULT_GRID.points) == pytest.approx(weights.sum(), abs=1e-5 * max(weights.sum(), 1))


def test_broadening_gives_a_gaussian():
    curve = gaussian_dos(np.array([1.0]), np.array([2.0]), sigma=0.3)
    expected = 2 * np.exp(-((DEFAULT_GRID.points - 1) ** 2) / (2 * 0.3**2)) / (0.3 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(curve, expected, atol=1e-12)


@given(seeds)
def test_broadening_is_linear_and_keeps_leading_axes(seed):
    rng = np.random.default_rng(seed)
    energies, weights = rng.normal(0, 4, 9), rng.random((2, 3, 9))
    together = gaussian_dos(energies, weights)
    assert together.shape == (2, 3, 400)
    np.testing.assert_allclose(together.sum(0), gaussian_dos(energies, weights.sum(0)))


def test_levels_beyond_the_grid_show_their_tails_only():
    assert gaussian_dos(np.array([50.0]), np.array([1.0])).max() == 0
    assert gaussian_dos(np.array([10.2]), np.array([1.0]))[-1] > 0.5


@pytest.mark.parametrize("sigma", [0, -0.1])
def test_a_broadening_that_is_not_positive_is_refused(sigma):
    with pytest.raises(ContentError, match="must be positive"):
        gaussian_dos(np.zeros(1), np.ones(1), sigma=sigma)


# --- projection -----------------------------------------------------------------------------------------------------------


def bands(seed, n_atoms=2, n_kpoints=5, n_valence=3, n_empty=2):
    """Two valence bands below a gap of 1 eV; the projections of each state sum to 1 over the atoms."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.hstack([rng.uniform(-4, 0, (n_kpoints, n_valence)), rng.uniform(1, 3, (n_kpoints, n_empty))]) + 6
    projections = rng.random((n_atoms, n_kpoints, n_valence + n_empty))
    return np.sort(eigenvalues, axis=1), rng.uniform(0.5, 1, n_kpoints), projections / projections.sum(0)


@given(seeds)
def test_complete_projections_hold_all_electrons(seed):
    eigenvalues, weights, projections = bands(seed)
    result = project(eigenvalues, weights, projections, 6)
    assert result.electrons == pytest.approx(6)
    assert check_electrons(result.electrons, 6) is None
    assert result.highest_occupied == eigenvalues[:, :3].max()
    assert result.complete_below == pytest.approx(eigenvalues[:, -1].min() - result.highest_occupied - 2 * DEFAULT_SIGMA)
    below = DEFAULT_GRID.points < 0.5
    assert integral(result.dos.sum(0)[below], DEFAULT_GRID.points[below]) == pytest.approx(6, rel=0.08)
    assert integral(result.dos.sum(0), DEFAULT_GRID.points) == pytest.approx(10, abs=1e-4)


@given(seeds)
def test_projection_follows_its_atoms(seed):
    eigenvalues, weights, projections = bands(seed)
    straight, swapped = (project(eigenvalues, weights, p, 6) for p in (projections, projections[::-1]))
    np.testing.assert_allclose(straight.dos[::-1], swapped.dos)


def test_an_empty_projection_is_found_out():
    eigenvalues, weights, projections = bands(0)
    result = project(eigenvalues, weights, 0 * projections, 6)
    problem = check_electrons(result.electrons, 6)
    assert problem is not None
    assert "holds 0.00 of 6 electrons" in problem


@pytest.mark.parametrize(("electrons", "accepted"), [(9.1, True), (10.9, True), (8.9, False), (11.1, False), (math.nan, False)])
def test_electrons_are_accepted_within_ten_per_cent(electrons, accepted):
    assert (check_electrons(electrons, 10) is None) is accepted


def test_projections_of_other_bands_are_refused():
    eigenvalues, weights, projections = bands(0)
    for wrong in ((eigenvalues[:, 1:], weights), (eigenvalues, weights[1:])):
        with pytest.raises(ContentError, match="do not belong together"):
            project(*wrong, projections, 6)
