"""``aiida-dosmatgen launch``: work chains from files and labels."""

from __future__ import annotations

import click

from .group import Group
from .launch_jobs import crystals_, frames, label, pseudolabel, relax, sample, train, validate
from .launch_searches import campaign, candidates, learn


@click.group("launch", cls=Group)
def launch() -> None:
    """Submit work chains to the daemon: one step, or a whole campaign.

    Jobs run on --computer with what its codes ask for (see setup computer); --option takes precedence. Targets, models and
    crystals are given as files, or by label, pk or uuid.

    \b
    Example:
      aiida-dosmatgen launch campaign --target my_dos --protocol fast --wait
    """


for command in (campaign, learn, candidates, sample, relax, validate, train, crystals_, pseudolabel, frames, label):
    launch.add_command(command)
