"""Settings, models, files and programs of a campaign, with their hashes."""

from __future__ import annotations

import json
from typing import Any

from aiida import orm
from aiida.common import LinkType

from .. import __version__
from ..tools.campaign import CAMPAIGN


def reproduction(campaign: orm.WorkChainNode) -> dict[str, Any]:
    """Return tables of what a campaign was run with.

    :return: ``targets``, ``models``, ``files``, ``codes`` and ``pseudos``: rows of text; ``settings``: (name of the input,
        value) as text; ``versions``: (program, version).
    """
    inputs = {
        entry.link_label: entry.node
        for entry in sorted(
            campaign.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all(), key=lambda entry: entry.link_label
        )
    }
    found: dict[str, Any] = {"targets": [], "models": [], "codes": [], "pseudos": [], "crystals": [], "settings": []}
    for link, node in inputs.items():
        get, name = node.base.attributes.get, link.replace("__", ".")
        kind = type(node).__name__
        if kind == "DosTargetData":
            found["targets"].append([name.removeprefix("targets."), get("label_source", None) or node.label, get("sha256")])
        elif kind in ("CheckpointData", "ForceFieldData"):
            training = get("training", None) or {}
            label = node.label or get("name", "") or get("kind")
            sha256 = get("sha256", None) or "none; known by its name"
            found["models"].append([name, label, sha256, training.get("dataset_sha256", "")])
        elif kind in ("CrystalSetData", "LabelledCrystalSetData", "StructureData"):
            found["crystals"].append([name, node.label, get("sha256", "") or node.uuid])
        elif kind == "UpfData":
            found["pseudos"].append([name.rpartition(".")[2], get("filename"), get("md5")])
        elif isinstance(node, orm.AbstractCode):
            found["codes"].append([name, node.full_label, str(get("filepath_executable", ""))])
        elif isinstance(node, orm.Dict):
            found["settings"].append([name, json.dumps(node.get_dict(), indent=1, sort_keys=True, ensure_ascii=False)])
        elif isinstance(node, orm.List):
            found["settings"].append([name, json.dumps(node.get_list())])
        elif hasattr(node, "value"):
            found["settings"].append([name, str(node.value)])
    found["versions"] = _versions(campaign)
    return found


def made_by(campaign: orm.WorkChainNode) -> dict[str, str]:
    """Return what all candidates of a campaign have in common: ``seed``, ``checkpoint``, ``force_field``, ``predictor``."""
    inputs = campaign.base.links.get_incoming(link_type=LinkType.INPUT_WORK)
    found = {"seed": str(inputs.get_node_by_label("candidates__seed").value)}
    for name in ("checkpoint", "force_field", "predictor"):
        node = inputs.get_node_by_label(f"candidates__{name}")
        found[name] = node.label or node.base.attributes.get("name", "") or node.uuid
    return found


def _versions(campaign: orm.WorkChainNode) -> list[tuple[str, str]]:
    versions = campaign.base.attributes.get("version", {})
    found = {
        "aiida-core": {versions.get("core")},
        "aiida-dosmatgen": {versions.get("plugin")},
        "this page by aiida-dosmatgen": {__version__},
    }
    for engine, torch in _of_jobs(campaign, "results", ("engine_version", "torch_version")):
        found.setdefault("dosmatgen, on the compute node", set()).add(engine)
        found.setdefault("torch", set()).add(torch)
    for program, version in _of_jobs(campaign, "output_parameters", ("creator_name", "creator_version")):
        found.setdefault(f"Quantum ESPRESSO ({program.lower()})", set()).add(version)
    return [(name, ", ".join(sorted(str(one) for one in some if one))) for name, some in found.items() if any(some)]


def _of_jobs(campaign: orm.WorkChainNode, label: str, keys: tuple[str, ...]) -> list[list[Any]]:
    """Return distinct values from the outputs of a name of all jobs that a campaign has called, at any depth."""
    project = [f"attributes.{key}" for key in keys]
    rows: list[list[Any]] = []
    for depth in range(1, 5):
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"uuid": campaign.uuid}, tag="chain_0")
        for level in range(1, depth):
            edge = {"type": LinkType.CALL_WORK.value}
            query.append(orm.WorkChainNode, with_incoming=f"chain_{level - 1}", edge_filters=edge, tag=f"chain_{level}")
        edge = {"type": LinkType.CALL_CALC.value}
        query.append(orm.CalcJobNode, with_incoming=f"chain_{depth - 1}", edge_filters=edge, tag="job")
        edge = {"type": LinkType.CREATE.value, "label": label}
        query.append(orm.Dict, with_incoming="job", edge_filters=edge, project=project)
        rows += query.distinct().all()
    return [row for row in rows if all(row)]


def dft_energies(campaign: orm.WorkChainNode) -> dict[str, float]:
    """Return by the uuid of each validation the total energy of its cell in eV, by the self-consistent run of pw.x."""
    found: dict[str, float] = {}
    for above, called in (({"like": "pdos%"}, "scf"), ("dos", {"like": "scf_%"})):  # the first before version 0.3
        found |= _energies(campaign, above, called)
    return found


def _energies(campaign: orm.WorkChainNode, above: Any, called: Any) -> dict[str, float]:
    """Return the same where work chains called as ``above`` have called the self-consistent run as ``called``."""
    query = orm.QueryBuilder().append(
        orm.WorkChainNode, filters={"uuid": campaign.uuid, "process_type": CAMPAIGN}, tag="campaign"
    )
    call = {"type": LinkType.CALL_WORK.value}
    query.append(orm.WorkChainNode, with_incoming="campaign", edge_filters=call, project="uuid", tag="validation")
    query.append(orm.WorkChainNode, with_incoming="validation", edge_filters={**call, "label": above}, tag="dos")
    query.append(orm.WorkChainNode, with_incoming="dos", edge_filters={**call, "label": called}, tag="scf")
    query.append(
        orm.Dict,
        with_incoming="scf",
        edge_filters={"type": LinkType.RETURN.value, "label": "output_parameters"},
        project="attributes.energy",
        tag="parameters",
    )
    return {uuid: energy for uuid, energy in query.order_by({"parameters": {"id": "asc"}}).all() if energy is not None}
