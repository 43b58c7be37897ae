"""``aiida-dosmatgen forcefield``: what relaxes the candidates."""

from __future__ import annotations

from typing import Any

import click

from ..core.errors import ContentError
from .group import Group
from .listing import attribute, card, nodes_table, say_stored, short_hash
from .params import FORCE_FIELD


@click.group("forcefield", cls=Group)
def forcefield() -> None:
    """Force fields that relax the candidates: import, list, show the card.

    \b
    Example:
      aiida-dosmatgen forcefield list
    """


@forcefield.command("import")
@click.argument("source")
@click.option("--label", help="What the force field is called; by default the name of the file or model.")
@click.option("--trusted-sha256", help="The hash of a model file that you trust; loading such a file runs the code in it.")
def import_(source: str, label: str | None, trusted_sha256: str | None) -> None:
    """Store a force field: a MACE model file, mace:NAME for a foundation model, or the name of an ASE calculator.

    Calculators are ase.calculators.emt:EMT and a few others that start no programs, and entry points of dosmatgen.calculators.

    A model file is stored and hashed, and never loaded here; jobs load it once its hash is trusted. A named model must be known
    where the jobs run.

    \b
    Example:
      aiida-dosmatgen forcefield import mace:medium-mpa-0
    """
    from pathlib import Path

    from ..data.forcefield import ForceFieldData
    from ..tools import nodes

    if not Path(source).expanduser().is_file() and not source.startswith("mace:"):
        if ":" not in source:
            raise ContentError(
                f"{source!r} is no file; give a MACE model file, mace:NAME, or an ASE calculator as ase.calculators.emt:EMT"
            )
        say_stored(nodes.stored_once(ForceFieldData.from_calculator(source), "name", label), source.rpartition(":")[2])
        return
    node = nodes.force_field(source, label)
    if trusted_sha256 is not None:
        node.trust(trusted_sha256)
    say_stored(node, Path(node.name).stem)


@forcefield.command("trust")
@click.argument("forcefield", type=FORCE_FIELD)
@click.argument("sha256")
def trust(forcefield: Any, sha256: str) -> None:
    """Say that a model file with this hash may be loaded in this profile, which runs the code in it.

    \b
    Example:
      aiida-dosmatgen forcefield trust my-forcefield 5366e32029c02437fcf329d087ddc5eef1ffc0d64a6f89cff088bd748c84af92
    """
    forcefield.trust(sha256)
    click.echo(f"{forcefield.name} is trusted in this profile")


@forcefield.command("list")
def list_() -> None:
    """List the force fields of this profile.

    \b
    Example:
      aiida-dosmatgen forcefield list
    """
    columns = {"kind": attribute("kind"), "name": attribute("name"), "sha256": attribute("sha256", short_hash)}
    nodes_table("dosmatgen.forcefield", columns, "There are no force fields; the shipped one: aiida-dosmatgen setup localhost")


@forcefield.command("show")
@click.argument("forcefield", type=FORCE_FIELD)
def show(forcefield: Any) -> None:
    """Show the card of a force field.

    \b
    Example:
      aiida-dosmatgen forcefield show dosmatgen-forcefield
    """
    click.echo(card(forcefield))
