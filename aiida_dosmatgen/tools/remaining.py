"""How long a campaign will still take, estimated from how long its parts took before.

For ``candidates`` chains, that is what earlier ones with the same code took: the seconds that the executable says it computed
grow with the number of candidates, the rest (queue, transfers, start) does not. For validations it is the mean of those of this
campaign that have ended, or of earlier ones with the same ``pw.x``. Nothing is asked of the machines where jobs run. Queries
are read to their end at once: ``iterall`` holds a transaction open, for which writers to sqlite would have to wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import Any

from aiida import orm

from .processes import Process

_AT_A_TIME = 2  # if none is there yet
_EARLIER = 20  # that are looked at, the newest ones


def seconds_left(campaign: orm.WorkChainNode, below: list[Process]) -> float | None:
    """Return an estimate of the seconds until the end, or None if nothing like it has ended before."""
    chains = {p.call.removeprefix("candidates_"): p for p in below if p.call.startswith("candidates_")}
    validations = [p for p in below if p.name == "ValidateWorkChain"]
    candidates_left = _candidates_left(campaign, chains)
    if candidates_left is None:
        return None
    top_k = campaign.inputs.top_k.value
    if top_k == 0:
        return candidates_left
    planned = sum(_planned(campaign, name, chains.get(name), top_k) for name in campaign.inputs.targets)
    left = planned - sum(p.ended for p in validations)
    if left <= 0:
        return candidates_left
    each = _of_a_validation(campaign, validations)
    if each is None:
        return None
    begun = sum(min(p.seconds, each) for p in validations if not p.ended)
    work = max(left * each - begun, 0.0)
    return candidates_left + work / min(_at_a_time(validations), left)


def _planned(campaign: orm.WorkChainNode, name: str, chain: Process | None, top_k: int) -> int:
    """Return how many candidates of a target DFT computes: the most there can be, as long as they are not screened."""
    if chain is None or not chain.ended:
        return top_k
    survivors = (
        campaign.outputs.candidates[name] if "candidates" in campaign.outputs and name in campaign.outputs.candidates else None
    )
    return 0 if survivors is None else min(top_k, survivors.base.attributes.get("n_crystals"))


def _candidates_left(campaign: orm.WorkChainNode, chains: dict[str, Process]) -> float | None:
    """Return the seconds until all targets have candidates."""
    waiting = [name for name in campaign.inputs.targets if name not in chains]
    running = [chain for chain in chains.values() if not chain.ended]
    if not waiting and not running:
        return 0.0
    whole = _of_candidates(campaign)
    if whole is None:
        return None
    work = len(waiting) * whole + sum(max(whole - chain.seconds, 0.0) for chain in running)
    return work / min(_at_a_time(list(chains.values())), len(waiting) + len(running))


def _at_a_time(children: list[Process]) -> int:
    """Return how many children are worked on at a time: as many as are now. The input ``max_concurrent`` is not on record."""
    return sum(not child.ended for child in children) or _AT_A_TIME


def _of_candidates(campaign: orm.WorkChainNode) -> float | None:
    """Return the seconds that a ``candidates`` chain of this campaign takes as a whole."""
    query = _with_code(campaign.inputs.candidates.sample.code, "dosmatgen.candidates")
    query.append(orm.Int, with_outgoing="chain", edge_filters={"label": "n_candidates"}, project="attributes.value")
    earlier = {pk: ((end - begin).total_seconds(), count) for begin, end, pk, count in query.all()}
    if not earlier:
        return None
    computed = _computed(list(earlier))
    wanted = campaign.inputs.candidates.n_candidates.value
    return mean(
        max(seconds - computed.get(pk, 0.0), 0.0) + computed.get(pk, 0.0) * wanted / count
        for pk, (seconds, count) in earlier.items()
    )


def _computed(chains: list[int]) -> dict[int, float]:
    """Return the seconds that the jobs of chains say they computed, by the pk of the chain."""
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"id": {"in": chains}}, tag="chain", project="id")
    query.append(orm.WorkChainNode, with_incoming="chain", tag="base")
    query.append(orm.CalcJobNode, with_incoming="base", tag="job")
    query.append(orm.Dict, with_incoming="job", edge_filters={"label": "results"}, project="attributes.seconds")
    sums: dict[int, float] = {}
    for pk, seconds in query.all():
        sums[pk] = sums.get(pk, 0.0) + seconds
    return sums


def _of_a_validation(campaign: orm.WorkChainNode, here: list[Process]) -> float | None:
    ended = [validation.seconds for validation in here if validation.ended_well]
    if ended:
        return mean(ended)
    query = _with_code(_pw_code(campaign), "dosmatgen.validate")
    return _mean((end - begin).total_seconds() for begin, end, _ in query.all())


def _pw_code(campaign: orm.WorkChainNode) -> orm.AbstractCode:
    validate = campaign.inputs.validate
    return validate.dos.pw.pw.code if "dos" in validate else validate.pdos.nscf.pw.code  # the latter before version 0.3


def _with_code(code: orm.AbstractCode, entry_point: str) -> orm.QueryBuilder:
    """Return a query for begin and end of the newest chains of a kind that ended well and used a code."""
    query = orm.QueryBuilder().append(orm.AbstractCode, filters={"id": code.pk}, tag="code")
    filters: dict[str, Any] = {"process_type": f"aiida.workflows:{entry_point}", "attributes.exit_status": 0}
    query.append(orm.WorkChainNode, with_incoming="code", filters=filters, project=["ctime", "mtime", "id"], tag="chain")
    return query.order_by({"chain": {"id": "desc"}}).distinct().limit(_EARLIER)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return mean(found) if found else None
