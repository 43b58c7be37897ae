"""Figures with their intervals and bars: means over targets, bootstrapped over targets."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import DegenerateDataWarning, spearmanr
from scipy.stats import bootstrap as scipy_bootstrap

DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of the report.

    :param n: how many independent things it is taken over, and what they are called.
    :param bar: what it must not exceed (``below``) or fall short of (not ``below``); None if it is only stated.
    :param interval: 95 %, by the bootstrap; None if there is none.
    """

    name: str
    title: str
    value: float | None
    n: int
    of: str
    bar: float | None = None
    below: bool = True
    interval: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar, False without a value."""
        if self.bar is None:
            return None
        if self.value is None:
            return False
        return self.value <= self.bar if self.below else self.value >= self.bar

    def row(self, seed: int) -> dict[str, Any]:
        """Return the figure as JSON."""
        missed = None
        if self.met is False and self.value is not None and self.bar is not None:
            missed = abs(self.value - self.bar)
        return {
            "title": self.title,
            "value": self.value,
            "interval_95": None if self.interval is None else list(self.interval),
            "bar": self.bar,
            "better": "below" if self.below else "above",
            "met": self.met,
            "missed_by": missed,
            "n": self.n,
            "of": self.of,
            "seed": seed,
        }


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int, draws: int = DRAWS) -> tuple[float, float] | None:
    """Return the 95 % interval of a statistic of n things: percentiles of a bootstrap (:func:`scipy.stats.bootstrap`).

    :param statistic: of the indices drawn, shape (n,).
    :return: None for fewer than three things, which tell nothing of their spread.
    """
    if n < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # all alike: the interval is a point
        found = scipy_bootstrap(
            (np.arange(n),), lambda drawn: statistic(np.asarray(drawn)), n_resamples=draws, vectorized=False,
            confidence_level=0.95, method="percentile", rng=np.random.default_rng(seed),
        )  # fmt: skip
    values = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])  # those of scipy, but for draws that have no statistic
    return float(low), float(high)


def ratio(ours: np.ndarray, theirs: np.ndarray, seed: int) -> tuple[float | None, tuple[float, float] | None]:
    """Return mean(ours) / mean(theirs) over targets, and its interval; the two are paired, shape (n_targets,) each."""
    known = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[known], theirs[known]
    if not len(ours) or not theirs.mean() > 0:
        return None, None
    return float(ours.mean() / theirs.mean()), bootstrap(lambda i: ours[i].mean() / theirs[i].mean(), len(ours), seed)


def mean(values: np.ndarray, seed: int) -> tuple[float | None, tuple[float, float] | None]:
    """Return the mean of what is finite, and its interval."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    return float(values.mean()), bootstrap(lambda i: values[i].mean(), len(values), seed)


def rank_correlation(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Return Spearman's correlation, and its interval with whole groups drawn together, shape (n,) each."""

    def spearman(chosen: np.ndarray) -> float:
        if len(chosen) < 3 or np.ptp(a[chosen]) == 0 or np.ptp(b[chosen]) == 0:
            return math.nan
        return float(spearmanr(a[chosen], b[chosen]).statistic)

    known = np.isfinite(a) & np.isfinite(b)
    a, b, groups = a[known], b[known], groups[known]
    value = spearman(np.arange(len(a)))
    if not math.isfinite(value):
        return None, None
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    interval = bootstrap(lambda i: spearman(np.concatenate([members[k] for k in i])), len(members), seed, 500)
    return value, interval
