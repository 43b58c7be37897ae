"""Where the crystals of a page come from, for its drawing of the lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm

from ..tools.ancestry import Ancestor, Branch, ancestors, tree

_PROCESSES = {
    "SampleCalculation": "sampled",
    "RelaxCalculation": "relaxed with the force field",
    "ReferencesCalculation": "elements relaxed",
    "PredictCalculation": "density of states predicted",
    "TrainCalculation": "trained",
    "PwCalculation": "pw.x",
    "ProjwfcCalculation": "projwfc.x",
    "screen": "screened",
    "join_crystals": "joined from several jobs",
    "extract_candidate": "taken out of the candidates",
    "prepare_dos": "prepared for DFT",
    "count_states": "states counted",
    "projected_dos": "projected on the atoms",
    "score_dos": "compared with the target",
}
_DATA = {
    "CrystalSetData": "crystals",
    "LabelledCrystalSetData": "training set",
    "CheckpointData": "checkpoint",
    "ForceFieldData": "force field",
    "DosTargetData": "target",
    "StructureData": "structure",
    "UpfData": "pseudopotential",
    "BandsData": "bands",
    "ProjectionData": "projections",
    "RemoteData": "work directory",
    "InstalledCode": "code",
    "PortableCode": "code",
    "ContainerizedCode": "code",
    "KpointsData": "k-points",
}

_MOST = 10  # entries of a dictionary that are shown one by one


def origins(scores: Iterable[str]) -> tuple[list[dict[str, Any]], list[list[Any]], dict[int, Ancestor]]:
    """Return the nodes behind scores, and for each score its tree.

    :param scores: uuids.
    :return: the nodes as {``what``, ``detail``, ``uuid``, ``kind``}; trees as
        [name, node, process or None, whether it is shown elsewhere, [trees below]], nodes by their places in the first list;
        and the nodes as they were read.
    """
    uuids = list(scores)
    nodes = ancestors(uuids)
    keys = {node.uuid: key for key, node in nodes.items()}
    computers = {computer.pk: computer.label for computer in orm.Computer.collection.all() if computer.pk is not None}
    places: dict[int, int] = {}
    trees = [_compact(tree(nodes, keys[uuid]), places) for uuid in uuids]
    listed = [_described(nodes[key], nodes, computers) for key in places]
    return listed, trees, nodes


def _compact(branch: Branch, places: dict[int, int]) -> list[Any]:
    """Return a tree with nodes replaced by their places, which are given in the order of the drawing."""

    def place(key: int) -> int:
        return places.setdefault(key, len(places))

    node, process = place(branch.node), None if branch.process is None else place(branch.process)
    return [branch.name, node, process, int(branch.repeated), [_compact(below, places) for below in branch.below]]


def _described(node: Ancestor, nodes: Mapping[int, Ancestor], computers: Mapping[int, str]) -> dict[str, Any]:
    if node.kind == "process":
        code = nodes.get(node.inputs.get("code", -1))
        where = "" if code is None else f"{code.label}@{computers.get(code.computer or -1, '?')}"
        return {"what": _PROCESSES.get(node.type, node.type), "detail": where, "uuid": node.uuid, "kind": "process"}
    return {"what": _DATA.get(node.type, node.type), "detail": _detail(node), "uuid": node.uuid, "kind": "data"}


def _detail(node: Ancestor) -> str:
    """Say of a node what tells it from others of its type."""
    get = node.attributes.get
    parts = [node.label]
    if node.type in ("Int", "Float", "Bool", "Str"):
        parts.append(str(get("value")))
    elif node.type == "CrystalSetData":
        count = get("n_crystals")
        parts.append("1 crystal" if count == 1 else f"{count} crystals")
    elif node.type == "UpfData":
        parts.append(f"{get('filename')}, md5 {get('md5')}")
    elif node.type in ("InstalledCode", "ContainerizedCode"):
        parts.append(str(get("filepath_executable", "")))
    elif node.type == "ForceFieldData" and not node.label:
        parts.append(str(get("name", "")))
    elif node.type == "Dict":
        shown = [_entry(*entry) for entry in sorted(node.attributes.items()) if _is_short(entry[1])]
        parts.append(", ".join(shown) if len(shown) <= _MOST else f"{len(node.attributes)} entries")
    if sha256 := get("sha256"):
        parts.append(f"sha256 {sha256[:16]}…")
    return " · ".join(part for part in parts if part)


def _is_short(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) < 40)


def _entry(key: str, value: Any) -> str:
    return f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
