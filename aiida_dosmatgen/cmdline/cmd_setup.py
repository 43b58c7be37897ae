"""``aiida-dosmatgen setup``: computers, codes, and a check of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from ..core.errors import ContentError
from .group import Group


@click.group("setup", cls=Group)
def setup() -> None:
    """Make computers and codes, and check the installation.

    \b
    Example:
      aiida-dosmatgen setup localhost
    """


@setup.command("localhost")
@click.option("--profile", help="The AiiDA profile to make or to complete; by default that of -p, or dosmatgen.")
@click.pass_context
def localhost(context: click.Context, profile: str | None) -> None:
    """Set up everything on this machine: profile, computer, codes, pseudopotentials, models, daemon.

    It adds what is missing, and can be repeated.

    \b
    Example:
      aiida-dosmatgen setup localhost
    """
    from ..setup.localhost import PROFILE, set_up

    chosen = context.find_root().params.get("profile")
    for what, value in set_up(profile or (chosen.name if chosen else PROFILE)):
        click.echo(f"  {what:<18} {value}")


@setup.command("computer")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A YAML file with all answers.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the answers to this YAML file.")
@click.option("--hostname", help="As in 'ssh HOSTNAME', which must not ask for a password.")
@click.option("--label", help="What AiiDA calls it; by default the host name.")
@click.option("--work-dir", help="Where jobs run there; {username} is replaced.")
@click.option("--dosmatgen", help="Path of the executable dosmatgen there.")
@click.option("--quantum-espresso", help="Commands that bring pw.x to PATH there, as 'module load quantum-espresso'.")
@click.option("--partition", help="Slurm partition of the jobs.")
@click.option("--account", help="Slurm account of the jobs.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs of a job of dosmatgen.")
@click.option("--processes", type=click.IntRange(1), help="MPI processes of a job of Quantum ESPRESSO.")
def computer(config: Path | None, save: Path | None, **answers: Any) -> None:
    """Set up a Slurm cluster over SSH: the computer, and the codes with what their jobs ask for.

    The command asks for what is not given. It tests everything on the cluster before it is stored, and can be repeated.

    \b
    Example:
      aiida-dosmatgen setup computer --config cluster.yaml
    """
    from ..setup.cluster import set_up
    from ..setup.settings import ComputerSettings

    if config is not None:
        given = sorted(name for name, value in answers.items() if value is not None)
        if given:
            raise ContentError(f"--{given[0].replace('_', '-')} does not go with --config; write it into {config}")
        settings = ComputerSettings.from_file(config)
    else:
        settings = _ask(save, **answers)
    made, codes, found = set_up(settings)
    click.echo(f"  computer  {made.label}, jobs in {made.get_workdir()}")
    for line in found:
        click.echo(f"  found     {line}")
    for code in codes.values():
        click.echo(f"  code      {code.full_label}  {code.filepath_executable}")
    click.echo(f"Campaigns run there with: aiida-dosmatgen launch campaign --computer {made.label} …")


@setup.command("doctor")
@click.option("--computer", "computers", multiple=True, metavar="LABEL", help="Only this computer; may be repeated.")
def doctor(computers: tuple[str, ...]) -> int:
    """Check each part, from the daemon to the models, and say how to fix what is broken.

    The exit status is 1 if something is.

    \b
    Example:
      aiida-dosmatgen setup doctor
    """
    from ..setup.doctor import examine

    ill = 0
    for finding in examine(computers):
        mark = click.style("ok  ", fg="green") if finding.ok else click.style("FAIL", fg="red", bold=True)
        click.echo(f"{mark}  {finding.part}: {finding.found}")
        if finding.fix is not None:
            ill += 1
            click.echo(f"      fix it: {finding.fix}")
    click.echo("Everything is there." if not ill else f"{ill} {'part' if ill == 1 else 'parts'} to fix.")
    return 1 if ill else 0


def _ask(save: Path | None, **answers: Any) -> Any:
    """Ask for the missing settings; the last ones have defaults for a first try."""
    from pydantic import ValidationError

    from ..core.strict import explain
    from ..setup.settings import ComputerSettings, from_answers

    questions = {
        "hostname": ("Host, as in 'ssh HOST'", None),
        "work_dir": ("Directory for jobs there ({username} is replaced)", "/scratch/{username}/aiida"),
        "dosmatgen": ("Path of dosmatgen there", None),
        "quantum_espresso": ("Commands that bring pw.x to PATH there", ""),
        "partition": ("Partition (empty: the cluster's default)", ""),
        "account": ("Account (empty: none)", ""),
        "gpus": ("GPUs of a job of dosmatgen", 0),
        "processes": ("MPI processes of a job of Quantum ESPRESSO", 1),
    }
    for name, (question, default) in questions.items():
        if answers[name] is None:
            answers[name] = click.prompt(question, default=default)
    content = from_answers(**answers)
    try:
        settings = ComputerSettings.model_validate(content)
    except ValidationError as exception:
        raise ContentError(explain(exception)) from None
    if save is not None:
        save.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return settings
