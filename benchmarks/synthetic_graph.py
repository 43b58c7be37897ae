"""Nodes and links of a graph that no process has made, stored in bulk."""

from __future__ import annotations

import hashlib
import io
import itertools
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from aiida.manage import get_manager
from aiida.orm.entities import EntityTypes

from aiida_dosmatgen import __version__
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.base import storable
from aiida_dosmatgen.data.crystals import CrystalSetData

_CALC, _WORK = LinkType.INPUT_CALC.value, LinkType.INPUT_WORK.value
_CREATE, _RETURN = LinkType.CREATE.value, LinkType.RETURN.value
_CALLS = {"calc": LinkType.CALL_CALC.value, "work": LinkType.CALL_WORK.value}
_CLASSES = {"calcjob": "CalcJobNode", "calcfunction": "CalcFunctionNode"}


class Graph:
    """Nodes and links that are collected, and stored all at once.

    :param shared: stored nodes that campaigns have in common, by name: ``checkpoint``, ``predictor``, ``force_field``,
        ``dosmatgen``, ``pw``, ``projwfc`` and ``pseudo``.
    :param seed: of all that is drawn.
    """

    def __init__(self, shared: dict[str, orm.Node], seed: int = 0) -> None:
        self.shared = shared
        self.rng = np.random.default_rng(seed)
        self.time = datetime(2026, 1, 1, tzinfo=timezone.utc)
        self._nodes: list[dict[str, Any]] = []
        self._links: list[tuple[int, int, str, str]] = []  # nodes by their place, stored ones by minus their key
        self._files: dict[str, str] = {}

    def node(self, node_type: str, attributes: dict[str, Any] | None = None, process: str | None = None, **fields: Any) -> int:
        """Collect one node, and return its place.

        :param process: the entry point of a process, with its group.
        """
        self.time += timedelta(seconds=1)
        row = {
            "uuid": str(uuid.UUID(int=int.from_bytes(self.rng.bytes(16), "big"), version=4)),
            "node_type": node_type,
            "process_type": process,
            "label": "",
            "description": "",
            "ctime": self.time,
            "mtime": self.time,
            "attributes": attributes or {},
            "extras": {},
            "repository_metadata": {},
            "user_id": orm.User.collection.get_default().pk,
            "dbcomputer_id": None,
            **fields,
        }
        self._nodes.append(row)
        return len(self._nodes)

    def process(
        self, kind: str, label: str, entry_point: str, inputs: dict, outputs: dict, caller: Any = None, **more: Any
    ) -> int:
        """Collect a process that ended, with its links.

        :param kind: ``calcjob``, ``calcfunction`` or ``workchain``.
        :param inputs: places of nodes by name; for stored nodes minus their key.
        :param caller: (place, name of the call), if another process called it.
        """
        work = kind == "workchain"
        group = "workflow.workchain.WorkChainNode" if work else f"calculation.{kind}.{_CLASSES[kind]}"
        attributes = {"process_label": label, "process_state": "finished", "exit_status": 0, "sealed": True}
        place = self.node(
            f"process.{group}.", attributes | {"version": {"core": "2.9.4", "plugin": __version__}} | more, process=entry_point
        )
        for name, other in inputs.items():
            self._links.append((other, place, name, _WORK if work else _CALC))
        for name, other in outputs.items():
            self._links.append((place, other, name, _RETURN if work else _CREATE))
        if caller:
            self._links.append((caller[0], place, caller[1], _CALLS["work" if work else "calc"]))
        return place

    def link(self, source: int, end: int, name: str, kind: LinkType) -> None:
        """Collect a link between two nodes."""
        self._links.append((source, end, name, kind.value))

    def returned(self, process: int, **outputs: int) -> None:
        """Collect what a work chain returns."""
        for name, place in outputs.items():
            self.link(process, place, name, LinkType.RETURN)

    def set_label(self, place: int, label: str) -> None:
        """Label a collected node."""
        self._nodes[place - 1]["label"] = label

    def job(self, label: str, inputs: dict, outputs: dict, caller: Any) -> int:
        """Collect a job of ``dosmatgen`` or Quantum ESPRESSO."""
        group = "quantumespresso" if label in ("Pw", "Projwfc") else "dosmatgen"
        return self.process(
            "calcjob", f"{label}Calculation", f"aiida.calculations:{group}.{label.lower()}", inputs, outputs, caller
        )

    def function(self, name: str, inputs: dict, outputs: dict, caller: Any) -> int:
        """Collect a calcfunction."""
        return self.process("calcfunction", name, f"aiida_dosmatgen.calculations.functions.{name}", inputs, outputs, caller)

    def dict(self, **content: Any) -> int:
        """Collect a ``Dict``."""
        return self.node("data.core.dict.Dict.", storable(content))

    def int(self, value: int) -> int:
        """Collect an ``Int``."""
        return self.node("data.core.int.Int.", {"value": value})

    def file(self, cls: type, content: CrystalSet | DosTarget, attributes: dict[str, Any]) -> int:
        """Collect a node with a file; equal files are kept once."""
        stream = io.BytesIO()
        content.save(stream)
        data = stream.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._files:
            repository = get_manager().get_profile_storage().get_repository()
            self._files[sha256] = repository.put_object_from_filelike(io.BytesIO(data))
        name = cls.DEFAULT_FILENAME
        return self.node(
            cls.class_node_type,
            storable({"filename": name, "sha256": sha256, **attributes}),
            repository_metadata={"o": {name: {"k": self._files[sha256]}}},
        )

    def crystals(self, crystals: CrystalSet) -> int:
        """Collect a set of crystals."""
        return self.file(CrystalSetData, crystals, CrystalSetData.describe_crystals(crystals))

    def use(self, name: str) -> int:
        """Return how links name a shared node."""
        return -self.shared[name].pk

    def uuid(self, place: int) -> str:
        """Return the uuid of a collected node."""
        return self._nodes[place - 1]["uuid"]

    @staticmethod
    def stored(uuid: str) -> int:
        """Return the key of a node that was stored before."""
        return orm.QueryBuilder().append(orm.Node, filters={"uuid": uuid}, project="id").first(flat=True)

    def store(self) -> None:
        """Store all that was collected."""
        backend = get_manager().get_profile_storage()
        with backend.transaction():
            keys: list[int] = []
            for rows in _batches(self._nodes):
                keys += backend.bulk_insert(EntityTypes.NODE, rows)

            def key(place: int) -> int:
                return -place if place < 0 else keys[place - 1]

            links = (
                {"input_id": key(a), "output_id": key(b), "label": label, "type": link} for a, b, label, link in self._links
            )
            for rows in _batches(links):
                backend.bulk_insert(EntityTypes.LINK, rows)
        self._nodes, self._links = [], []


def _batches(rows: Any, size: int = 5000) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
