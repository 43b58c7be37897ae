"""Calibration: from the spread of an ensemble to expected errors.

Networks that were trained alike agree more than they are right: by how much is measured on crystals that none has seen.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.stats import spearmanr

MAE_OF_STD = math.sqrt(2 / math.pi)
"""Mean absolute value of a normal deviate of standard deviation 1."""

_SMALLEST = 1e-12


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
