"""``aiida-dosmatgen export``: a campaign for another profile, or for those without AiiDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.errors import ContentError
from .campaigns import CAMPAIGN, newest_campaign
from .group import Command

SUFFIXES = {"archive": ".aiida", "optimade": ".json", "extxyz": ".extxyz"}


@click.command("export", cls=Command)
@click.argument("campaign", type=CAMPAIGN, required=False)
@click.option(
    "--format", "kind", type=click.Choice(sorted(SUFFIXES)), help="By default what the name of OUTPUT says, or archive."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="By default campaign-PK with a suffix.")
def export(campaign: Any, kind: str | None, output: Path | None) -> None:
    """Write a campaign to a file: an AiiDA archive with all of its provenance, OPTIMADE-style JSON, or extxyz.

    Without CAMPAIGN it is the newest one. An archive is read by: verdi archive import FILE.

    \b
    Example:
      aiida-dosmatgen export 1234 -o campaign.aiida
    """
    from ..tools import exchange

    campaign = campaign or newest_campaign()
    if kind is None:
        known = {suffix: name for name, suffix in SUFFIXES.items()}
        suffix = ".aiida" if output is None else output.suffix
        if suffix not in known:
            raise ContentError(f"{output}: no format is known by its name; say --format {', '.join(sorted(SUFFIXES))}")
        kind = known[suffix]
    path = output or Path(f"campaign-{campaign.pk}{SUFFIXES[kind]}")
    writers = {"archive": exchange.export_archive, "optimade": exchange.write_optimade, "extxyz": exchange.write_extxyz}
    writers[kind](campaign, path)
    click.echo(f"Wrote {path}")
