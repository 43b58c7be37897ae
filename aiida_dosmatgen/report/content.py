"""The content of the page of a campaign, as plain values: strings, numbers, lists. :mod:`.page` formats it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm

from ..core.crystals import CrystalSet
from ..core.screening.funnel import LABELS
from ..core.screening.geometries import UNRELAXED
from ..core.target import DosTarget
from ..core.target.distances import distance_of, in_short, in_words
from ..tools.campaign import CampaignResults, RankedCrystal, results_of, scores_of, target_nodes
from ..tools.ranking import wishes_of
from .curves import packed_crystal, packed_target, sparkline
from .origin import origins
from .overview import CLOSE, overview
from .settings import dft_energies, made_by, reproduction

_SYMPREC = 0.05  # Å; relaxed candidates are symmetric to some hundredths


def content_of(campaign: orm.WorkChainNode) -> dict[str, Any]:
    """Return all that the page of a campaign says.

    :raises ValueError: in one line, if the node is no campaign, or has no ranking (yet).
    """
    results = results_of(campaign)
    several = len(results.targets) > 1
    scores = scores_of([crystal.row["validation"] for crystal in results.crystals if crystal.validated])
    energies = dft_energies(campaign)
    nodes, trees, read = origins(scores.values())
    summary = overview(campaign, results, read)
    tree_of = dict(zip(scores, trees, strict=True))
    rows, crystals = [], []
    for place, crystal in enumerate(results.crystals):
        target, row = results.targets[crystal.target], crystal.row
        validation = row.get("validation") if crystal.validated else None
        rows.append(_table_row(place, target, crystal))
        crystals.append(
            {
                "key": f"{crystal.target}-{row['candidate']}",
                "target": crystal.target,
                "candidate": row["candidate"],
                "unrelaxed": row.get("geometry") == UNRELAXED,
                "formula": row["formula"],
                "status": row["status"],
                "validated": crystal.validated,
                "mae": (row.get("dft") or {}).get("mae"),
                "distance": distance_of(row.get("dft") or {}),
                "facts": _facts(crystal, energies.get(validation or "")),
                "cif": cif_of(crystal.crystal, f"{row['formula']}_candidate_{row['candidate']}"),
                "curves": packed_crystal(target, crystal),
                "tree": tree_of.get(validation or ""),
            }
        )
    return {
        "title": campaign.label or f"Campaign of {campaign.ctime:%d %B %Y}",
        "description": campaign.description,
        "uuid": campaign.uuid,
        "begun": f"{campaign.ctime:%Y-%m-%d %H:%M} UTC",
        "state": _state(campaign),
        "several": several,
        "totals": _totals(results, summary),
        "overview": summary,
        "close": CLOSE,
        "funnels": [_funnel(name, results) for name in sorted(results.targets)],
        "rows": rows,
        "wishes": any(target.wishes for target in results.targets.values()),
        "n_validated": sum(crystal.validated for crystal in results.crystals),
        "reproduction": reproduction(campaign),
        "sources": {
            name: node.base.attributes.get("label_source", None) or "" for name, node in target_nodes(campaign).items()
        },
        "payload": {
            "targets": {name: packed_target(target) for name, target in results.targets.items()},
            "crystals": crystals,
            "nodes": nodes,
            "made": made_by(campaign),
        },
    }


def cif_of(crystal: CrystalSet, name: str) -> str:
    """Return one crystal as a CIF, all atoms of the cell listed."""
    import ase.io

    stream = io.BytesIO()
    ase.io.write(stream, crystal.to_ase(), format="cif")
    return stream.getvalue().decode("ascii").replace("data_image0", f"data_{name}", 1)


def _state(campaign: orm.WorkChainNode) -> str:
    if campaign.is_finished_ok:
        return "finished"
    return f"ended with exit status {campaign.exit_status}: {campaign.exit_message or campaign.exception or ''}".rstrip(": ")


def _totals(results: CampaignResults, summary: list[dict[str, Any]]) -> dict[str, Any]:
    validated = [crystal for crystal in results.crystals if crystal.validated]
    scored = [row for row in summary if row.get("validated") and row["distance"] is not None]
    best = min(scored, key=lambda row: row["distance"], default=None)
    found = None
    if best is not None:
        crystal = results.crystals[best["place"]]
        found = {**best, "mae": crystal.row["dft"]["mae"], "met": _met(crystal)}
    return {
        "candidates": sum(funnel.get("candidates", 0) for funnel in results.funnels.values()),
        "ranked": len(results.crystals),
        "computed": sum(crystal.row["status"] in ("validated", "failed") for crystal in results.crystals),
        "validated": len(validated),
        "best": found,
    }


def _funnel(name: str, results: CampaignResults) -> dict[str, Any]:
    crystals = [crystal for crystal in results.crystals if crystal.target == name]
    steps = [(LABELS.get(key, key), left) for key, left in results.funnels.get(name, {}).items()]
    steps.append(("computed by DFT", sum(crystal.row["status"] in ("validated", "failed") for crystal in crystals)))
    steps.append(("validated", sum(crystal.validated for crystal in crystals)))
    first = max(steps[0][1], 1)
    reasons = sorted(results.rejected.get(name, {}).items(), key=lambda pair: (-pair[1], pair[0]))
    lost: dict[str, int] = {}
    for crystal in crystals:
        if crystal.row["status"] == "failed":
            reason = f"DFT failed: {crystal.row.get('reason', '')}"
            lost[reason] = lost.get(reason, 0) + 1
    return {
        "target": name,
        "failed": results.failed.get(name),
        "steps": [{"name": step, "left": left, "share": left / first} for step, left in steps],
        "reasons": [*reasons, *lost.items()],
    }


def _table_row(place: int, target: DosTarget, crystal: RankedCrystal) -> dict[str, Any]:
    row, dft = crystal.row, crystal.row.get("dft") or {}
    return {
        "place": place,
        "target": crystal.target,
        "rank": row["rank"],
        "formula": row["formula"],
        "candidate": row["candidate"],
        "geometry": row.get("geometry", ""),
        "formation_energy": row.get("formation_energy"),
        "predicted": row.get("predicted_distance"),
        "mae": dft.get("mae"),
        "mae_window": dft.get("mae_window"),
        "wasserstein": dft.get("wasserstein"),
        "gap": dft.get("gap"),
        "score": row.get("score"),
        "met": _met(crystal),
        "missed": dft.get("missed", row.get("missed")),
        "status": row["status"],
        "validated": crystal.validated,
        "reason": row.get("reason", ""),
        "sparkline": sparkline(target, crystal) if crystal.dft is not None else None,
    }


def _met(crystal: RankedCrystal) -> str:
    """Return how many wishes of its target a crystal meets; empty if there are none."""
    found = wishes_of(crystal.row)
    return in_short(found).split(" (")[0] if found else ""


def _wishes(crystal: RankedCrystal) -> list[tuple[str, str, str]]:
    """Return what became of each wish, by DFT and as it was predicted."""
    found: dict[str, list[str]] = {}
    for by, rows in (("by DFT", (crystal.row.get("dft") or {}).get("wishes")), ("predicted", crystal.row.get("wishes"))):
        for row in rows or []:
            found.setdefault(row["wish"], []).append(f"{by}: {in_words(row)}")
    return [(f"Wish: {_typeset(wish)}", _typeset("; ".join(words)), "") for wish, words in found.items()]


def _typeset(text: str) -> str:
    for plain, sign in (("+-", "±"), (">=", "≥"), ("<=", "≤"), ("-", "−")):
        text = text.replace(plain, sign)
    return text


def _window(dft: Mapping[str, Any]) -> str:
    low, high = dft.get("low"), dft.get("high")
    return "" if low is None or high is None else f"{low:.1f} … {high:.1f}"


def _facts(crystal: RankedCrystal, dft_energy: float | None) -> list[list[str]]:
    """Return name, value and unit of what is known of a crystal."""
    row, dft = crystal.row, crystal.row.get("dft") or {}
    one, n_atoms = crystal.crystal, len(crystal.crystal.numbers)
    lengths, angles = _cell(one.lattices[0])
    facts = [
        ("DFT distance", _number(dft.get("mae"), 4), "states/eV/atom"),
        ("DFT distance, ±3 eV", _number(dft.get("mae_window"), 4), "states/eV/atom"),
        ("DFT distance, totals", _number(dft.get("mae_total"), 4), "states/eV/atom"),
        ("DFT shift (Wasserstein)", _number(dft.get("wasserstein"), 3), "eV"),
        *_wishes(crystal),
        ("Compared from … to", _window(dft), "eV"),
        ("Band gap, DFT", _number(dft.get("gap"), 2), "eV"),
        ("Predicted distance", _number(row.get("predicted_distance"), 4), "states/eV/atom"),
        ("Its expected error", _number(row.get("uncertainty"), 4), "states/eV/atom"),
        ("Score", _number(row.get("score"), 4), ""),
        ("Geometry", row.get("geometry", ""), ""),
        ("Formation energy, relaxed", _number(row.get("formation_energy"), 3), "eV/atom"),
        ("Energy above the relaxed geometry", _number(row.get("relaxation_energy") or None, 3), "eV/atom"),
        ("Energy above the hull", _number(row.get("hull_distance"), 3), "eV/atom"),
        ("Energy, force field", _number(crystal.energy, 4), "eV/atom"),
        ("Energy, DFT", _number(None if dft_energy is None else dft_energy / n_atoms, 4), "eV/atom"),
        ("Space group", _space_group(one) if crystal.validated else "", ""),
        ("Atoms in the cell", str(n_atoms), ""),
        ("Cell lengths", " · ".join(f"{length:.3f}" for length in lengths), "Å"),
        ("Cell angles", " · ".join(f"{angle:.1f}" for angle in angles), "°"),
        ("Volume", _number(float(one.volumes[0]) / n_atoms, 2), "Å³/atom"),
        ("Chosen for DFT because", row.get("selected") or "", ""),
        ("Failed because", row.get("reason") or "", ""),
        ("Structure", row.get("structure") or "", ""),
        ("Validation", row.get("validation") or "", ""),
    ]
    return [[name, value, unit] for name, value, unit in facts if value]


def _cell(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths in Å and angles in degrees."""
    lengths = np.linalg.norm(lattice, axis=1)
    pairs = ((1, 2), (0, 2), (0, 1))
    cosines = [lattice[i] @ lattice[j] / (lengths[i] * lengths[j]) for i, j in pairs]
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def _space_group(crystal: CrystalSet) -> str:
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    try:
        found = SpacegroupAnalyzer(crystal.to_pymatgen()[0], symprec=_SYMPREC)
        return f"{found.get_space_group_symbol()} ({found.get_space_group_number()}), to {_SYMPREC:g} Å"
    except (SymmetryUndeterminedError, TypeError):  # spglib gives up on some distorted cells
        return ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("-", "−")
