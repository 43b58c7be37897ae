"""Calibration: from the spread of an ensemble to expected errors.

Networks that were trained alike agree more than they are right: by how much is measured on crystals that none has seen, and by
which no epoch was chosen either. Of a density of states each bin is a residual of its own (:func:`calibrate_bins`): a mean over
hundreds of them is below any single standard deviation nearly always, and says nothing of it.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm, spearmanr

MAE_OF_STD = math.sqrt(2 / math.pi)
"""Mean absolute value of a normal deviate of standard deviation 1."""

_SMALLEST = 1e-12
_ONE = float(norm.cdf(1) - norm.cdf(-1))  # share of normal errors within one standard deviation
_FOLDS = 5
_WIDEST_FLOOR = 10.0  # in units of the mean spread


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How spreads and errors compare.

    :param factor: by which spreads have to be multiplied to be standard deviations of the errors.
    :param within_std: share of the crystals whose error is below the stated standard deviation, with the factor of the
        *other* groups each; NaN if there is one group only. 0.68 for single normal errors.
    :param within_std_before: the same share without any factor.
    :param rank_correlation: Spearman's, of spreads and errors; NaN if one of them does not vary.
    """

    factor: float
    within_std: float
    within_std_before: float
    rank_correlation: float

    def metrics(self, name: str) -> dict[str, float]:
        """Return the numbers by name, without those that are not known."""
        values = {
            f"{name}_calibration": self.factor,
            f"{name}_within_std": self.within_std,
            f"{name}_within_std_uncalibrated": self.within_std_before,
            f"{name}_uncertainty_rank_correlation": self.rank_correlation,
        }
        return {k: v for k, v in values.items() if math.isfinite(v)}


def calibrate(errors: np.ndarray, spreads: np.ndarray, groups: np.ndarray) -> Calibration | None:
    """Compare the absolute errors of held-out crystals with the spreads stated for them.

    The factor makes the mean of the stated absolute errors, √(2/π) times the deviations, that of the actual ones. Ratios of
    single crystals have no part in it: where members happen to agree they are without bound.

    :param errors: absolute errors, or mean absolute errors, of C crystals; NaN where unknown, shape (C,).
    :param spreads: standard deviations of the members, shape (C,).
    :param groups: crystals of one group have related errors, and are no test of each other, shape (C,).
    :return: None if no spread and error can be compared.
    """
    known = np.isfinite(errors) & np.isfinite(spreads)
    errors, spreads, groups = errors[known], spreads[known], groups[known]
    if not len(errors) or not spreads.sum() > _SMALLEST:
        return None

    def factor_of(chosen: np.ndarray) -> float:
        return float(errors[chosen].sum() / max(MAE_OF_STD * spreads[chosen].sum(), _SMALLEST))

    within = np.full(len(errors), np.nan)
    for group in np.unique(groups):
        own = groups == group
        if not own.all():
            within[own] = errors[own] <= factor_of(~own) * spreads[own]
    varied = np.ptp(errors) > 0 and np.ptp(spreads) > 0
    return Calibration(
        factor=factor_of(np.ones(len(errors), dtype=bool)),
        within_std=float(within.mean()),
        within_std_before=float((errors <= spreads).mean()),
        rank_correlation=float(spearmanr(errors, spreads).statistic) if varied else math.nan,
    )


@dataclasses.dataclass(frozen=True)
class BinCalibration:
    """How the residuals of single bins compare with what is stated for them, factor · √(spread² + floor²).

    :param factor: so that as many bins are within the stated deviation as of normal errors, 68 %.
    :param floor: what bins deviate by in which the members happen to agree, in the units of the spreads.
    :param mae: the mean absolute error over the mean of the stated deviations; √(2/π) for normal errors.
    :param within: shares of the bins within one and two stated deviations, by factor and floor of *other* groups; NaN if
        there is one group only. 0.68 and 0.95 for normal errors.
    :param within_before: the former for the spread as it is.
    :param rank_correlation: Spearman's, of the mean absolute errors of the crystals and what is stated for them.
    """

    factor: float
    floor: float
    mae: float
    within: tuple[float, float]
    within_before: float
    rank_correlation: float

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name, without those that are not known."""
        values = {
            "dos_calibration": self.factor,
            "dos_floor": self.floor,
            "dos_bins_within_std": self.within[0],
            "dos_bins_within_two_std": self.within[1],
            "dos_bins_within_std_uncalibrated": self.within_before,
            "dos_uncertainty_rank_correlation": self.rank_correlation,
        }
        return {k: v for k, v in values.items() if math.isfinite(v)}


def calibrate_bins(
    residuals: np.ndarray, spreads: np.ndarray, novelty: np.ndarray, crystals: np.ndarray, groups: np.ndarray
) -> BinCalibration | None:
    """Compare the residuals of bins with the spreads stated for them; each crystal counts as much as any other.

    :param residuals: absolute, in states/eV, shape (R,).
    :param spreads: standard deviations of the members, shape (R,).
    :param novelty: factors of the surroundings of the atoms (:mod:`.novelty`), shape (R,).
    :param crystals: the crystal of each, counted from zero, shape (R,).
    :param groups: of the crystals; those of one group have related errors, and are no test of each other, shape (C,).
    :return: None if there is nothing to compare.
    """
    if not len(residuals) or not spreads.sum() > _SMALLEST:
        return None
    weights = 1 / np.bincount(crystals, minlength=len(groups))[crystals]
    folds = np.unique(groups, return_inverse=True)[1] % _FOLDS
    within: np.ndarray = np.full((2, len(residuals)), np.nan)
    for fold in np.unique(folds):
        own = folds[crystals] == fold
        if not own.all():
            factor, floor = _fit(residuals[~own], spreads[~own], novelty[~own], weights[~own])
            stated = factor * novelty[own] * np.hypot(spreads[own], floor)
            within[:, own] = residuals[own] <= np.array([[1.0], [2.0]]) * stated
    factor, floor = _fit(residuals, spreads, novelty, weights)
    stated = factor * novelty * np.hypot(spreads, floor)
    errors, expected = (np.bincount(crystals, weights * values) for values in (residuals, stated))
    varied = np.ptp(errors) > 0 and np.ptp(expected) > 0
    shares = (within * weights).sum(1) / weights.sum()
    return BinCalibration(
        factor=factor,
        floor=floor,
        mae=float(errors.sum() / expected.sum()),
        within=(float(shares[0]), float(shares[1])),
        within_before=float(((residuals <= novelty * spreads) * weights).sum() / weights.sum()),
        rank_correlation=float(spearmanr(errors, expected).statistic) if varied else math.nan,
    )


def _fit(residuals: np.ndarray, spreads: np.ndarray, novelty: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return factor and floor: the floor of the largest likelihood of exponential residuals, the factor by their quantile."""
    unit = float((weights * spreads).sum() / weights.sum())

    def cost(floor: float) -> float:
        stated = novelty * np.hypot(spreads, floor * unit)
        scale = (weights * residuals / stated).sum() / weights.sum()  # the best one at this floor
        return float((weights * np.log(stated)).sum() / weights.sum() + math.log(scale))

    floor = unit * float(minimize_scalar(cost, bounds=(1e-3, _WIDEST_FLOOR), method="bounded").x)
    ratios = residuals / (novelty * np.hypot(spreads, floor))
    order = np.argsort(ratios)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(max(ratios[order][min(np.searchsorted(share, _ONE), len(order) - 1)], _SMALLEST)), floor
