"""A campaign for others: an archive for those with AiiDA, OPTIMADE-style JSON and extended XYZ for those without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.tools import create_archive

from .. import __version__
from ..core.files.replacing import replacing
from ..core.target import DosTarget
from .campaign import RankedCrystal, check_campaign, compared, results_of

_PREFIX = "_dosmatgen_"
_OPTIMADE = "1.2.0"
_VALUES = {
    "rank": ("integer", None, "place in the final ranking of the target, from 1"),
    "candidate": ("integer", None, "number of the candidate; with the seed it says which one was sampled"),
    "geometry": ("string", None, "relaxed by the force field, or unrelaxed, as it was sampled"),
    "status": ("string", None, "validated, not validated or failed"),
    "score": ("float", None, "score of the screening, the lowest is the best"),
    "predicted_distance": (
        "float",
        "states/eV/atom",
        "mean absolute difference of the predicted density of states from the target",
    ),
    "uncertainty": ("float", "states/eV/atom", "expected error of the predicted density of states"),
    "formation_energy": ("float", "eV/atom", "formation energy of the relaxed geometry by the force field"),
    "relaxation_energy": ("float", "eV/atom", "energy of this geometry above the relaxed one by the force field"),
    "missed": ("float", None, "by how many tolerances the wishes of the target are missed, as far as is predicted"),
    "hull_distance": ("float", "eV/atom", "energy of the relaxed geometry above the hull of known phases by the force field"),
}
_DFT_VALUES = {
    "distance": ("states/eV/atom", "what crystals are ranked by: from the curve and the wishes of the target"),
    "missed": (None, "by how many tolerances the wishes of the target are missed by DFT"),
    "mae": ("states/eV/atom", "mean absolute difference of the DFT density of states from the target"),
    "mae_window": ("states/eV/atom", "the same within 3 eV of the highest occupied level"),
    "mae_total": ("states/eV/atom", "the same of the total curves"),
    "wasserstein": ("eV", "Wasserstein distance of the DFT density of states from the target"),
    "gap": ("eV", "band gap by DFT on the mesh of the calculation, 0 for a metal"),
}


def export_archive(node: orm.WorkChainNode, path: str | Path) -> Path:
    """Write an AiiDA archive with a campaign and everything that its ranking, lineage, page and repetition need.

    These are all processes that it called with their inputs and outputs, and what the inputs come from: models with their
    training sets and runs, references, pseudopotentials, codes. ``verdi archive import`` brings them into any profile.

    :param path: of the archive; one that is there is replaced.
    :raises ValueError: in one line, if the node is no campaign, or has no ranking (yet).
    """
    check_campaign(node)
    with replacing(Path(path).expanduser()) as partial:
        create_archive(
            [node],
            filename=partial,
            overwrite=True,
            include_comments=True,
            include_logs=True,
            create_backward=True,
            return_backward=False,
            call_calc_backward=False,
            call_work_backward=False,
        )
    return Path(path).expanduser()


def write_optimade(node: orm.WorkChainNode, path: str | Path) -> Path:
    """Write the ranked crystals as JSON in the form of an OPTIMADE answer of structures.

    Each entry has the properties of the standard, and beginning with ``_dosmatgen_`` the target, the place in the ranking,
    distances and energies, and the curves ``predicted_dos`` and ``dft_dos`` in states/eV, one for each atom that is compared.
    What is not known is null. ``meta`` has the targets with the energies of all curves, and describes the properties.

    :param path: of the JSON file; one that is there is replaced.
    :raises ValueError: in one line, if the node is no campaign, or has no ranking (yet).
    """
    results = results_of(node)
    meta = {
        "query": {"representation": "/structures"},
        "api_version": _OPTIMADE,
        "more_data_available": False,
        "data_returned": len(results.crystals),
        "data_available": len(results.crystals),
        "time_stamp": _time(node),
        "provider": {
            "name": "aiida-dosmatgen",
            "description": "Results of one campaign, from a target density of states to validated crystals",
            "prefix": "dosmatgen",
        },
        "implementation": {"name": "aiida-dosmatgen", "version": __version__},
        f"{_PREFIX}campaign": node.uuid,
        f"{_PREFIX}properties": _properties(),
        f"{_PREFIX}targets": {name: _curve_of(target) for name, target in results.targets.items()},
    }
    with replacing(Path(path).expanduser()) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.write('{\n "data": [')
        for number, crystal in enumerate(results.crystals):  # one at a time: as objects of Python they are many times larger
            entry = _json(_entry(node, crystal, results.targets[crystal.target]), "  ")
            stream.write(f"{',' if number else ''}\n  {entry}")
        stream.write(f'\n ],\n "meta": {_json(meta, " ")}\n}}')
    return Path(path).expanduser()


def write_extxyz(node: orm.WorkChainNode, path: str | Path) -> Path:
    """Write the ranked crystals as extended XYZ, each target's best first, which ASE, OVITO and most codes read.

    The comment line of each has the target, the place in the ranking, distances and energies; what is not known is left out.
    The curves are in :func:`write_optimade` only.

    :param path: of the file; one that is there is replaced.
    :raises ValueError: in one line, if the node is no campaign, or has no ranking (yet).
    """
    import ase.io

    results = results_of(node)
    frames = []
    for crystal in results.crystals:
        frame = crystal.crystal.to_ase()[0]
        frame.info = {name: value for name, value in _values(node, crystal).items() if value is not None}
        frames.append(frame)
    with replacing(Path(path).expanduser()) as partial:
        ase.io.write(partial, frames, format="extxyz")
    return Path(path).expanduser()


def _json(content: dict[str, Any], indentation: str) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).replace("\n", f"\n{indentation}")


def _entry(campaign: orm.WorkChainNode, crystal: RankedCrystal, target: DosTarget) -> dict[str, Any]:
    from pymatgen.io.optimade import OptimadeStructureAdapter

    written: dict[str, Any] = OptimadeStructureAdapter.get_optimade_structure(crystal.crystal.to_pymatgen()[0])
    attributes: dict[str, Any] = written["attributes"]
    attributes["species"] = sorted(attributes["species"], key=lambda species: species["name"])
    attributes |= {"structure_features": [], "last_modified": _time(campaign)}
    values = {f"{_PREFIX}{name}": value for name, value in _values(campaign, crystal).items()}
    curves = {
        f"{_PREFIX}{name}": None if dos is None else _rounded(compared(target, crystal, dos))
        for name, dos in (("predicted_dos", crystal.predicted), ("dft_dos", crystal.dft))
    }
    limit = {f"{_PREFIX}dft_complete_below": crystal.complete_below if np.isfinite(crystal.complete_below) else None}
    identity = f"{campaign.uuid}/{crystal.target}/{crystal.row['candidate']}"
    return {"id": identity, "type": "structures", "attributes": {**attributes, **values, **limit, **curves}}


def _values(campaign: orm.WorkChainNode, crystal: RankedCrystal) -> dict[str, Any]:
    """Return what is known of a crystal besides its atoms and curves; strings and numbers, None for what is not known."""
    row, dft = crystal.row, crystal.row.get("dft") or {}
    return {
        "campaign": campaign.uuid,
        "target": crystal.target,
        **{name: row.get(name) for name in _VALUES},
        **{f"dft_{name}": dft.get(name) for name in _DFT_VALUES},
        "force_field_energy": crystal.energy,
        "reason": row.get("reason"),
        "structure": row.get("structure"),
        "validation": row.get("validation"),
    }


def _properties() -> dict[str, dict[str, Any]]:
    """Describe the properties that are not of the standard."""
    described = {name: {"type": kind, "unit": unit, "description": text} for name, (kind, unit, text) in _VALUES.items()}
    described |= {
        f"dft_{name}": {"type": "float", "unit": unit, "description": text} for name, (unit, text) in _DFT_VALUES.items()
    }
    curve = {"type": "list", "unit": "states/eV"}
    described |= {
        "predicted_dos": {**curve, "description": "predicted density of states of each atom that is compared, at dos_energies"},
        "dft_dos": {**curve, "description": "the same by DFT, right up to dft_complete_below"},
        "dft_complete_below": {
            "type": "float",
            "unit": "eV",
            "description": "energy up to which no band is missing from dft_dos",
        },
        "force_field_energy": {"type": "float", "unit": "eV/atom", "description": "energy by the force field"},
        "campaign": {"type": "string", "unit": None, "description": "uuid of the campaign in AiiDA"},
        "structure": {"type": "string", "unit": None, "description": "uuid of the structure in AiiDA"},
        "validation": {"type": "string", "unit": None, "description": "uuid of the process that computed it by DFT, in AiiDA"},
        "reason": {"type": "string", "unit": None, "description": "why DFT failed"},
        "target": {"type": "string", "unit": None, "description": "name of the target"},
    }
    return {f"{_PREFIX}{name}": description for name, description in described.items()}


def _curve_of(target: DosTarget) -> dict[str, Any]:
    return {
        "kind": target.kind,
        "atoms": list(target.atoms),
        "dos_energies": {"emin": target.grid.emin, "emax": target.grid.emax, "n": target.grid.n, "unit": "eV"},
        "complete_below": target.complete_below if np.isfinite(target.complete_below) else None,
        "target_dos": _rounded(target.curves),
        **({"wishes": [one.model_dump() for one in target.wishes]} if target.wishes else {}),
    }


def _rounded(curves: np.ndarray) -> list[list[float]]:
    """Return curves with five digits after the point: more than single precision and the broadening leave of them."""
    return np.round(curves, 5).tolist()


def _time(campaign: orm.WorkChainNode) -> str:
    return f"{campaign.ctime:%Y-%m-%dT%H:%M:%SZ}"
