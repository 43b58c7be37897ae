"""Which of the ranked candidates are computed by DFT, and why: score against uncertainty against diversity."""

from __future__ import annotations

import dataclasses

import numpy as np
from pydantic import Field

from ..strict import Strict

_ROUNDING = 1e-9  # 0.1 · 10 places are one place


class SelectionWeights(Strict):
    """How much the score of a candidate may be worse than another's for it to be taken before it.

    Candidates are taken one by one, each time the one with the smallest value of
    score + uncertainty · u − diversity · d, with u the expected error of its predicted DOS and d the distance of its predicted
    DOS from the nearest one that is taken already, all in states/eV/atom. Both weights 0 take the first of the ranking.

    A share of the places, ``exploration``, goes to what would be learnt from instead: to the largest u + d, whatever its score.
    They are spread evenly, and the first place is not among them unless all are.

    The defaults are small because ``benchmarks/selection.py`` finds the best crystals with small ones: an uncertain prediction
    is more often too good than too bad, so that looking for uncertain candidates (a negative weight) costs more than it finds.

    :param uncertainty: weight of u; below 0 it explores.
    :param diversity: weight of d: candidates that differ from those taken, whose predictions fail in other ways.
    :param exploration: share of the candidates that are taken for what they teach.
    """

    uncertainty: float = 0.15
    diversity: float = Field(0.1, ge=0)
    exploration: float = Field(0.0, ge=0, le=1)


@dataclasses.dataclass(frozen=True)
class Selected:
    """One candidate that is taken.

    :param place: its place in the ranking, from 0.
    :param reason: why it was taken before the others, in one line.
    """

    place: int
    reason: str


def select(
    scores: np.ndarray,
    uncertainties: np.ndarray,
    curves: np.ndarray | None,
    count: int,
    weights: SelectionWeights | None = None,
) -> list[Selected]:
    """Take up to ``count`` candidates.

    :param scores: of the ranked candidates, the lowest is the best, shape (N,); infinite ones come last.
    :param uncertainties: expected mean absolute error of each predicted DOS in states/eV/atom, shape (N,); NaN counts as 0.
    :param curves: the predicted DOS, mean of a candidate's atoms, shape (N, n); None if there is none.
    :return: in the order in which they were taken.
    """
    weights = weights or SelectionWeights()
    scores = np.asarray(scores, dtype=np.float64)
    expected = np.nan_to_num(np.asarray(uncertainties, dtype=np.float64), nan=0.0)
    careful = scores + weights.uncertainty * expected
    nearest = np.full(len(scores), np.inf)  # of those taken
    left = np.ones(len(scores), dtype=bool)
    taken: list[Selected] = []

    def best(values: np.ndarray) -> int:
        """The first of the lowest among those left."""
        places = np.flatnonzero(left)
        return int(places[np.argmin(values[places])])

    while left.any() and len(taken) < count:
        apart = nearest if curves is not None and taken else np.zeros(len(scores))
        exploring = int(weights.exploration * (len(taken) + 1) + _ROUNDING) > int(weights.exploration * len(taken) + _ROUNDING)
        place = best(-expected - apart) if exploring else best(careful - weights.diversity * apart)
        if exploring:
            reason = f"to learn from: its DOS is uncertain by {expected[place]:.3g} states/eV/atom"
            reason += f", and differs from those taken by {apart[place]:.3g} or more" if apart[place] > 0 else ""
        elif place == best(scores):
            reason = "best score" if not taken else "best score of those left"
        elif place == best(careful):
            sure = "surer than better ones" if weights.uncertainty > 0 else "may be better than its score"
            reason = f"{sure}: its DOS is uncertain by {expected[place]:.3g} states/eV/atom"
        else:
            reason = f"unlike those taken: its DOS differs by {apart[place]:.3g} states/eV/atom or more"
        taken.append(Selected(place, reason))
        left[place] = False
        if curves is not None:
            nearest = np.minimum(nearest, np.abs(curves - curves[place]).mean(-1))
    return taken
