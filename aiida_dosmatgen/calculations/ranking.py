"""The final order of candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.curves import Curves
from ..core.errors import ContentError
from ..core.target import DosTarget
from ..core.target.distances import rank_key
from ..core.target.target import named


def ranked(
    rows: Iterable[Mapping[str, Any]],
    scores: Mapping[int, Mapping[str, Any]],
    reasons: Mapping[int, str],
) -> list[dict[str, Any]]:
    """Return rows in final order: validated ones by DFT distance, then those not validated, then the failed ones.

    :param rows: the screening's ranking, best first, each with its ``candidate``.
    :param scores: DFT score of candidates.
    :param reasons: why candidates have none.
    :raises ContentError: for scores or reasons of candidates that are not in the ranking.
    """
    known = [int(row["candidate"]) for row in rows]
    stray = sorted((set(scores) | set(reasons)) - set(known))
    if stray:
        raise ContentError(f"candidate {stray[0]} has a score or a reason, but is not in the ranking")
    entries = []
    for place, row in enumerate(rows):
        candidate = int(row["candidate"])
        entry = {k: v for k, v in row.items() if k != "rank"}
        if candidate in scores:
            key: tuple[int, float, int] = (0, rank_key(scores[candidate]), place)
            entry |= {"status": "validated", "dft": dict(scores[candidate])}
        elif candidate in reasons:
            key = (2, 0.0, place)
            entry |= {"status": "failed", "reason": reasons[candidate]}
        else:
            key = (1, 0.0, place)
            entry |= {"status": "not validated"}
        entries.append((key, entry))
    entries.sort(key=lambda pair: pair[0])
    return [{"rank": i, **entry} for i, (_, entry) in enumerate(entries, 1)]


def over_common_window(
    curves: Mapping[int, Curves], target: DosTarget
) -> tuple[dict[str, float] | None, dict[int, dict[str, Any]]]:
    """Compare several crystals with a target over the energies that are known of all of them.

    Wishes have energies of their own; they are not looked at again, and if there is no curve, nothing is compared.

    :param curves: by candidate.
    :return: ``low`` and ``high`` of the window in eV, and the distances of each as :meth:`.DosTarget.distances` gives them;
        None and no distances if there is no such window.
    """
    if target.only_wishes:
        return None, {}
    try:
        own = [target.compared(one) for one in curves.values()]
        window = max(one.low for one in own), min(one.high for one in own)
        distances = {candidate: named(target.compared(one, window)) for candidate, one in curves.items()}
    except ContentError:
        return None, {}
    for one in distances.values():
        one["compared_below"] = one["high"]
    return {"low": window[0], "high": window[1]}, distances
