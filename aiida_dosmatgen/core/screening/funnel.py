"""The criteria in the order of the funnel: :func:`.screen`, :func:`.thin`, the counts and the reports walk this table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from . import filters
from .candidates import Candidates

Filter = Callable[[Candidates, list[int]], Mapping[int, str] | None]
"""From candidates and some of their rows to the reason of each row that fails; None if the criterion is not asked for."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What a candidate can fall to.

    :param name: in funnels and in files.
    :param label: what those are that pass, in reports.
    :param failing: says which rows fail; None of a criterion that only :func:`.thin` knows, which counts all the same.
    :param needs: what there must be before: ``relaxation``, and rows are relaxed geometries; ``prediction``, and rows are the
        geometries that are compared with the target; ``ranking``, and rows are relaxed geometries, best first. :func:`.thin`
        applies what needs a relaxation before it predicts anything, and leaves to :func:`.screen` what needs a ranking, but
        for duplicates and the number that is ranked.
    """

    name: str
    label: str
    failing: Filter | None
    needs: Literal["relaxation", "prediction", "ranking"] = "relaxation"


CRITERIA = (
    Criterion("valid", "valid crystals", filters.invalid),
    Criterion("converged", "relaxation converged", filters.unconverged),
    Criterion("formation energy", "energy within limits", filters.unstable),
    Criterion("hull", "close to the hull", filters.above_hull),
    Criterion("near", "near the target at a first look", None, "prediction"),
    Criterion("predicted", "DOS predicted", filters.unpredicted, "prediction"),
    Criterion("close", "predicted close to the target", filters.far, "prediction"),
    Criterion("certain", "certain prediction", filters.uncertain, "prediction"),
    Criterion("unique", "unique", filters.duplicate, "ranking"),
    Criterion("novel", "novel", filters.known),  # needs no prediction, so that thin leaves known ones out before it
    Criterion("best", "ranked", filters.beyond_the_best, "ranking"),
)

ALL = "candidates"
"""The first entry of a funnel."""

LABELS = {ALL: "sampled", **{criterion.name: criterion.label for criterion in CRITERIA}}
"""What the entries of a funnel are called in reports."""


def counted(total: int, fallen: Mapping[str, int]) -> dict[str, int]:
    """Return the funnel: how many are left after each criterion that was applied, all candidates first.

    :param fallen: how many fell to each; criteria that are not in the table come last.
    """
    places = {criterion.name: place for place, criterion in enumerate(CRITERIA)}
    funnel = {ALL: total}
    for name in sorted(fallen, key=lambda name: places.get(name, len(places))):
        funnel[name] = total = total - fallen[name]
    return funnel
