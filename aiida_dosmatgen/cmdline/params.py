"""Types of the arguments and options: nodes by file or name, and values of nested keys."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from aiida.cmdline import DataParamType, with_dbenv
from click.shell_completion import CompletionItem

from ..core.errors import ContentError
from ..core.paths import user_path
from ..workflows.protocols import yaml_text as yaml


class NodeOrFile(DataParamType):
    """A stored node by label, pk or uuid; or a file (or another source of one), which is stored first, once.

    :param entry_points: of the classes, as ``dosmatgen.target``.
    :param store: makes a stored node of a source, or returns None if the text is none.
    :param what: the thing in words, for errors.
    """

    name = "file or node"

    def __init__(self, entry_points: Iterable[str], store: Callable[[str], Any], what: str) -> None:
        self._names = tuple(entry_points)
        super().__init__(sub_classes=tuple(f"aiida.data:{name}" for name in self._names))
        self._store = store
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the node."""
        if not isinstance(value, str):
            return value
        from aiida.common import ValidationError

        try:
            node = self._store(value)
        except (ContentError, ValidationError) as exception:
            self.fail(str(exception), param, ctx)
        if node is None:
            node = self._labelled(value, param, ctx)
        if node is not None:
            return node
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither a file here nor the label, pk or uuid of a {self._what}", param, ctx)

    def _classes(self) -> tuple[Any, ...]:
        from aiida.plugins import DataFactory

        return tuple(map(DataFactory, self._names))

    @with_dbenv()
    def _labelled(self, label: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the node with a label, which may look like a pk or a uuid; None if there is none."""
        from aiida.orm import QueryBuilder

        from ..tools.nodes import with_label

        classes = self._classes()
        found = with_label(classes, label)
        if not found:
            return None
        if len(found) > 1:
            pks = ", ".join(str(node.pk) for node in found)
            self.fail(f"several nodes are called {label!r}; give the pk of one: {pks}", param, ctx)
        node = found[0]
        if label.isdecimal() and node.pk != int(label) and QueryBuilder().append(classes, filters={"id": int(label)}).count():
            click.echo(
                f"{label} is the label of {node.pk} here, not the pk of another {self._what}; give its uuid for that", err=True
            )
        return node

    @with_dbenv()
    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer labels of nodes, and files."""
        from aiida.orm import QueryBuilder

        classes = self._classes()
        begins = re.sub(r"([\\%_])", r"\\\1", incomplete)
        query = QueryBuilder().append(classes, filters={"label": {"like": f"{begins}_%"}}, project="label").distinct()
        return [*map(CompletionItem, query.all(flat=True)), CompletionItem(incomplete, type="file")]


def _if_file(read: Callable[[Path], Any]) -> Callable[[str], Any]:
    def store(text: str) -> Any:
        path = user_path(text)
        return read(path) if path.is_file() else None

    return store


def _target(path: Path) -> Any:
    from ..tools import nodes

    node, reading = nodes.target_and_reading(path)
    click.echo(reading, err=True)
    return node


def _checkpoint(path: Path) -> Any:
    from ..tools import nodes

    return nodes.checkpoint(path)


def _force_field(text: str) -> Any:
    from ..tools import nodes

    return nodes.force_field(text) if text.startswith("mace:") or user_path(text).is_file() else None


def _crystals(path: Path) -> Any:
    from ..tools import nodes

    return nodes.crystals(path)


def _dataset(path: Path) -> Any:
    from ..tools import nodes

    node = nodes.dataset([path])
    if node.reading:
        click.echo(node.reading, err=True)
    return node


def _training_set(path: Path) -> Any:
    """Take an npz file with energies and forces, and without densities of states, for frames."""
    from ..tools import nodes

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        if "atom:forces.npy" in names and "atom:dos.npy" not in names:
            return nodes.crystals(path)
    return _dataset(path)


def _parent(path: Path) -> Any:
    return _checkpoint(path) if path.suffix == ".safetensors" else _force_field(str(path))


TARGET = NodeOrFile(["dosmatgen.target"], _if_file(_target), "target")
CHECKPOINT = NodeOrFile(["dosmatgen.checkpoint"], _if_file(_checkpoint), "checkpoint")
FORCE_FIELD = NodeOrFile(["dosmatgen.forcefield"], _force_field, "force field, nor mace:NAME")
DATASET = NodeOrFile(["dosmatgen.labelled"], _if_file(_dataset), "data set")
TRAINING_SET = NodeOrFile(["dosmatgen.labelled", "dosmatgen.crystals"], _if_file(_training_set), "data set, or set of frames")
PARENT = NodeOrFile(["dosmatgen.checkpoint", "dosmatgen.forcefield"], _if_file(_parent), "checkpoint or force field")
CRYSTALS = NodeOrFile(["dosmatgen.crystals"], _if_file(_crystals), "set of crystals")
STRUCTURE = NodeOrFile(["core.structure", "dosmatgen.crystals"], _if_file(_crystals), "structure or set of crystals")


class Setting(click.ParamType):
    """``key=value``: the key may be nested by dots, the value is YAML. Converted to (list of keys, value)."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[list[str], Any]:
        """Return the keys and the value."""
        if not isinstance(value, str):
            return value
        key, found, text = value.partition("=")
        if not found or not all(key.split(".")):
            self.fail(f"{value!r} is not KEY=VALUE, as steps=20", param, ctx)
        try:
            return key.split("."), yaml.load(text)
        except yaml.YAMLError:
            self.fail(f"the value of {key} is not YAML: {text!r}", param, ctx)


def nested(settings: Iterable[tuple[list[str], Any]], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return settings as nested dictionaries.

    :param into: what they are added to.
    :raises ContentError: if one stands below another's value.
    """
    result = into if into is not None else {}
    for keys, value in settings:
        place = result
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ContentError(f"{'.'.join(keys)} stands below a value; give one of them only")
        place[keys[-1]] = value
    return result


def yaml_mapping(path: Path | None) -> dict[str, Any]:
    """Return the content of a YAML file of nested keys; nothing if there is no path.

    :raises ContentError: if it is something else.
    """
    if path is None:
        return {}
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exception:
        raise ContentError(f"{path} cannot be read as YAML: {exception}") from None
    if content is not None and not isinstance(content, dict):
        raise ContentError(f"{path} has no keys; write KEY: VALUE, nested as the inputs are")
    return content or {}
