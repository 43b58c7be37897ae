"""The status of a campaign: finished, running and remaining steps, from a few queries."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter

from aiida import orm

from ..data.base import pk_of
from .processes import ENDED, Process, latest, processes_below
from .progress import STAGES
from .remaining import seconds_left


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
        return self.state in ENDED


def status(campaign: orm.WorkChainNode) -> CampaignStatus:
    """Return how far a campaign is."""
    own = campaign.process_state.value if campaign.process_state else "created"
    below = latest(processes_below(campaign))
    end = campaign.mtime if own in ENDED else datetime.datetime.now(datetime.timezone.utc)
    return CampaignStatus(
        pk=pk_of(campaign),
        state="paused" if campaign.paused and own not in ENDED else own,
        exit_status=campaign.exit_status,
        seconds=(end - campaign.ctime).total_seconds(),
        targets=[_target(campaign, name, below, own in ENDED) for name in sorted(campaign.inputs.targets)],
        jobs=jobs(below),
        seconds_left=0.0 if own in ENDED else seconds_left(campaign, below),
    )


def jobs(below: list[Process]) -> dict[str, int]:
    """Return how many jobs of each kind are under way."""
    return dict(Counter(STAGES.get(process.name, process.name) for process in below if process.is_job and not process.ended))


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
