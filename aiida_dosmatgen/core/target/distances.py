"""One number for how well a crystal has what is asked for, be it a curve, wishes, or both.

distance = mae + ONE_MISS·Σ_i w_i·m_i, with the mean absolute difference from the curve in states/eV/atom, if there is a curve,
and m_i by how many tolerances wish i, of weight w_i, is missed. A wish of which nothing is known counts as missed by one
tolerance, and is never met. Screening, scores and rankings go by this number, and so does what is shown of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..curves import Curves
from .wishes import Wish

ONE_MISS = 0.1
"""States/eV/atom: a wish of weight 1 that is missed by one tolerance counts as much as a curve that far from the target."""

_UNKNOWN = 1.0  # tolerances


def measured_wishes(wishes: Sequence[Wish], curves: Curves, n_atoms: int | None = None) -> dict[str, Any]:
    """Return how far curves are from wishes, JSON values only.

    :return: ``wishes``, one dictionary each: ``wish`` (its text), ``value`` (None if it is not known) in ``unit``, ``met``
        (None if that is not known), ``missed_by`` in the same unit, and ``note`` if there is one; and ``missed``, the sum of
        weight·missed_by/tolerance, in which unknown ones count as one tolerance.
    """
    rows: list[dict[str, Any]] = []
    missed = 0.0
    for one in wishes:
        found = one.measure(curves, n_atoms)
        missed += one.weight * (_UNKNOWN if found.missed_by is None else found.missed_by / one.tolerance)
        row = {"wish": str(one), "value": found.value, "unit": one.UNIT, "met": found.met, "missed_by": found.missed_by}
        rows.append({**row, "note": found.note} if found.note else row)
    return {"wishes": rows, "missed": missed}


def with_distance(score: Mapping[str, Any]) -> dict[str, Any]:
    """Return a score of a target with wishes with ``distance``, the number by which it is ranked; any other as it is."""
    if "missed" not in score:
        return dict(score)
    return {**score, "distance": (score.get("mae") or 0.0) + ONE_MISS * score["missed"]}


def distance_of(score: Mapping[str, Any]) -> float | None:
    """Return the number by which a crystal is ranked, in states/eV/atom; None if there is none.

    :param score: what :meth:`.DosTarget.distances` returned.
    """
    return score.get("distance", score.get("mae"))


def rank_key(score: Mapping[str, Any] | None) -> float:
    """Return :func:`distance_of` as a number to sort by: what has none comes last."""
    found = distance_of(score or {})
    return math.inf if found is None else float(found)


def in_short(rows: Iterable[Mapping[str, Any]], what: str = "") -> str:
    """Return how many wishes are met, as ``2 of 3``, and how many are not known.

    :param what: comes after the numbers, such as ``wishes``.
    """
    rows = list(rows)
    unknown = sum(row["met"] is None for row in rows)
    met = f"{sum(row['met'] is True for row in rows)} of {len(rows)}"
    return f"{met} {what}".rstrip() + (f" ({unknown} not known)" if unknown else "")


def in_words(row: Mapping[str, Any]) -> str:
    """Return what became of one wish, as ``1.23 eV, missed by 0.27``."""
    note = f" ({row['note']})" if row.get("note") else ""
    if row["met"] is None:
        return row.get("note") or "not known"
    value = "" if row["value"] is None else f"{row['value']:.2f} {row['unit']}, "
    return f"{value}{'met' if row['met'] else f'missed by {_length(row)}'}{note}"


def _length(row: Mapping[str, Any]) -> str:
    return f"{row['missed_by']:.2f} {row['unit']}" if row["value"] is None else f"{row['missed_by']:.2f}"
