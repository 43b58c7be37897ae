"""Rounds of a loop: what the next one may spend, whether a checkpoint is kept, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..target.distances import rank_key
from .settings import LearnSettings

FIGURES = {
    "denoiser": ("loss",),
    "predictor": ("dos_mae", "formation_energy_mae"),
    "classifier": ("dos_mae",),
}
"""The figures on held-out crystals that decide about a checkpoint of each kind; the smaller the better."""

CURVES = "dos_mae"
"""The figure of a predictor that says how well the curves of held-out crystals are known."""


def verdict_on(kind: str, before: Mapping[str, Any], after: Mapping[str, Any], most_worse: float) -> dict[str, Any]:
    """Say whether a checkpoint is accepted.

    :param kind: of the model.
    :param before: figures of the checkpoint that it started from, on held-out crystals.
    :param after: its own, on the same crystals.
    :param most_worse: share by which a figure may be worse.
    :return: ``accepted``, ``reason``, and ``figures``: rows with ``figure``, ``before``, ``after`` and ``change`` (relative).
    """
    rows, worse = [], []
    for name in FIGURES[kind]:
        old, new = _number(before.get(name)), _number(after.get(name))
        if old is None and new is None:
            continue  # not known of these crystals
        change = None if old is None or new is None else (new - old) / max(abs(old), 1e-12)
        rows.append({"figure": name, "before": old, "after": new, "change": change})
        if new is None:
            worse.append(f"{name} could not be computed")
        elif change is not None and change > most_worse:
            worse.append(f"{name} got worse by {change:.1%}, from {old:.4g} to {new:.4g}")
    if not rows:
        worse.append("there is no figure to compare")
    better = "; ".join(f"{row['figure']} {row['before']:.4g} → {row['after']:.4g}" for row in rows if row["change"] is not None)
    reason = "; ".join(worse) or f"no figure got worse by more than {most_worse:.0%}: {better}"
    return {"accepted": not worse, "reason": reason, "figures": rows}


def plan(settings: LearnSettings, number: int, n_targets: int, spent: int) -> dict[str, int]:
    """Return the ``seed`` of a round, and ``top_k``: how many candidates of each target it may compute, 0 if none is left.

    Repeated runs are paid for first.

    :param number: of the round, counted from 1.
    :param spent: DFT runs of the rounds before.
    """
    left = settings.budget - spent - min(settings.repeats, max(settings.budget - spent - n_targets, 0))
    return {"seed": settings.seed + number - 1, "top_k": max(0, min(settings.top_k, left // n_targets))}


def distances(ranking: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the smallest DFT distance of each target of a ranking; None if nothing was validated.

    :param ranking: ``targets``: {name: rows} as campaigns return them.
    """
    found: dict[str, float | None] = {}
    for name, rows in ranking.get("targets", {}).items():
        best = min((rank_key(row.get("dft")) for row in rows if row.get("status") == "validated"), default=math.inf)
        found[name] = best if math.isfinite(best) else None
    return found


def best_so_far(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the smaller distance of each target."""
    best: dict[str, float | None] = {}
    for name in sorted({*before, *now}):
        known = [value for value in (before.get(name), now.get(name)) if value is not None]
        best[name] = min(known, default=None)
    return best


def gained(before: Mapping[str, float | None], after: Mapping[str, float | None], least: float) -> bool:
    """Say whether best distances fell by a share: their mean over the targets known before, or a target got its first.

    :param least: the share.
    """
    if any(before.get(name) is None and value is not None for name, value in after.items()):
        return True
    known = [(old, new) for name, old in before.items() if old is not None and (new := after.get(name)) is not None]
    old, new = sum(pair[0] for pair in known), sum(pair[1] for pair in known)
    return bool(known) and old > 0 and (old - new) / old >= max(least, 1e-12)


def stop_reason(settings: LearnSettings, rounds: Sequence[Mapping[str, Any]], n_targets: int) -> str | None:
    """Say why a loop ends after its last round, or None if there is to be another.

    :param rounds: all of them, each with ``spent`` (DFT runs of all rounds so far), ``distance_gained`` and ``curves_gained``.
    """
    last = rounds[-1]
    if len(rounds) >= settings.max_rounds:
        return f"{len(rounds)} rounds are done"
    if plan(settings, len(rounds) + 1, n_targets, last["spent"])["top_k"] == 0:
        return f"{last['spent']} of {settings.budget} DFT runs are spent; the rest is too little for another round"
    recent = rounds[-settings.patience :]
    if len(recent) == settings.patience:
        for rule, key, what in (
            (settings.distance_gain, "distance_gained", "the DFT distance of the targets"),
            (settings.curves_gain, "curves_gained", "the curves of held-out crystals"),
        ):
            if rule is not None and not any(one[key] for one in recent):
                times = "in the last round" if settings.patience == 1 else f"in {settings.patience} rounds in a row"
                return f"no gain on {what} {times}"
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
