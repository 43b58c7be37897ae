"""Wishes that no crystal can grant: each alone, or two of them together. A campaign for them would compute in vain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..errors import ContentError
from .wishes import BandCentre, BandWidth, Gap, Nothing, Peak, States, Wish, _accepted

_LOWEST, _HIGHEST = -20.0, 20.0  # eV; no curve of this package is known beyond
_WIDEST_GAP = 20.0  # eV; solid helium and neon have the widest
_MOST = 36.0  # electrons per atom; no pseudopotential has more
_SMEARED = 0.5  # eV, by which broadened edges reach into a gap
_VALENCE = -15.0  # eV; a crystal that has no states from there to zero has no valence electrons


def check_possible(wishes: Sequence[Wish]) -> None:
    """Refuse wishes that no crystal can grant.

    :raises ContentError: naming the wish, or the two that exclude each other.
    """
    for one in wishes:
        reason = _impossible(one)
        if reason:
            raise ContentError(f"{str(one)!r} is never met: {reason}")
    for one, other in itertools.combinations(wishes, 2):
        if _exclude(one, other) or _exclude(other, one):
            raise ContentError(f"{str(one)!r} and {str(other)!r} exclude each other; leave one out")


def _impossible(one: Wish) -> str | None:
    low, high = (one.energy, one.energy) if isinstance(one, Peak) else (getattr(one, "low", 0.0), getattr(one, "high", 0.0))
    if low < _LOWEST or high > _HIGHEST:
        return f"curves are known from {_LOWEST:g} to {_HIGHEST:g} eV at most"
    if isinstance(one, Gap) and _accepted(one.relation, one.value, one.tolerance)[0] > _WIDEST_GAP:
        return f"no crystal has a gap of more than {_WIDEST_GAP:g} eV"
    if isinstance(one, States) and _accepted(one.relation, one.value, one.tolerance)[0] > _MOST * max(1.0, high - low):
        return "no atom has as many states; they are counted for each atom, not for the cell"
    if isinstance(one, Nothing) and one.channel is None and low <= _VALENCE and high >= 0:
        return "it leaves no room for the valence electrons"
    if isinstance(one, BandCentre):
        first, last = _accepted(one.relation, one.value, one.tolerance)
        if last < low or first > high:
            return f"the centre of states from {low:g} to {high:g} eV is between these"
    if isinstance(one, BandWidth) and _accepted(one.relation, one.value, one.tolerance)[0] > (high - low) / 2:
        return f"states from {low:g} to {high:g} eV have a root of the second moment of at most {(high - low) / 2:g} eV"
    return None


def _exclude(one: Wish, other: Wish) -> bool:
    """Say whether what two wishes accept of the same thing has nothing in common."""
    if isinstance(one, Gap) and isinstance(other, Nothing) and other.channel is None:
        return other.low <= 0 and other.high > _accepted(one.relation, one.value, one.tolerance)[1] + _SMEARED
    same = type(one) is type(other) and isinstance(one, Gap | States | BandCentre | BandWidth)
    where = ("low", "high", "channel")
    if not same or any(getattr(one, key, None) != getattr(other, key, None) for key in where):
        return False
    first = _accepted(one.relation, one.value, one.tolerance)  # type: ignore[attr-defined]
    second = _accepted(other.relation, other.value, other.tolerance)  # type: ignore[attr-defined]
    return max(first[0], second[0]) > min(first[1], second[1])
