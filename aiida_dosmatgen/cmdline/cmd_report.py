"""``aiida-dosmatgen report``: a campaign as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .campaigns import CAMPAIGN, newest_campaign
from .group import Command


@click.command("report", cls=Command)
@click.argument("campaign", type=CAMPAIGN, required=False)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="By default campaign-PK.html.")
def report(campaign: Any, output: Path | None) -> None:
    """Write the page of a campaign: one HTML file with ranking, curves, structures and lineage, which opens offline.

    Without CAMPAIGN it is the newest one.

    \b
    Example:
      aiida-dosmatgen report 1234 -o campaign.html
    """
    from ..report import write

    campaign = campaign or newest_campaign()
    path = write(campaign, output or Path(f"campaign-{campaign.pk}.html"))
    click.echo(f"Wrote {path}")
