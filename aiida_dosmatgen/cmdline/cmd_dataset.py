"""``aiida-dosmatgen dataset``: labelled crystals, which models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .group import Group
from .listing import attribute, card, nodes_table, say_stored, short_hash
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

    node = nodes.dataset(files, label, tell)
    if len(lost) > _MOST_NAMED:
        click.echo(f"{len(lost)} records left out; the card names more of them", err=True)
    say_stored(node, files[0].stem)
    if node.reading:
        click.echo(node.reading)


@dataset.command("split")
@click.argument("dataset", type=DATASET)
@click.option("--systems", type=click.FloatRange(0, 1, max_open=True), help="Share of the chemical systems for `test-system`.")
@click.option("--prototypes", type=click.FloatRange(0, 1, max_open=True), help="Share of the prototypes for `test-prototype`.")
@click.option("--final", type=click.FloatRange(0, 1, max_open=True), help="Share of the systems by which nothing is chosen.")
@click.option("--seed", type=click.IntRange(0), help="Which of them; by default 0.")
@click.option("--label", help="What the new set is called.")
def split(dataset: Any, label: str | None, **given: Any) -> None:
    """Keep crystals of a data set for tests, by hashes of their chemical systems and prototypes.

    The new set has the column split, and trainings leave out what it keeps for tests. A calcfunction makes it, so that the
    origin of a checkpoint leads back to the set before.

    \b
    Example:
      aiida-dosmatgen dataset split mp-dos --systems 0.1 --final 0.1 --label mp-dos-split
    """
    from aiida.orm import Dict

    from ..calculations.functions import split_labelled
    from ..tools.nodes import named, normalized

    names = {
        "systems": "system_fraction",
        "prototypes": "prototype_fraction",
        "final": "final_fraction",
        "seed": "seed",
    }
    splits = {names[name]: value for name, value in given.items() if value is not None}
    made, node = split_labelled.run_get_node(dataset, Dict(splits))
    if not node.is_finished_ok:
        raise ValueError(node.exit_message)
    say_stored(named(made, normalized(label)) if label else made, f"{dataset.label or 'dataset'}-split")


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
