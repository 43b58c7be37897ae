"""The ancestors of nodes, as one graph that is read in a few queries, and as a tree for each node.

:mod:`.lineage` answers questions about one candidate; this is every node on the way back, for many at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common import LinkType

_MAX_STEPS = 80  # of a way back; two for each process on it
_BATCH = 500  # nodes of one query: databases limit the parameters of a statement


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """A node on the way back.

    :param kind: ``process`` or ``data``.
    :param type: the name of the process, or of the class of the data.
    :param inputs: of a process: its inputs by their names; of data: the process that created it, if any. Keys of nodes.
    """

    uuid: str
    kind: str
    type: str
    label: str
    attributes: Mapping[str, Any]
    computer: int | None
    inputs: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Branch:
    """A part of the tree of a node: the data, the process that made it, and below it what that was made from.

    :param name: what the process above calls the data; empty for the root.
    :param node: key of the data.
    :param process: key of the process that created it; None if nothing did, or ``repeated``.
    :param repeated: whether it stands elsewhere in the tree, nearer to the root, with all that is below it.
    :param below: the inputs of the process; empty if they stand below something else that it created.
    """

    name: str
    node: int
    process: int | None
    repeated: bool
    below: list[Branch]


def ancestors(uuids: Iterable[str]) -> dict[int, Ancestor]:
    """Return nodes and all they come from, by their keys; training sets end the way back."""
    given = list(uuids)
    if not given:
        return {}
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": {"in": given}}, project=_PROJECTED)
    found = {row[0]: _ancestor(row) for row in query.iterall()}
    front = list(found)
    for _ in range(_MAX_STEPS):
        new: dict[int, Ancestor] = {}
        for key, name, row in _incoming(front):
            if row[0] not in found:
                new.setdefault(row[0], _ancestor(row))
            found[key].inputs[name] = row[0]
        found |= new
        front = [key for key, node in new.items() if node.type != "LabelledCrystalSetData"]
        if not front:
            break
    return found


def tree(nodes: Mapping[int, Ancestor], root: int) -> Branch:
    """Return what a node comes from as a tree, in which each node and process is unfolded where it is nearest to the root.

    :param nodes: of :func:`ancestors`.
    """
    top = Branch("", root, nodes[root].inputs.get("created by"), False, [])
    seen, unfolded, front = {root}, set(), [top]
    while front:
        after = []
        for branch in front:
            if branch.process is None or branch.process in unfolded:
                continue
            unfolded.add(branch.process)
            for name, key in sorted(nodes[branch.process].inputs.items()):
                repeated = key in seen and bool(nodes[key].inputs)
                seen.add(key)
                branch.below.append(Branch(name, key, None if repeated else nodes[key].inputs.get("created by"), repeated, []))
            after += [below for below in branch.below if below.process is not None]
        front = after
    return top


_PROJECTED = ["id", "uuid", "node_type", "label", "attributes", "dbcomputer_id"]


def _incoming(keys: list[int]) -> Iterable[tuple[int, str, list[Any]]]:
    """Give the node at the end of each link back from the nodes, with the key of the node and what it calls the other one."""
    types = {"type": {"in": [LinkType.CREATE.value, LinkType.INPUT_CALC.value]}}
    for start in range(0, len(keys), _BATCH):
        query = orm.QueryBuilder()
        query.append(orm.Node, filters={"id": {"in": keys[start : start + _BATCH]}}, project="id", tag="node")
        query.append(
            orm.Node, with_outgoing="node", edge_filters=types, edge_project=["type", "label"], project=_PROJECTED, tag="before"
        )
        for key, *rest in query.order_by({"before": {"id": "asc"}}).iterall():
            row, (link, label) = rest[: len(_PROJECTED)], rest[len(_PROJECTED) :]
            yield key, "created by" if link == LinkType.CREATE.value else label, row


def _ancestor(row: list[Any]) -> Ancestor:
    _, uuid, node_type, label, attributes, computer = row
    if node_type.startswith("process."):
        return Ancestor(uuid, "process", attributes.get("process_label") or "process", label, attributes, computer, {})
    return Ancestor(uuid, "data", node_type.rstrip(".").rpartition(".")[2], label, attributes, computer, {})
