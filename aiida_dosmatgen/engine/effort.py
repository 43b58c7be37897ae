"""What a computation costs: time by the clock, and time on all cores together."""

from __future__ import annotations

import os
from collections.abc import Mapping


def cpu_seconds() -> float:
    """Return the seconds that this process and those it waited for have spent on all cores together."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def effort_of(*histories: Mapping[str, list]) -> dict[str, float]:
    """Return ``seconds`` and ``cpu_seconds`` of all epochs of trainings, those of earlier runs included.

    :param histories: lists with one entry for each epoch; those without the two lists count nothing.
    """
    return {name: round(sum(sum(one.get(name, ())) for one in histories), 1) for name in ("seconds", "cpu_seconds")}
