"""``aiida-dosmatgen lineage``: where a crystal comes from, what a model learnt from, and what a result has taught."""

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
@click.option("--system", help="Of a checkpoint: only crystals with these elements, as Ti-S.")
@click.option("--taught", is_flag=True, help="Of a validation or its DOS: which models learnt from it, and what these found.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lineage(node: Any, target: str | None, candidate: int | None, system: str | None, taught: bool, as_json: bool) -> None:
    """Tell how a crystal came to be: target, seed, checkpoint, training set, force field, pseudopotentials, codes.

    NODE is a campaign (its best crystal), a validation, or the structure, DOS or score of a validated candidate. Of a
    checkpoint it tells which DFT results of loops it learnt from, with campaign, candidate and seed.

    \b
    Example:
      aiida-dosmatgen lineage 1234 --candidate 17
    """
    from ..data.checkpoint import CheckpointData
    from ..tools.lineage import lineage as lineage_of
    from ..tools.ranking import format_lineage
    from ..tools.workflows import CampaignTools

    if isinstance(node, CheckpointData) or taught:
        if target is not None or candidate is not None:
            raise ValueError("--target and --candidate choose a crystal of a campaign; leave them out")
        click.echo(_learning(node, system, taught, as_json))
        return
    if system is not None:
        raise ValueError("--system chooses what a checkpoint learnt from; leave it out, or give a checkpoint")
    if is_campaign(node):
        found = CampaignTools(node).lineage(target, candidate)
    elif target is not None or candidate is not None:
        raise ValueError("--target and --candidate choose a crystal of a campaign; leave them out, or give a campaign")
    else:
        found = lineage_of(node)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else format_lineage(found))


def _learning(node: Any, system: str | None, taught: bool, as_json: bool) -> str:
    """Return what a checkpoint learnt from, or what a DFT result has taught."""
    from ..tools.learning import format_learnt, format_taught, learnt_by, taught_by

    if taught:
        if system is not None:
            raise ValueError("--system chooses what a checkpoint learnt from; leave it out, or --taught")
        led_to = taught_by(node)
        return json.dumps(led_to.as_dict(), indent=1) if as_json else format_taught(led_to)
    results = learnt_by(node, system.split("-") if system else ())
    return json.dumps([one.as_dict() for one in results], indent=1) if as_json else format_learnt(node, results)
