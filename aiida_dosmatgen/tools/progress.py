"""The progress of a campaign in one line, and waiting for its end."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from aiida import orm
from aiida.common import LinkType

from ..data.base import pk_of
from .patience import patiently

STAGES = {
    "SampleCalculation": "sampling",
    "RelaxCalculation": "relaxing",
    "ReferencesCalculation": "relaxing the elements",
    "PredictCalculation": "predicting",
    "TrainCalculation": "training",
    "PwCalculation": "pw.x",
    "ProjwfcCalculation": "projwfc.x",
    "DosCalculation": "dos.x",
}
"""What a job does, by the name of its class."""

_SHARE_OF_TIME, _LONGEST_PAUSE = 0.02, 30.0  # s; nobody minds to learn of the end that late
_SECONDS_BETWEEN_QUESTIONS = 15.0


def progress(campaign: orm.WorkChainNode) -> str:
    """Say what runs now and how far the validations are."""
    processes = campaign.called_descendants
    running = Counter(
        STAGES.get(node.process_label or "", node.process_label)
        for node in processes
        if isinstance(node, orm.CalcJobNode) and not node.is_terminated
    )
    parts = [f"{stage} ({count} {'job' if count == 1 else 'jobs'})" for stage, count in running.items()]
    calls = sorted(campaign.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all(), key=lambda link: pk_of(link.node))
    latest = {link.link_label: link.node for link in calls}  # the last of each call: others were interrupted and begun again
    validations = [node for node in latest.values() if node.process_label == "ValidateWorkChain"]
    if validations:
        ended = sum(node.is_terminated for node in validations)
        failed = sum(node.is_terminated and not node.is_finished_ok for node in validations)
        parts.append(
            f"validations: {ended} of {len(validations)} started ones ended" + (f", {failed} failed" if failed else "")
        )
    return "; ".join(parts) or "between two steps"


def wait(
    campaign: orm.WorkChainNode,
    interval: float = 4.0,
    stream: TextIO = sys.stderr,
    still_possible: Callable[[], str | None] = lambda: None,
) -> bool:
    """Wait until a campaign has ended, and print a line whenever something changes, or every minute.

    Looks get rarer the longer it takes, up to one each half minute, and are thorough only if a process of the profile changed:
    a campaign of hours is not to be slowed down by who watches it.

    :param interval: seconds between two looks, at first.
    :param still_possible: says why waiting is in vain, or None; the line is printed once each time it changes.
    :return: False if the user interrupted; the campaign continues to run.
    """
    begin, last, shown, asked = time.monotonic(), "", 0.0, -math.inf
    problem, seen, line = None, None, ""
    try:
        while not patiently(lambda: campaign.is_terminated):
            now, change = time.monotonic(), patiently(_last_change)
            if change != seen or not line:
                line, seen = patiently(lambda: progress(campaign)), change
            if now - asked > _SECONDS_BETWEEN_QUESTIONS:
                trouble, asked = still_possible(), now
                if trouble and trouble != problem:
                    print(trouble, file=stream, flush=True)
                problem = trouble
            if line != last or now - shown > 60:
                print(f"{clock(now - begin)}  {line}", file=stream, flush=True)
                last, shown = line, now
            time.sleep(max(interval, min((now - begin) * _SHARE_OF_TIME, _LONGEST_PAUSE)))
    except KeyboardInterrupt:
        return False
    return True


def _last_change() -> datetime | None:
    """Return when a process of the profile changed last."""
    query = orm.QueryBuilder().append(orm.ProcessNode, project="mtime", tag="process")
    return query.order_by({"process": {"mtime": "desc"}}).limit(1).first(flat=True)


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
