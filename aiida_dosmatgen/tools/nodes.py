"""Nodes by a file, a label or a name. Equal files are stored once under each label."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiida import orm
from aiida.common import MultipleObjectsError, NotExistent

from ..calculations.functions import add_wishes, target_from_labelled, target_from_pdos
from ..core.errors import ContentError
from ..core.labelled.importing import read_set
from ..core.labelled.shards import card_of_shards, folder_of_shards, load_shards
from ..core.target.wishes import Wish
from ..data.base import as_validation_error, storable
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from ..data.pdos import pdos_nodes
from ..data.target import DosTargetData

_Node = TypeVar("_Node", bound=orm.Data)
_LONGEST = 255  # letters of a label in PostgreSQL


def target(path: str | Path, label: str | None = None, **options: Any) -> DosTargetData:
    """Return the target of a file, the one that is stored already if its content is equal.

    :param path: a file or folder of any kind that :func:`~aiida_dosmatgen.core.target.files.read_target` reads.
    :param label: what the target is called; see :func:`stored_once`.
    :param options: as in :meth:`DosTargetData.from_file`.
    :raises ValidationError: naming what is wrong with the file.
    """
    return target_and_reading(path, label, **options)[0]


def target_and_reading(path: str | Path, label: str | None = None, **options: Any) -> tuple[DosTargetData, str]:
    """Return the target of a file as :func:`target` does, and what was made of this file, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # part of the line
        node = DosTargetData.from_file(path, **options)
    return stored_once(node, label=label), node.reading or ""


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


def dataset(
    paths: Iterable[str | Path], label: str | None = None, dropped: Callable[[str, str], None] | None = None
) -> LabelledCrystalSetData:
    """Return the labelled crystals of a file, files or folders.

    One ``npz`` file or a folder of shards (or its manifest) as they are; else MP-DOS, parquet, records of ``CompleteDos``, or
    extxyz, of which records that are no labelled crystals are left out.

    :param dropped: called with each record that is left out, and the reason.
    :raises ValidationError: naming what is wrong.
    """
    files = [Path(path).expanduser() for path in paths]
    with as_validation_error():
        folder = folder_of_shards(files[0])
        if len(files) == 1 and folder is not None:
            node = LabelledCrystalSetData(load_shards(folder), card=storable(card_of_shards(folder)))
            return stored_once(node, label=label)
        if files[0].suffix == ".npz" and len(files) == 1:
            return stored_once(LabelledCrystalSetData.from_file(files[0]), label=label)
        if any(path.suffix == ".npz" or folder_of_shards(path) for path in files):
            raise ContentError("an npz file and a folder of shards are a set each; import them one by one")
        found = read_set(files)
    for lost in found.dropped:
        if dropped is not None:
            dropped(*lost)
    node = LabelledCrystalSetData(found.crystals, card=storable(found.card()))
    node.base.attributes.set("reading", found.said)
    return stored_once(node, label=label)


def checkpoint(source: str | Path, label: str | None = None) -> CheckpointData:
    """Return a checkpoint by the path of its file, or by the label or uuid of its node.

    :raises ValidationError: if the file is no checkpoint.
    :raises ContentError: if there is neither a file nor a node.
    """
    if Path(source).expanduser().is_file():
        return stored_once(CheckpointData.from_file(source), label=label)
    return _by_label(CheckpointData, str(source), "a path of a checkpoint file, or a label")


def force_field(source: str | Path, label: str | None = None) -> ForceFieldData:
    """Return a force field by a MACE file, a node's label or uuid, or ``mace:NAME`` (a foundation model).

    :raises ValidationError: if the file is no force field.
    :raises ContentError: if there is neither a file nor a node.
    """
    if str(source).startswith("mace:"):
        return stored_once(ForceFieldData.from_foundation(str(source).removeprefix("mace:")), "name", label)
    if Path(source).expanduser().is_file():
        return stored_once(ForceFieldData.from_file(source), label=label)
    return _by_label(ForceFieldData, str(source), "a path of a MACE file, mace:NAME, or a label")


def stored_once(node: _Node, key: str = "sha256", label: str | None = None) -> _Node:
    """Return the oldest stored node of the same class and content, or store this one.

    With a label, the node is one that has it, or that had none until now. Nodes of other labels keep them: the same content may
    be stored under several.

    :param key: the attribute that says whether content is equal.
    """
    cls = type(node)
    filters = {f"attributes.{name}": value for name, value in node.base.attributes.items() if name in (key, "kind")}
    query = orm.QueryBuilder().append(cls, filters=filters, tag="node").order_by({"node": {"id": "asc"}})
    if label is None:
        found = query.first(flat=True)
        return node.store() if found is None else found
    label = normalized(label)
    same = query.all(flat=True)
    for found in sorted(same, key=lambda other: other.label == ""):
        if _plain(found.label) in (label, ""):
            return named(found, label)
    node.label = label
    return node.store()


def named(node: _Node, label: str) -> _Node:
    """Return a stored node with a label."""
    if node.label != label:
        node.label = label
    return node


def normalized(label: str) -> str:
    """Return a label as it is stored: its letters composed, and blanks for marks that nobody sees, such as ends of lines.

    File systems and keyboards write accents in two ways.

    :raises ContentError: if it has more letters than a database takes, or nothing is left of it.
    """
    label = _plain(label)
    if not label or len(label) > _LONGEST:
        begins = f"{label[:30]!r}{'…' * (len(label) > 30)}"
        raise ContentError(f"a label needs 1 to {_LONGEST} letters, and {begins} has {len(label)}; give another by --label")
    return label


def _plain(label: str) -> str:
    seen = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") else letter for letter in label)
    return unicodedata.normalize("NFC", seen).strip()


def with_label(classes: tuple[type, ...], label: str) -> list[Any]:
    """Return the nodes of some classes that have a label, whichever way its accents are written, oldest first."""
    ways = sorted({label, _plain(label), *(unicodedata.normalize(form, label) for form in ("NFC", "NFD"))})
    query = orm.QueryBuilder().append(classes, filters={"label": {"in": ways}}, tag="node")
    return query.order_by({"node": {"id": "asc"}}).all(flat=True)


def _by_label(cls: type[_Node], label: str, expected: str) -> _Node:
    labelled = with_label((cls,), label)
    if labelled:
        return labelled[-1]
    found = orm.QueryBuilder().append(cls, filters={"uuid": label}).first(flat=True)
    if found is None:
        raise ContentError(f"there is no {cls.__name__} {label!r}; give {expected} of a stored node")
    return found
