"""The command ``aiida-dosmatgen``: every group of commands is a module of its own, and imports what it needs when it runs."""

from __future__ import annotations

from typing import Any

import click
from aiida.cmdline import ProfileParamType
from aiida.cmdline.params import options

from .. import __version__
from .cmd_checkpoint import checkpoint
from .cmd_completion import completion
from .cmd_dataset import dataset
from .cmd_export import export
from .cmd_forcefield import forcefield
from .cmd_launch import launch
from .cmd_lineage import lineage
from .cmd_report import report
from .cmd_setup import setup
from .cmd_status import status
from .cmd_target import target
from .group import Group


@click.group("aiida-dosmatgen", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@options.PROFILE(type=ProfileParamType(load_profile=True), default=None, is_eager=True)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main(profile: Any) -> None:
    """From a density of states to crystals that have it, on AiiDA.

    \b
    Example, from a file to a page:
      aiida-dosmatgen setup localhost
      aiida-dosmatgen target import my_dos.csv --per-atom
      aiida-dosmatgen launch campaign --target my_dos --protocol fast
      aiida-dosmatgen status
      aiida-dosmatgen report -o campaign.html
    """


for command in (setup, target, checkpoint, forcefield, dataset, launch, status, report, lineage, export, completion):
    main.add_command(command)


if __name__ == "__main__":
    main()
