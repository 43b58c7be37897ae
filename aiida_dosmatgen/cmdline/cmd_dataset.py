"""``aiida-dosmatgen dataset``: labelled crystals, which models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .group import Group
from .listing import attribute, card, nodes_table, say_stored, short_hash
from .params import DATASET


@click.group("dataset", cls=Group)
def dataset() -> None:
    """Labelled crystals, which models are trained on: import, list, show the card.

    \b
    Example:
      aiida-dosmatgen dataset list
    """


@dataset.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", help="What the data set is called; by default the name of the first file.")
def import_(files: tuple[Path, ...], label: str | None) -> None:
    """Store labelled crystals: one npz or extxyz file with a DOS for each atom, or JSON files of MP-DOS records.

    \b
    Example:
      aiida-dosmatgen dataset import records.json --label mp-dos
    """
    from ..tools import nodes

    node = nodes.dataset(files, label)
    say_stored(node, files[0].stem)
    if node.reading:
        click.echo(node.reading)


@dataset.command("list")
def list_() -> None:
    """List the data sets of this profile.

    \b
    Example:
      aiida-dosmatgen dataset list
    """
    columns = {
        "crystals": attribute("n_crystals"),
        "elements": attribute(
            "elements", lambda symbols: " ".join(symbols) if len(symbols) < 20 else f"{len(symbols)} of them"
        ),
        "energies": attribute("has_energies", lambda there: "yes" if there else "no"),
        "sha256": attribute("sha256", short_hash),
    }
    nodes_table("dosmatgen.labelled", columns, "There are no data sets; the shipped one: aiida-dosmatgen setup localhost")


@dataset.command("show")
@click.argument("dataset", type=DATASET)
def show(dataset: Any) -> None:
    """Show the card of a data set: counts, elements, columns, and how the labels were made.

    \b
    Example:
      aiida-dosmatgen dataset show dosmatgen-dataset
    """
    click.echo(card(dataset))
