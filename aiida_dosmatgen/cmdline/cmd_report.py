"""``aiida-dosmatgen report``: a campaign as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .campaigns import REPORTED, is_loop, newest_campaign
from .group import Command


@click.command("report", cls=Command)
@click.argument("campaign", type=REPORTED, required=False)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="By default KIND-PK.html.")
def report(campaign: Any, output: Path | None) -> None:
    """Write the page of a campaign: one HTML file with ranking, curves, structures and lineage, which opens offline.

    Without CAMPAIGN it is the newest one. Of a loop that learns it shows the rounds.

    \b
    Example:
      aiida-dosmatgen report 1234 -o campaign.html
    """
    from ..report import write

    campaign = campaign or newest_campaign()
    kind = "loop" if is_loop(campaign) else "campaign"
    path = write(campaign, output or Path(f"{kind}-{campaign.pk}.html"))
    click.echo(f"Wrote {path}")
