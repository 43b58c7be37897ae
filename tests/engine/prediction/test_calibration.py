"""Calibration: the factor that was put in comes out, and the stated shares are those of crystals not fitted to."""

import math

import numpy as np
import pytest

from aiida_dosmatgen.engine.prediction.calibration import calibrate, calibrate_bins


def test_the_factor_is_found_and_covers_what_it_says():
    rng = np.random.default_rng(0)
    spreads = rng.uniform(0.1, 1, 4000)
    errors = np.abs(3.5 * spreads * rng.normal(size=4000))
    found = calibrate(errors, spreads, np.arange(4000) % 50)
    assert found.factor == pytest.approx(3.5, rel=0.05)
    assert found.within_std == pytest.approx(0.683, abs=0.02)
    assert found.within_std_before < 0.3
    assert 0.3 < found.rank_correlation < 0.8


def test_a_group_is_judged_by_the_others():
    # each group alone would have a factor that covers it; that of the other one does not, or covers it twice
    errors, spreads, groups = np.array([1.0, 1.0, 9.0, 9.0]), np.ones(4), np.array([0, 0, 1, 1])
    assert calibrate(errors, spreads, groups).within_std == 0.5
    assert calibrate(errors, spreads, np.zeros(4)).metrics("x").keys() == {"x_calibration", "x_within_std_uncalibrated"}


def test_crystals_without_an_error_do_not_count():
    errors, spreads = np.array([1.0, 2.0, math.nan, 5.0]), np.array([1.0, 2.0, 3.0, math.nan])
    found = calibrate(errors, spreads, np.arange(4))
    assert found.factor == pytest.approx(math.sqrt(math.pi / 2))
    assert found.rank_correlation == pytest.approx(1)


@pytest.mark.parametrize("errors, spreads", [([], []), ([1.0], [math.nan]), ([1.0, 2.0], [0.0, 0.0])])
def test_nothing_to_compare(errors, spreads):
    assert calibrate(np.array(errors), np.array(spreads), np.zeros(len(errors))) is None


def test_stated_deviations_hold_for_bins_of_other_groups():
    """Residuals that are normal with a deviation of 3·√(spread² + 0.2²)·novelty; the spread alone covers far fewer."""
    rng = np.random.default_rng(0)
    crystals = np.repeat(np.arange(60), 200)
    groups = np.array([f"group {i % 20}" for i in range(60)])
    spreads, novelty = rng.exponential(0.2, len(crystals)), rng.choice([1.0, 2.0], 60)[crystals]
    residuals = np.abs(rng.normal(0, 3 * novelty * np.hypot(spreads, 0.2)))
    found = calibrate_bins(residuals, spreads, novelty, crystals, groups)
    assert found.factor == pytest.approx(3, rel=0.1)
    assert found.floor == pytest.approx(0.2, rel=0.2)
    assert found.within == (pytest.approx(0.683, abs=0.02), pytest.approx(0.954, abs=0.01))
    assert found.within_before < 0.3
    assert found.mae == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert found.rank_correlation > 0.7
    assert calibrate_bins(residuals[:0], spreads[:0], novelty[:0], crystals[:0], groups[:0]) is None
