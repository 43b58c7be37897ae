"""``aiida-dosmatgen status``: what runs, how far it is, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from .campaigns import WORK_CHAIN, is_campaign, newest_campaign
from .group import Command


@click.command("status", cls=Command)
@click.argument("process", type=WORK_CHAIN, required=False)
@click.option("--once", is_flag=True, help="Look once, and do not wait for the end.")
@click.option("--wait", is_flag=True, help="Wait for the end also where the output is no terminal.")
@click.option("--pk", is_flag=True, help="Print the pk and nothing else.")
@click.option("--interval", type=click.FloatRange(0.2), default=4.0, show_default=True, help="Seconds between two looks.")
def status(process: Any, once: bool, wait: bool, pk: bool, interval: float) -> int:
    """Watch a campaign until its end: funnel, jobs under way, time left; then show its ranking.

    Without PROCESS it is the newest campaign; of other work chains the jobs under way are shown. Ctrl-C stops watching, and not
    the campaign. Where the output is no terminal, it looks once unless told to --wait.

    \b
    Example:
      aiida-dosmatgen status 1234
    """
    process = process or newest_campaign()
    if pk:
        click.echo(process.pk)
        return 0
    return watch(process, once, wait, interval)


def watch(process: Any, once: bool = False, wait: bool = True, interval: float = 4.0) -> int:
    """Show a process until it has ended, and then what came out of it; the exit status is 1 if it did not end well."""
    from rich.console import Console
    from rich.live import Live

    from ..tools import daemon
    from ..tools.hints import hints
    from ..tools.patience import patiently
    from ..tools.progress import wait as wait_for

    console = Console(highlight=False)
    draw = _campaign if is_campaign(process) else _process

    def view(node: Any) -> Any:
        return patiently(lambda: draw(node))

    if not once and wait and not console.is_terminal:
        wait_for(process, interval, sys.stdout, daemon.problem)
    if once or not console.is_terminal:
        console.print(view(process))
    else:
        try:
            with Live(view(process), console=console, auto_refresh=False, transient=True) as live:
                while not patiently(lambda: process.is_terminated):
                    time.sleep(interval)
                    live.update(view(process), refresh=True)
        except KeyboardInterrupt:
            console.print(view(process))
            click.echo(f"It continues to run. To look again: aiida-dosmatgen status {process.pk}")
            return 0
        console.print(view(process))
    for line in patiently(lambda: hints(process)):
        click.echo(line, err=True)
    if not process.is_terminated:
        problem = daemon.problem()
        if problem:
            click.echo(problem, err=True)
        return 0
    return _outcome(process)


def _outcome(process: Any) -> int:
    """Print what came out of a process that has ended."""
    from ..tools.ranking import format_ranking

    if is_campaign(process) and "ranking" in process.outputs:
        click.echo(format_ranking(process))
        click.echo(f"A page of it: aiida-dosmatgen report {process.pk} -o campaign.html")
    elif process.is_finished_ok:
        for label in sorted(process.outputs):
            node = process.outputs[label]
            if hasattr(node, "pk"):
                click.echo(f"  {label}: {type(node).__name__}<{node.pk}>")
    if process.is_finished_ok:
        return 0
    reason = process.exit_message or process.exception or "it was killed"
    click.echo(f"{process.process_label}<{process.pk}>: {reason}; verdi process report {process.pk} says more", err=True)
    return 1


def _campaign(campaign: Any) -> Any:
    """Return the view of a campaign: a headline, a row for each target, the jobs."""
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    from ..tools.status import status as status_of

    now = status_of(campaign)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "stage", "funnel", "validated"):
        table.add_column(heading, overflow="fold")
    for target in now.targets:
        funnel = " → ".join(f"{left} {criterion}" for criterion, left in target.funnel.items()) or "–"
        chosen = "–" if target.to_validate is None else f"{target.validated} of {target.to_validate}"
        table.add_row(target.name, target.stage, funnel, chosen + (f", {target.failed} failed" if target.failed else ""))
    jobs = ", ".join(f"{stage} ({count} {'job' if count == 1 else 'jobs'})" for stage, count in now.jobs.items())
    headline = f"CampaignWorkChain<{now.pk}> {_state(now)}, {_duration(now.seconds)}"
    lines: list[Any] = [Text(headline, style="bold"), table]
    if not now.ended:
        left = "not known yet" if now.seconds_left is None else f"about {_duration(now.seconds_left)}"
        if now.seconds_left is not None and now.seconds_left < 1:
            left = "not known any more, this takes longer than what came before"
        lines += [Text(f"jobs under way: {jobs or 'none, between two steps'}"), Text(f"time left: {left}")]
    return Lines(*lines)


def _process(process: Any) -> Any:
    """Return the view of another work chain."""
    from rich.text import Text

    from ..tools.progress import progress

    state = process.process_state.value if process.process_state else "created"
    doing = f": {progress(process)}" if not process.is_terminated else f" [{process.exit_status}]"
    return Text(f"{process.process_label}<{process.pk}> {state}{doing}")


def _state(now: Any) -> str:
    if now.ended:
        return f"{now.state} [{now.exit_status}]" if now.exit_status else now.state
    return "paused" if now.state == "paused" else "running"


def _duration(seconds: float) -> str:
    """Return a time as people say it."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s"
