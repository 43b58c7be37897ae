"""What the commands of ``launch`` share: where jobs run, what they ask for, and how they are submitted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from aiida.cmdline import CodeParamType

from ..core.campaign import CampaignNumbers
from ..core.errors import ContentError
from .cmd_status import watch
from .options import option_from_field
from .params import Setting, nested, yaml_mapping

QUANTUM_ESPRESSO = ("pw", "projwfc")


@dataclasses.dataclass(frozen=True)
class Where:
    """Where the jobs of a launch run, and what they ask for.

    :param given: codes by name, where one was chosen.
    """

    computer: str
    dft_computer: str
    given: dict[str, Any]
    options: dict[str, Any]
    dft_options: dict[str, Any]

    def code(self, name: str) -> Any:
        """Return the code ``dosmatgen``, ``pw`` or ``projwfc``.

        :raises ContentError: if there is none, saying how to make one.
        """
        from aiida.common import MultipleObjectsError, NotExistent
        from aiida.orm import load_code

        if self.given.get(name) is not None:
            return self.given[name]
        label = f"{name}@{self.dft_computer if name in QUANTUM_ESPRESSO else self.computer}"
        try:
            return load_code(label)
        except MultipleObjectsError:
            raise ContentError(f"several codes are called {label}; name one by its pk: --{name} PK") from None
        except NotExistent:
            raise ContentError(
                f"there is no code {label}; make it (aiida-dosmatgen setup localhost, or setup computer), say where the "
                f"jobs run (--computer LABEL), or name a code of yours (--{name} LABEL@COMPUTER)"
            ) from None


def where_jobs_run(*codes: str) -> Callable[[Callable], Callable]:
    """Add the options that say where jobs run; the command gets them as ``where``.

    :param codes: that the command needs.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, computer: str, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(f"code_{name}") for name in codes}
            where = Where(
                computer,
                kwargs.pop("dft_computer", None) or computer,
                given,
                nested(kwargs.pop("option", ())),
                nested(kwargs.pop("dft_option", ())),
            )
            return function(*args, where=where, **kwargs)

        ours, theirs = "dosmatgen" in codes, set(codes) & set(QUANTUM_ESPRESSO)
        added = [
            click.option(
                "--computer", default="localhost", show_default=True, metavar="LABEL", help="Where the jobs run.", type=str
            ),
            *(
                click.option(f"--{name}", f"code_{name}", type=CodeParamType(), help=f"Instead of {name}@COMPUTER.")
                for name in codes
            ),
        ]
        if ours and theirs:
            help_ = "Where the jobs of Quantum ESPRESSO run, if elsewhere."
            added.insert(1, click.option("--dft-computer", metavar="LABEL", help=help_))
        if ours:
            help_ = "Of the jobs of dosmatgen, as queue_name=gpu; may be repeated."
            added.append(click.option("--option", multiple=True, type=Setting(), help=help_))
        if theirs:
            help_ = "Of the jobs of Quantum ESPRESSO, as max_wallclock_seconds=7200; may be repeated."
            added.append(click.option("--dft-option", multiple=True, type=Setting(), help=help_))
        for option in reversed(added):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def protocol_options(default: str = "balanced") -> Callable[[Callable], Callable]:
    """Add the options of protocols; the command gets ``protocol`` and ``overrides``.

    :param default: the protocol that is taken if none is given.
    """

    def add(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, override: Iterable[Any], overrides: Path | None, **kwargs: Any) -> Any:
            return function(*args, overrides=nested(override, yaml_mapping(overrides)), **kwargs)

        for option in (
            click.option(
                "--override",
                multiple=True,
                type=Setting(),
                help="Takes precedence over the protocol, nested by dots; may be repeated.",
            ),
            click.option(
                "--overrides", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A YAML file of them."
            ),
            click.option(
                "--protocol",
                type=click.Choice(["fast", "balanced", "stringent"]),
                default=default,
                show_default=True,
                help="How much, and how precise.",
            ),
        ):
            wrapped = option(wrapped)
        return wrapped

    return add


def parameters_option(model: str) -> Callable[[Callable], Callable]:
    """Add the option ``-P KEY=VALUE``; the command gets ``parameters`` as nested dictionaries.

    :param model: of the parameters, in ``aiida_dosmatgen.core.job``.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, parameter: Iterable[Any], **kwargs: Any) -> Any:
            return function(*args, parameters=nested(parameter), **kwargs)

        help_ = f"One of {model}, nested by dots; may be repeated."
        return click.option("-P", "--parameter", multiple=True, type=Setting(), help=help_)(wrapped)

    return decorate


def submit_options(function: Callable) -> Callable:
    """Add ``--wait`` and ``--dry-run``; the command gets ``submitting``, and hands it to :func:`submit`."""

    @functools.wraps(function)
    def wrapped(*args: Any, wait: bool, dry_run: bool, **kwargs: Any) -> Any:
        return function(*args, submitting=Submitting(wait, dry_run), **kwargs)

    wrapped = click.option("--dry-run", is_flag=True, help="Show the inputs, and submit nothing.")(wrapped)
    return click.option("--wait", is_flag=True, help="Watch until the end.")(wrapped)


@dataclasses.dataclass(frozen=True)
class Submitting:
    """Whether a launch waits for the end, and whether it is only shown."""

    wait: bool
    dry_run: bool


seed_option = option_from_field(CampaignNumbers, "seed")


def submit(builder: Any, label: str, submitting: Submitting) -> int:
    """Submit to the daemon, and say how to look at it; or only show the inputs.

    :return: the exit status.
    :raises ContentError: if the daemon is not at work, saying what to type, or the inputs are refused.
    """
    from aiida.engine import submit as submit_to_daemon

    from ..tools import daemon
    from ..workflows.protocols.utils import inputs_of

    inputs = inputs_of(builder)
    ports = builder.process_class.spec().inputs
    error = ports.validate(ports.pre_process(inputs))
    if error is not None:
        raise ContentError(f"{error.port}: {error.message}")
    if submitting.dry_run:
        click.echo(yaml.safe_dump(_shown(inputs), sort_keys=False, allow_unicode=True).rstrip())
        return 0
    problem = daemon.problem()
    if problem:
        raise ContentError(problem)
    builder.metadata.label = label
    node = submit_to_daemon(builder)
    click.echo(f"Submitted {node.process_label}<{node.pk}>; watch it: aiida-dosmatgen status {node.pk}")
    if not submitting.wait:
        return 0
    return watch(node)


def _shown(inputs: Any) -> Any:
    """Return inputs as YAML can show them: plain values as they are, other nodes by class, label and pk."""
    from aiida import orm

    if isinstance(inputs, Mapping):
        return {str(name): _shown(value) for name, value in inputs.items()}
    if isinstance(inputs, orm.Dict):
        return inputs.get_dict()
    if isinstance(inputs, orm.List):
        return inputs.get_list()
    if isinstance(inputs, orm.Int | orm.Float | orm.Bool | orm.Str):
        return inputs.value
    if isinstance(inputs, orm.Node):
        name = inputs.full_label if isinstance(inputs, orm.AbstractCode) else inputs.label
        return " ".join(filter(None, [f"{type(inputs).__name__}<{inputs.pk or 'new'}>", name]))
    return inputs
