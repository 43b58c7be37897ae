"""``aiida-dosmatgen checkpoint``: trained denoisers, classifiers and predictors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .group import Group
from .listing import attribute, card, nodes_table, say_stored, short_hash
from .params import CHECKPOINT


@click.group("checkpoint", cls=Group)
def checkpoint() -> None:
    """Trained denoisers, classifiers and predictors: import, list, show the card.

    \b
    Example:
      aiida-dosmatgen checkpoint list
    """


@checkpoint.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", help="What the checkpoint is called; by default the name of the file.")
def import_(file: Path, label: str | None) -> None:
    """Store a checkpoint file (safetensors). A file that is stored already is not stored again.

    \b
    Example:
      aiida-dosmatgen checkpoint import denoiser.safetensors --label my-denoiser
    """
    from ..tools import nodes

    say_stored(nodes.checkpoint(file, label), file.stem)


@checkpoint.command("list")
def list_() -> None:
    """List the checkpoints of this profile.

    \b
    Example:
      aiida-dosmatgen checkpoint list
    """
    columns = {
        "kind": attribute("kind"),
        "elements": attribute("elements", " ".join),
        "trained on": attribute("training", lambda training: f"{training.get('n_crystals', '?')} crystals"),
        "sha256": attribute("sha256", short_hash),
    }
    nodes_table("dosmatgen.checkpoint", columns, "There are no checkpoints; the shipped ones: aiida-dosmatgen setup localhost")


@checkpoint.command("show")
@click.argument("checkpoint", type=CHECKPOINT)
def show(checkpoint: Any) -> None:
    """Show the card of a checkpoint: what it is, how it was trained, its errors on held-out crystals.

    \b
    Example:
      aiida-dosmatgen checkpoint show dosmatgen-denoiser
    """
    click.echo(card(checkpoint))
