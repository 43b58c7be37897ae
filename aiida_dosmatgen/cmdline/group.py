"""The base of all commands: errors in one line, the profile, suggestions for mistyped names."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from aiida.cmdline import ProfileParamType, VerdiCommandGroup
from aiida.cmdline.params import options
from aiida.common import (
    AIIDA_LOGGER,
    AiidaException,
    InvalidOperation,
    MultipleObjectsError,
    NotExistent,
    ValidationError,
)
from sqlalchemy.exc import OperationalError

from ..core.errors import ContentError

REFUSALS = (
    ContentError,
    ValueError,  # what the builders and the tools raise, with one line
    ValidationError,
    NotExistent,
    MultipleObjectsError,
    InvalidOperation,
)
"""What means "this cannot be done with what you gave me", and not "this program is wrong"."""


class Refusal(click.ClickException):
    """One line that says what was wrong, where, and what to do; the exit status is 2."""

    exit_code = 2


class Command(click.Command):
    """A command whose refusals are one line. With ``--verbosity debug`` the traceback is shown instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, for which the profile is loaded and nodes are looked up."""
        given = list(args)
        with _refusals(ctx):
            try:
                return super().parse_args(ctx, args)
            except click.NoSuchOption:
                file = next((arg for arg in given if arg.startswith("-") and Path(arg).exists()), None)
                if file is None:
                    raise
                raise click.UsageError(f"the name of the file {file} begins like an option; write ./{file}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _refusals(ctx):
            return super().invoke(ctx)


class Group(VerdiCommandGroup):
    """A group in the manner of ``verdi``. Every command has ``--profile`` and ``--verbosity``."""

    command_class = Command  # type: ignore[assignment]  # one of click's own does as well

    @staticmethod
    def add_verbosity_option(cmd: click.Command) -> click.Command:
        """Add it to commands only: where a group has it too, AiiDA does not look at that of the command any more."""
        return cmd if isinstance(cmd, click.Group) else VerdiCommandGroup.add_verbosity_option(cmd)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command with the options that all of them have."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and not isinstance(command, click.Group) and "profile" not in [p.name for p in command.params]:
            # eager: arguments that name nodes are looked up in this profile
            add = options.PROFILE(
                type=ProfileParamType(load_profile=True),
                default=None,
                expose_value=False,
                is_eager=True,
                callback=_ensure_loaded,
            )
            command = add(command)
        return command

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run, with errors in one line and their exit status; what commands return is the exit status too."""
        run: Any = super().main  # its overloads take no open list of arguments
        if not standalone_mode:
            return run(*args, standalone_mode=False, **kwargs)
        try:
            status = run(*args, standalone_mode=False, **kwargs)
        except click.UsageError as exception:
            line = exception.format_message().rstrip(".")
            if exception.ctx is not None:
                line = _named(exception.ctx, f"{line}; {exception.ctx.command_path} --help shows how")
            click.echo(_one_line(line), err=True)
            sys.exit(exception.exit_code)
        except click.ClickException as exception:
            click.echo(exception.format_message(), err=True)
            sys.exit(exception.exit_code)
        except click.Abort:
            click.echo("Stopped.", err=True)
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)


@contextlib.contextmanager
def _refusals(ctx: click.Context) -> Iterator[None]:
    """Turn what means "this cannot be done" into one line."""
    try:
        yield
    except (*REFUSALS, OSError, OperationalError) as exception:
        if AIIDA_LOGGER.isEnabledFor(logging.DEBUG) or (isinstance(exception, OSError) and exception.filename is None):
            raise
        line = str(exception)
        if isinstance(exception, OSError):
            line = f"{exception.filename}: {exception.strerror}"
        elif isinstance(exception, OperationalError):
            line = (
                f"the database does not answer ({exception.orig}); try again, and if that persists: "
                "verdi daemon stop, then verdi process repair, then verdi daemon start"
            )
        raise Refusal(_named(ctx, line)) from None


def _ensure_loaded(ctx: click.Context, _: click.Parameter, __: Any) -> None:
    """Load the default profile, unless one is loaded, and its storage."""
    if ctx.resilient_parsing:
        return
    from aiida.manage import get_manager

    manager = get_manager()
    try:
        if manager.get_profile() is None:
            manager.load_profile()
        manager.get_profile_storage()
    except AiidaException as exception:
        missing = "there is no AiiDA profile; make one: aiida-dosmatgen setup localhost"
        raise Refusal(_named(ctx, str(exception) if ctx.obj.config.profile_names else missing)) from None


def _named(ctx: click.Context, text: str) -> str:
    """Return one line that begins with the name of the command."""
    _, _, name = ctx.command_path.partition(" ")
    return _one_line(f"{name or ctx.command_path}: {text}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
