"""``aiida-dosmatgen completion``: what a shell needs to complete commands, labels and codes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .group import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, and labels of nodes in a shell.

    \b
    Example, for bash:
      aiida-dosmatgen completion bash >> ~/.bashrc
    """
    root = ctx.find_root()
    complete = get_completion_class(shell)
    assert complete is not None  # click has those of all three shells
    click.echo(complete(root.command, {}, "aiida-dosmatgen", "_AIIDA_DOSMATGEN_COMPLETE").source())
