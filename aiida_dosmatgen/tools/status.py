"""The status of a campaign: finished, running and remaining steps, from a few queries."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from typing import Any

from aiida import orm
from aiida.common import LinkType

from ..data.base import pk_of
from .progress import STAGES
from .remaining import seconds_left

_ENDED = {"finished", "excepted", "killed"}


@dataclasses.dataclass(frozen=True)
class Process:
    """A process below a campaign, and the label of the call."""

    pk: int
    caller: int
    call: str
    name: str
    is_job: bool
    state: str
    exit_status: int | None
    begin: datetime.datetime
    end: datetime.datetime

    @property
    def ended(self) -> bool:
        """Whether it is over, well or not."""
        return self.state in _ENDED

    @property
    def ended_well(self) -> bool:
        """Whether it is over, and its exit status is 0."""
        return self.state == "finished" and self.exit_status == 0

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return ((self.end if self.ended else datetime.datetime.now(datetime.timezone.utc)) - self.begin).total_seconds()


@dataclasses.dataclass(frozen=True)
class TargetStatus:
    """How far one target is.

    :param stage: in words.
    :param funnel: how many candidates were left after each criterion; empty before the screening.
    :param to_validate: how many candidates are computed by DFT; None before they are chosen.
    """

    name: str
    stage: str
    funnel: dict[str, int]
    to_validate: int | None
    validated: int
    failed: int
    running: int


@dataclasses.dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign is.

    :param jobs: how many jobs of each kind are under way.
    :param seconds_left: an estimate from what took how long before; None if nothing did.
    """

    pk: int
    state: str
    exit_status: int | None
    seconds: float
    targets: list[TargetStatus]
    jobs: dict[str, int]
    seconds_left: float | None

    @property
    def ended(self) -> bool:
        """Whether the campaign is over."""
        return self.state in _ENDED


def status(campaign: orm.WorkChainNode) -> CampaignStatus:
    """Return how far a campaign is."""
    own = campaign.process_state.value if campaign.process_state else "created"
    below = latest(processes_below(campaign))
    end = campaign.mtime if own in _ENDED else datetime.datetime.now(datetime.timezone.utc)
    return CampaignStatus(
        pk=pk_of(campaign),
        state="paused" if campaign.paused and own not in _ENDED else own,
        exit_status=campaign.exit_status,
        seconds=(end - campaign.ctime).total_seconds(),
        targets=[_target(campaign, name, below, own in _ENDED) for name in sorted(campaign.inputs.targets)],
        jobs=jobs(below),
        seconds_left=0.0 if own in _ENDED else seconds_left(campaign, below),
    )


def jobs(below: list[Process]) -> dict[str, int]:
    """Return how many jobs of each kind are under way."""
    return dict(Counter(STAGES.get(process.name, process.name) for process in below if process.is_job and not process.ended))


def processes_below(campaign: orm.ProcessNode) -> list[Process]:
    """Return all processes that a process called, and those that they called, level by level."""
    found: list[Process] = []
    front = [campaign.pk]
    while front:
        query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": front}}, tag="caller", project="id")
        query.append(
            orm.ProcessNode,
            with_incoming="caller",
            edge_filters={"type": {"in": [LinkType.CALL_WORK.value, LinkType.CALL_CALC.value]}},
            edge_project="label",
            project=[
                *("id", "node_type", "ctime", "mtime"),
                *(f"attributes.{name}" for name in ("process_label", "process_state", "exit_status")),
            ],
            tag="called",
        )
        query.order_by({"called": {"id": "asc"}})
        rows = [_process(row) for row in query.dict()]
        found += rows
        front = [process.pk for process in rows]
    return found


def latest(processes: list[Process]) -> list[Process]:
    """Return the last process of each call: what was interrupted and begun again counts once."""
    return list({(process.caller, process.call): process for process in processes}.values())


def _process(row: dict[str, dict[str, Any]]) -> Process:
    node = row["called"]
    return Process(
        pk=node["id"],
        caller=row["caller"]["id"],
        call=row["caller--called"]["label"],
        name=node["attributes.process_label"] or "",
        is_job="calcjob" in node["node_type"],
        state=node["attributes.process_state"] or "created",
        exit_status=node["attributes.exit_status"],
        begin=node["ctime"],
        end=node["mtime"],
    )


def _target(campaign: orm.WorkChainNode, name: str, below: list[Process], ended: bool) -> TargetStatus:
    chain = next((p for p in below if p.call == f"candidates_{name}"), None)
    # the name of a target may hold an underscore and be the beginning of another's
    validations = [p for p in below if p.name == "ValidateWorkChain" and p.call.rpartition("_")[0] == f"validate_{name}"]
    reports = campaign.outputs.reports if "reports" in campaign.outputs else {}
    funnel = reports[name].get_dict()["funnel"] if name in reports else {}
    survivors = list(funnel.values())[-1] if funnel else None
    to_validate = None if survivors is None else min(survivors, campaign.inputs.top_k.value)
    stage = "no candidates" if survivors == 0 else _stage(chain, validations, below, to_validate, ended)
    return TargetStatus(
        name=name,
        stage=stage,
        funnel=funnel,
        to_validate=to_validate,
        validated=sum(p.ended_well for p in validations),
        failed=sum(p.ended and not p.ended_well for p in validations),
        running=sum(not p.ended for p in validations),
    )


def _stage(
    chain: Process | None, validations: list[Process], below: list[Process], to_validate: int | None, ended: bool
) -> str:
    if chain is None:
        return "not begun" if ended else "waits"
    if not chain.ended:
        callers = {chain.pk} | {p.pk for p in below if p.caller == chain.pk}
        running = jobs([p for p in below if p.caller in callers])
        return ", ".join(running) or "between two steps"
    if not chain.ended_well:
        return "no candidates"
    if any(not p.ended for p in validations):
        return "validating"
    if ended:
        return "done"
    if to_validate is None:
        return "screened"
    # The targets take turns: one without a validation under way may still have some to come
    return "validating" if len(validations) < to_validate else "done"
