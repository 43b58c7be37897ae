"""``aiida-dosmatgen dataset``: labelled crystals, which models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .group import Group
from .listing import attribute, card, name_stored, nodes_table, short_hash
from .params import DATASET

_MOST_NAMED = 20  # records that are left out, on the screen


@click.group("dataset", cls=Group)
def dataset() -> None:
    """Labelled crystals, which models are trained on: import, list, show the card.

    \b
    Example:
      aiida-dosmatgen dataset list
    """


@dataset.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--label", help="What the data set is called; by default the name of the first file.")
def import_(files: tuple[Path, ...], label: str | None) -> None:
    """Store labelled crystals, with a density of states for each atom.

    FILES are one npz file, a folder of shards or its manifest; or files and folders of others: MP-DOS (JSON), parquet,
    records of CompleteDos or ElectronicDos with their structures (JSON), extxyz with an array dos. Of these, records that are
    no labelled crystals are left out and named with the reason.

    \b
    Example:
      aiida-dosmatgen dataset import records.json --label mp-dos
    """
    from ..tools import nodes

    lost: list[str] = []

    def tell(record: str, reason: str) -> None:
        lost.append(record)
        if len(lost) <= _MOST_NAMED:
            click.echo(f"left out {record}: {reason}", err=True)

    node = nodes.dataset(files, tell)
    if len(lost) > _MOST_NAMED:
        click.echo(f"{len(lost)} records left out; the card names more of them", err=True)
    name_stored(node, label, files[0].stem)


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
