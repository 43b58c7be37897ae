"""What all commands have: help with an example, one line for what is refused, completion."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest
from aiida import orm
from aiida.common import log
from sqlalchemy.exc import OperationalError

from aiida_dosmatgen.cmdline.main import main

EXECUTABLE = Path(sys.executable).with_name("aiida-dosmatgen")
GROUPS = {
    "setup": {"localhost", "computer", "doctor"},
    "target": {"import", "from-mp", "sketch", "wish", "show", "list"},
    "checkpoint": {"import", "list", "show"},
    "forcefield": {"import", "list", "show", "trust"},
    "dataset": {"import", "list", "show", "split"},
    "launch": {
        *("sample", "relax", "candidates", "validate", "campaign", "learn", "train", "label"),
        *("crystals", "pseudolabel", "frames"),
    },
}


def commands(command=main, path=()):
    """Yield all commands and groups with their paths."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from commands(command.commands[name], (*path, name))


def problem_of(line: str) -> str | None:
    """Say what is wrong with a command line: a command or an option that does not exist."""
    words = shlex.split(line.replace("…", ""), comments=True)[1:]
    command, ctx = main, click.Context(main, info_name="aiida-dosmatgen")
    while words:
        if words[0] in ("-p", "--profile") and command is main:
            words = words[2:]
            continue
        if not isinstance(command, click.Group) or words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"{words[0]} is no command of {command.name}"
        command = command.get_command(ctx, words.pop(0))
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"-h", "--help"}
    unknown = [word for word in words if re.match(r"--?[a-zA-Z]", word) and word.split("=")[0] not in known]
    return f"{command.name} has no {unknown[0]}" if unknown else None


def test_the_groups_have_their_commands():
    for name, expected in GROUPS.items():
        assert set(main.commands[name].commands) == expected
    assert set(main.commands) == {*GROUPS, "status", "report", "lineage", "export", "completion"}


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_and_an_example_that_exists(run, path, command):
    text = run(*path, "--help")
    examples = re.findall(r"^ +(aiida-dosmatgen .*)$", text, re.MULTILINE)
    assert "Example" in text and examples
    assert any(example.startswith(" ".join(["aiida-dosmatgen", *path])) for example in examples)
    for example in examples:
        assert problem_of(example) is None, example
    if not isinstance(command, click.Group):
        assert "--profile" in text and "--verbosity" in text


def test_what_is_mistyped_is_named_with_what_is_near(run):
    assert run("taget", "list", status=2).startswith("aiida-dosmatgen: `taget` is not a")
    line = run("launch", "campaign", status=2)
    assert line == "launch campaign: Missing option '--target'; aiida-dosmatgen launch campaign --help shows how"
    assert "No such option: --colour" in run("target", "list", "--colour", status=2)
    assert problem_of("aiida-dosmatgen launch campain") and problem_of("aiida-dosmatgen target list --colour x")


def test_a_profile_that_does_not_exist_is_refused(run):
    assert "profile `nowhere` does not exist" in run("-p", "nowhere", "target", "list", status=2)
    assert "profile `nowhere` does not exist" in run("target", "list", "-p", "nowhere", status=2)


def test_without_any_profile_it_says_how_to_make_one(tmp_path):
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    result = subprocess.run([EXECUTABLE, "target", "list"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("target list: ") and result.stderr.endswith("make one: aiida-dosmatgen setup localhost\n")
    assert len(result.stderr.splitlines()) == 1


def test_the_traceback_is_there_for_those_who_ask(run, monkeypatch):
    band = ("target", "sketch", "--centre", "9", "--width", "2", "--gap", "1")
    assert "give one from" in run(*band, status=2)
    with monkeypatch.context() as patch:
        # what the option changes for good, in a process that otherwise ends
        patch.setattr(log, "CLI_ACTIVE", False)
        patch.setattr(log, "CLI_LOG_LEVEL", None)
        with pytest.raises(AssertionError, match="ContentError"):
            run(*band, "--verbosity", "debug", status=2)
    log.configure_logging()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_that_of_the_shell(run, shell):
    text = run("completion", shell)
    assert "_AIIDA_DOSMATGEN_COMPLETE" in text and f"{shell}_complete" in text


def test_the_shell_completes_commands_and_labels(aiida_profile_clean, checkpoint_file):
    from click.shell_completion import BashComplete

    from aiida_dosmatgen.data.checkpoint import CheckpointData

    node = CheckpointData(checkpoint_file()).store()
    node.label = "my-denoiser"
    complete = BashComplete(main, {}, "aiida-dosmatgen", "_AIIDA_DOSMATGEN_COMPLETE")
    values = lambda words, begun: [item.value for item in complete.get_completions(words, begun)]  # noqa: E731
    assert values([], "lau") == ["launch"]
    assert values(["launch", "campaign"], "--tar") == ["--target"]
    assert "my-denoiser" in values(["launch", "campaign", "--checkpoint"], "my")
    assert orm.QueryBuilder().append(CheckpointData).count() == 1


def test_what_is_no_work_chain_is_refused(run, aiida_profile_clean):
    node = orm.Int(1).store()
    for command in ("status", "report", "export"):
        for given in (node.pk, 999999, "nobody"):
            assert f"'{given}' is not the pk, uuid or label of a " in run(command, given, status=2)


@pytest.mark.parametrize(
    "place",
    ["aiida.manage.manager.Manager.get_profile_storage", "aiida_dosmatgen.cmdline.cmd_status.newest_campaign"],
)
def test_a_database_that_is_locked_is_said_in_one_line(run, aiida_profile, monkeypatch, place):
    """While the profile is loaded, and later."""

    def locked(*_):
        raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(place, locked)
    assert run("status", status=2).startswith("status: the database does not answer (database is locked); try again")
