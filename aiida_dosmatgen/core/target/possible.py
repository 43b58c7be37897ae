"""Wishes that no crystal can grant: each alone, or two of them together. A campaign for them would compute in vain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..errors import ContentError
from .wishes import BandCentre, BandWidth, Gap, Nothing, Peak, States, Wish, accepted_by

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
    if isinstance(one, Gap) and accepted_by(one)[0] > _WIDEST_GAP:
        return f"no crystal has a gap of more than {_WIDEST_GAP:g} eV"
    if isinstance(one, States) and accepted_by(one)[0] > _MOST * max(1.0, high - low):
        return "no atom has as many states; they are counted for each atom, not for the cell"
    if isinstance(one, Nothing) and one.channel is None and low <= _VALENCE and high >= 0:
        return "it leaves no room for the valence electrons"
    if isinstance(one, BandCentre):
        first, last = accepted_by(one)
        if last < low or first > high:
            return f"the centre of states from {low:g} to {high:g} eV is between these"
    if isinstance(one, BandWidth) and accepted_by(one)[0] > (high - low) / 2:
        return f"states from {low:g} to {high:g} eV have a root of the second moment of at most {(high - low) / 2:g} eV"
    return None


def _exclude(one: Wish, other: Wish) -> bool:
    """Say whether what two wishes accept of the same thing has nothing in common."""
    if isinstance(one, Gap) and isinstance(other, Nothing) and other.channel is None:
        return other.low <= 0 and other.high > accepted_by(one)[1] + _SMEARED
    numbers = Gap | States | BandCentre | BandWidth
    if not isinstance(one, numbers) or not isinstance(other, numbers) or type(one) is not type(other):
        return False
    if any(getattr(one, key, None) != getattr(other, key, None) for key in ("low", "high", "channel")):
        return False
    first = accepted_by(one)
    second = accepted_by(other)
    return max(first[0], second[0]) > min(first[1], second[1])
