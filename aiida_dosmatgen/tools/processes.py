"""The processes below a campaign, from a few queries: what is called, since when, and how it ended."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from aiida import orm
from aiida.common import LinkType

ENDED = {"finished", "excepted", "killed"}
"""The states of a process that is over."""


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
        return self.state in ENDED

    @property
    def ended_well(self) -> bool:
        """Whether it is over, and its exit status is 0."""
        return self.state == "finished" and self.exit_status == 0

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return ((self.end if self.ended else datetime.datetime.now(datetime.timezone.utc)) - self.begin).total_seconds()


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
