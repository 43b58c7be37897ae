"""Options of commands that are made from the fields of models."""

from typing import Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from aiida_dosmatgen.cmdline.options import option_from_field
from aiida_dosmatgen.cmdline.params import Setting
from aiida_dosmatgen.core.strict import Strict


class Settings(Strict):
    """Settings.

    :param count: how many there are.
    :param share: which part of them.
    :param kind: what they are.
    :param quick: whether it has to be quick.
    """

    count: int | None = Field(None, ge=1)
    share: float = Field(0.5, gt=0, le=1)
    kind: Literal["good", "bad"] = "good"
    quick: bool = False


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-9", 1e-9), ("-2.5E3", -2500.0), ("{a: 1e-4}", {"a": 1e-4}), ("1e", "1e"), ("e5", "e5"), ("7", 7), ("true", True)],
)
def test_settings_are_numbers_where_people_mean_them(text, value):
    keys, read = Setting().convert(f"a.b={text}", None, None)
    assert keys == ["a", "b"] and read == value and type(read) is type(value)


@pytest.fixture
def run():
    @click.command()
    @option_from_field(Settings, "count", "-n", "--number", note="Open without it.")
    @option_from_field(Settings, "share")
    @option_from_field(Settings, "kind")
    @option_from_field(Settings, "quick")
    def command(**given):
        click.echo(sorted(given.items()))

    return lambda *arguments: CliRunner().invoke(command, arguments)


def test_defaults_and_meanings_are_those_of_the_fields(run):
    assert run().output.strip() == "[('count', None), ('kind', 'good'), ('quick', False), ('share', 0.5)]"
    text = " ".join(run("--help").output.split())
    assert "-n, --number INTEGER RANGE How many there are. Open without it. [x>=1]" in text
    assert "--share FLOAT RANGE Which part of them. [default: 0.5; 0<x<=1]" in text
    assert "--kind [good|bad] What they are. [default: good]" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(("-n", "0"), "0 is not in the range x>=1"), (("--share", "0"), "0<x<=1"), (("--kind", "fair"), "'good', 'bad'")],
)
def test_what_a_field_refuses_its_option_refuses(run, arguments, problem):
    refused = run(*arguments)
    assert refused.exit_code == 2 and problem in refused.output


def test_what_is_given_arrives(run):
    given = run("-n", "3", "--share", "1", "--kind", "bad", "--quick").output.strip()
    assert given == "[('count', 3), ('kind', 'bad'), ('quick', True), ('share', 1.0)]"
