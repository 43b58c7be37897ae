"""What the work chains' ``get_builder_from_protocol`` share."""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.engine import PortNamespace
from aiida_quantumespresso.workflows.protocols.utils import ProtocolMixin, recursive_merge
from pydantic import BaseModel, ValidationError

from ...core.strict import explain
from . import yaml_text as yaml

ANY = object()
"""Marks a place at which any key goes."""

CODES = ("dosmatgen", "pw", "projwfc")
"""The names of a campaign's codes."""

CODE_OPTIONS = "dosmatgen_options"
"""The extra of a code in which ``aiida-dosmatgen setup computer`` keeps the options that its jobs have by default."""


class StrictProtocolMixin(ProtocolMixin):
    """The protocols of aiida-quantumespresso, but a mistyped key in the overrides is refused, not warned of."""

    _protocol_name: str

    @classmethod
    def get_protocol_filepath(cls) -> pathlib.Path:
        """Return the path of the YAML file that defines the protocols."""
        return pathlib.Path(__file__).parent / f"{cls._protocol_name}.yaml"

    @classmethod
    def get_protocol_inputs(cls, protocol: str | None = None, overrides: Mapping | pathlib.Path | None = None) -> dict:
        """Return the inputs of a protocol, with the overrides merged in.

        :param overrides: a mapping nested as the inputs are, or the path of a YAML file that holds one.
        :raises ValueError: for a protocol that does not exist, or a key of the overrides that does not.
        """
        given = overrides if isinstance(overrides, Mapping) else {}
        if isinstance(overrides, str | pathlib.Path):
            given = yaml.load(pathlib.Path(overrides).read_text(encoding="utf-8")) or {}
        try:
            inputs = super().get_protocol_inputs(protocol)
        except ValueError:
            available = ", ".join(cls.get_available_protocols())
            raise ValueError(f"there is no protocol {protocol!r}; {cls.__name__} has {available}") from None
        check_keys(given, cls.override_schema())
        return recursive_merge(inputs, dict(given))

    @classmethod
    def override_schema(cls) -> dict:
        """Return the keys that overrides may have: the inputs, and the meta inputs of the YAML file."""
        meta = yaml.load(cls.get_protocol_filepath().read_text(encoding="utf-8")).get("meta_inputs_schema") or {}
        return recursive_merge(keys_of(cls.spec().inputs), meta)  # type: ignore[attr-defined]


def inputs_of(builder: Mapping) -> dict:
    """Return what was given to a builder, or to a namespace of one, without namespaces that nothing was given to."""
    inputs = {key: inputs_of(value) if _is_namespace(value) else value for key, value in builder.items()}
    return {key: value for key, value in inputs.items() if value or not _is_namespace(value)}


def _is_namespace(value: Any) -> bool:
    return isinstance(value, Mapping) and not isinstance(value, orm.Node)  # a Dict is a mapping, too


def keys_of(namespace: PortNamespace) -> dict:
    """Return the nested keys of a port namespace; an open one without ports of its own takes any key."""
    keys: dict = {name: keys_of(port) if isinstance(port, PortNamespace) else None for name, port in namespace.items()}
    if namespace.dynamic and not keys:
        keys[ANY] = None
    return keys


def check_keys(overrides: Mapping, schema: Mapping, path: str = "") -> None:
    """Refuse keys that the schema does not have.

    :raises ValueError: naming the key, where it stands, and the nearest that exists.
    """
    for key, value in overrides.items():
        where = f"{path}.{key}" if path else str(key)
        if ANY in schema:
            continue
        if key not in schema:
            known = [str(name) for name in schema]
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known)) or 'none'}"
            raise ValueError(f"unknown key {where!r} in the overrides; {hint}")
        if isinstance(value, Mapping) and schema[key] is not None:
            check_keys(value, schema[key], where)


def checked(model: type[BaseModel], values: Mapping[str, Any], where: str) -> orm.Dict:
    """Return values as a node after the model accepted them, with nothing filled in.

    :raises ValueError: naming the key and what is wrong with it.
    """
    problem = problem_with(model, values, where)
    if problem:
        raise ValueError(problem)
    return orm.Dict(dict(values))


def problem_with(model: type[BaseModel], values: Mapping[str, Any], where: str) -> str | None:
    """Say in one line why a model does not accept values, or None: the body of an input validator."""
    try:
        model.model_validate(values)
    except ValidationError as exception:
        return f"{where}: {explain(exception)}"
    return None


def job_metadata(metadata: Mapping, options: Mapping | None, code: orm.AbstractCode) -> dict:
    """Return a job's metadata with the options merged in, and the least resources that the scheduler asks for.

    The defaults of the code take precedence over the metadata, and ``options`` over both.

    :raises ValueError: for a code that is on no computer.
    """
    if code.computer is None:
        raise ValueError(f"the code {code.full_label} is on no computer; give one that is installed where the jobs are to run")
    merged = recursive_merge(dict(metadata), {"options": with_defaults(code, options)})
    merged["options"] = ProtocolMixin.set_default_resources(merged["options"], code.computer.scheduler_type)
    return merged


def with_defaults(code: orm.AbstractCode, options: Mapping | None) -> dict:
    """Return the options that the jobs of a code have by default, with the given ones merged in."""
    return recursive_merge(dict(code.base.extras.get(CODE_OPTIONS, {})), dict(options or {}))


def unknown_code(names: Iterable[str]) -> str | None:
    """Say in one line which of the names of codes stand for none, or None."""
    unknown = sorted(set(names) - set(CODES))
    if not unknown:
        return None
    if "dos" in unknown:
        return "there is no code 'dos' any more: dos.x is not run, pw.x and projwfc.x give the density of states; leave it out"
    return f"unknown code {unknown[0]!r}; there are {', '.join(CODES)}"


def load(code: orm.AbstractCode | str) -> orm.AbstractCode:
    """Return a code given as a node or by its label."""
    return orm.load_code(code) if isinstance(code, str) else code
