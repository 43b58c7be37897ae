"""Nodes by a file, a label or a name. Equal files are stored once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent

from ..calculations.functions import add_wishes, target_from_labelled, target_from_pdos
from ..core.errors import ContentError
from ..core.target.wishes import Wish
from ..data.base import as_validation_error
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from ..data.pdos import pdos_nodes
from ..data.target import DosTargetData

_Node = TypeVar("_Node", bound=orm.Data)


def target(path: str | Path, **options: Any) -> DosTargetData:
    """Return the target of a file, the one that is stored already if its content is equal.

    :param path: a CSV, JSON or ``npz`` file, or the JSON of pymatgen's ``CompleteDos``.
    :param options: as in :meth:`DosTargetData.from_file`.
    :raises ValidationError: naming what is wrong with the file.
    """
    dos = _complete_dos(Path(path).expanduser())
    if dos is None:
        return stored_once(DosTargetData.from_file(path, **options))
    given = sorted(name for name, value in options.items() if value)
    if given:
        raise ContentError(f"{path} is a CompleteDos, which has sites of its own; leave out {given[0]}")
    return stored_once(DosTargetData.from_complete_dos(dos))


def target_of_process(identifier: str, **options: Any) -> DosTargetData:
    """Return the target that a finished work chain makes, by a calcfunction, so that its origin is on record.

    A ``DosWorkChain`` or a ``ValidateWorkChain`` of this package, or a ``PdosWorkChain`` of aiida-quantumespresso.

    :param identifier: pk or uuid of the work chain.
    :param options: none are taken: such a target has sites of its own.
    :raises ContentError: if there is no such process, or it is not one that a target can be made of.
    """
    try:
        node = orm.load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError):
        raise ContentError(f"{identifier!r} is neither a file here nor the pk or uuid of a process") from None
    if not isinstance(node, orm.WorkChainNode):
        raise ContentError(f"{type(node).__name__}<{node.pk}> is no DosWorkChain; give a file, or the pk of one")
    if options:
        raise ContentError(f"a {node.process_label} has sites of its own; leave out {min(options)}")
    if isinstance(node.outputs.dos if "dos" in node.outputs else None, CrystalSetData):
        made, process = target_from_labelled.run_get_node(crystals=node.outputs.dos, index=orm.Int(0))
    else:
        made, process = target_from_pdos.run_get_node(**pdos_nodes(node))
    if not process.is_finished_ok:
        raise ContentError(f"{node.process_label}<{node.pk}>: {process.exit_message}")
    return made


def target_with_wishes(curve: DosTargetData, wishes: Iterable[Wish]) -> DosTargetData:
    """Return a target with further wishes, made by a calcfunction, so that its origin is on record.

    :raises ContentError: for wishes that it has already.
    """
    made, process = add_wishes.run_get_node(target=curve, wishes=orm.List([one.model_dump() for one in wishes]))
    if not process.is_finished_ok:
        raise ContentError(process.exit_message)
    return made


def crystals(path: str | Path) -> CrystalSetData:
    """Return the crystals of a file: ``npz``, or anything that ASE reads.

    :raises ValidationError: naming what is wrong with the file.
    """
    return stored_once(CrystalSetData.from_file(path))


def dataset(paths: Iterable[str | Path]) -> LabelledCrystalSetData:
    """Return the labelled crystals of a file (``npz``, or extxyz with a ``dos``), or of one or more files of MP-DOS records.

    :raises ValidationError: naming what is wrong.
    """
    files = [Path(path).expanduser() for path in paths]
    records = [path for path in files if path.suffix == ".json"]
    if records and len(records) == len(files):
        return stored_once(LabelledCrystalSetData.from_mp_dos(files))
    if len(files) != 1:
        raise ContentError(
            "several files make a data set only if all are JSON with MP-DOS records; give one npz or extxyz file"
        )
    return stored_once(LabelledCrystalSetData.from_file(files[0]))


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
    filters = {f"attributes.{name}": value for name, value in node.base.attributes.items() if name in (key, "kind")}
    query = orm.QueryBuilder().append(cls, filters=filters, tag="node").order_by({"node": {"id": "asc"}})
    found = query.first(flat=True)
    return node.store() if found is None else found


def _complete_dos(path: Path) -> Any:
    """Return the ``CompleteDos`` that pymatgen wrote to a JSON file, or None if the file holds something else."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None  # DosTargetData.from_file says what is wrong with it
    if not isinstance(content, dict) or not str(content.get("@class", "")).endswith("CompleteDos"):
        return None
    from pymatgen.electronic_structure.dos import CompleteDos

    with as_validation_error():
        try:
            return CompleteDos.from_dict(content)
        except (KeyError, TypeError, ValueError) as exception:
            raise ContentError(f"{path} is no whole CompleteDos: {exception}") from None


def _by_label(cls: type[_Node], label: str, expected: str) -> _Node:
    query = orm.QueryBuilder().append(cls, filters={"or": [{"label": label}, {"uuid": label}]}, tag="node")
    found = query.order_by({"node": {"id": "desc"}}).first(flat=True)
    if found is None:
        raise ContentError(f"there is no {cls.__name__} {label!r}; give {expected} of a stored node")
    return found
