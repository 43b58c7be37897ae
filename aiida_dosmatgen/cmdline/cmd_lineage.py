"""``aiida-dosmatgen lineage``: where a crystal comes from."""

from __future__ import annotations

import json
from typing import Any

import click
from aiida.cmdline import NodeParamType

from .campaigns import is_campaign
from .group import Command


@click.command("lineage", cls=Command)
@click.argument("node", type=NodeParamType())
@click.option("--target", help="Of a campaign: the name of the target.")
@click.option("--candidate", type=click.IntRange(0), help="Of a campaign: the number of the candidate; by default the best.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lineage(node: Any, target: str | None, candidate: int | None, as_json: bool) -> None:
    """Tell how a crystal came to be: target, seed, checkpoint, training set, force field, pseudopotentials, codes.

    NODE is a campaign (its best crystal), a validation, or the structure, DOS or score of a validated candidate.

    \b
    Example:
      aiida-dosmatgen lineage 1234 --candidate 17
    """
    from ..tools.lineage import lineage as lineage_of
    from ..tools.ranking import format_lineage
    from ..tools.workflows import CampaignTools

    if is_campaign(node):
        found = CampaignTools(node).lineage(target, candidate)
    elif target is not None or candidate is not None:
        raise ValueError("--target and --candidate choose a crystal of a campaign; leave them out, or give a campaign")
    else:
        found = lineage_of(node)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else format_lineage(found))
