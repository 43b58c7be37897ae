"""Nodes by what people have: a file, a label, a name. Equal files are stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from aiida import orm

from ..core.errors import ContentError
from ..data.checkpoint import CheckpointData
from ..data.forcefield import ForceFieldData
from ..data.target import DosTargetData

_Node = TypeVar("_Node", bound=orm.Data)


def target(path: str | Path, **options: Any) -> DosTargetData:
    """Return the target of a file, the one that is stored already if its content is equal.

    :param options: as in :meth:`DosTargetData.from_file`.
    :raises ValidationError: naming what is wrong with the file.
    """
    return stored_once(DosTargetData.from_file(path, **options))


def checkpoint(source: str | Path) -> CheckpointData:
    """Return a checkpoint by the path of its file, or by the label or uuid of its node.

    :raises ValidationError: if the file is no checkpoint.
    :raises ContentError: if there is neither a file nor a node.
    """
    if Path(source).expanduser().is_file():
        return stored_once(CheckpointData.from_file(source))
    return _by_label(CheckpointData, str(source), "a path of a checkpoint file, or a label")


def force_field(source: str | Path) -> ForceFieldData:
    """Return a force field by a MACE file, a node's label or uuid, or ``mace:NAME`` (a foundation model).

    :raises ValidationError: if the file is no force field.
    :raises ContentError: if there is neither a file nor a node.
    """
    if str(source).startswith("mace:"):
        return stored_once(ForceFieldData.from_foundation(str(source).removeprefix("mace:")), "name")
    if Path(source).expanduser().is_file():
        return stored_once(ForceFieldData.from_file(source))
    return _by_label(ForceFieldData, str(source), "a path of a MACE file, mace:NAME, or a label")


def stored_once(node: _Node, key: str = "sha256") -> _Node:
    """Return the oldest stored node of the same class and content, or store this one.

    :param key: the attribute that says whether content is equal.
    """
    cls = type(node)
    filters = {f"attributes.{name}": node.base.attributes.get(name) for name in {key, "kind"}}
    query = orm.QueryBuilder().append(cls, filters=filters, tag="node").order_by({"node": {"id": "asc"}})
    found = query.first(flat=True)
    return node.store() if found is None else found


def _by_label(cls: type[_Node], label: str, expected: str) -> _Node:
    query = orm.QueryBuilder().append(cls, filters={"or": [{"label": label}, {"uuid": label}]}, tag="node")
    found = query.order_by({"node": {"id": "desc"}}).first(flat=True)
    if found is None:
        raise ContentError(f"there is no {cls.__name__} {label!r}; give {expected} of a stored node")
    return found
