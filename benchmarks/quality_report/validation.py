"""The best candidates of each target by pw.x and projwfc.x, at the settings of the data set's labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.labelling.pwscf import estimated_cost, label, record_path

from .ranking import Best
from .work import say


def settings_of(dataset: Path, seconds: float) -> LabelSettings:
    """Return the settings by which a data set was labelled (``label.json`` beside it, else the defaults)."""
    job = dataset.parent / "label.json"
    given = json.loads(job.read_text(encoding="utf-8")).get("settings", {}) if job.exists() else {}
    return LabelSettings(**{**given, "max_seconds_per_crystal": seconds})


def validate(
    picks: dict[str, dict[int, Best]],
    crystals: CrystalSet,
    targets: list[DosTarget],
    count: int,
    settings: LabelSettings,
    folder: Path,
    workers: int,
) -> list[dict[str, Any]]:
    """Compute the picks of the first ``count`` targets, and score them; a crystal is computed once, whoever picked it.

    :param picks: by what they were asked for (``conditional …``), the best candidate of each target.
    :param crystals: those that the targets belong to.
    :return: a row for each pick, target by target: ``distance`` (states/eV/atom) by DFT, None with the ``reason`` where that
        failed, ``surrogate``, the same by the predictor, and ``run``, the same for picks that are one crystal.
    """
    chosen = [(i, kind, picks[kind][i]) for i in range(min(count, len(targets))) for kind in picks if i in picks[kind]]
    if not chosen:
        return []
    bare = [best.crystal.replace(crystal_columns={}, atom_columns={}) for _, _, best in chosen]
    paths = [record_path(folder, crystal, settings) for crystal in bare]
    runs = [k for k, path in enumerate(paths) if path not in paths[:k]]
    cost = sum(_cost(bare[k], settings) for k in runs)
    say(f"{len(runs)} runs of pw.x, about {cost / workers / 60:.0f} minutes in all on free cores; records are kept")
    for done, (index, status) in enumerate(label(CrystalSet.concatenate(bare[k] for k in runs), settings, folder, workers), 1):
        i, kind, _ = chosen[runs[index]]
        say(f"pw.x {done}/{len(runs)}: {bare[runs[index]].formulas[0]} for target {i}, {kind}: {status}")
    return [
        {"run": paths.index(path), **_row(i, kind, best, crystal, crystals, targets[i], path)}
        for (i, kind, best), crystal, path in zip(chosen, bare, paths, strict=True)
    ]


def _cost(crystal: CrystalSet, settings: LabelSettings) -> float:
    """Return the seconds that a run may take on one core; none for a crystal that pw.x will not get."""
    try:
        return estimated_cost(crystal.check(), settings)
    except ContentError:
        return 0.0


def _row(
    i: int,
    kind: str,
    best: Best,
    crystal: CrystalSet,
    crystals: CrystalSet,
    target: DosTarget,
    record: Path,
) -> dict[str, Any]:
    labelled = CrystalSet.load(record)
    status = str(labelled.crystal_columns["status"][0])
    row: dict[str, Any] = {
        "target": i,
        "of": crystals.formulas[i],
        "kind": kind,
        "formula": crystal.formulas[0],
        "candidate": int(best.crystal.crystal_columns["candidate"][0]),
        "geometry": str(best.crystal.crystal_columns["geometry"][0]) if "geometry" in best.crystal.crystal_columns else None,
        "lenient": best.lenient,
        "surrogate": best.distance,
        "distance": None,
        "reason": None if status == "ok" else status,
    }
    if status != "ok":
        return row
    dos, complete = labelled.atom_columns["dos"], float(labelled.crystal_columns["complete_below"][0])
    scores = target.distances(curves_of(labelled))
    predicted = best.crystal.atom_columns["predicted_dos"]
    return row | {
        "distance": scores["mae"],
        "distance_window": scores["mae_window"],
        "wasserstein": scores["wasserstein"],
        "complete_below": min(complete, target.complete_below, target.grid.emax),
        "surrogate_error": float(np.abs(predicted - dos)[:, target.grid.points <= complete].mean()),
        "fmax": float(np.linalg.norm(labelled.atom_columns["forces"], axis=1).max()),
        "dos": np.round(dos.mean(0), 3).tolist(),
        "predicted": np.round(predicted.mean(0), 3).tolist(),
    }


def paired(rows: list[dict[str, Any]], ours: str, theirs: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the DFT distances of two kinds of picks, for the targets where both could be computed, shape (n,) each."""
    found: dict[str, dict[int, float]] = {ours: {}, theirs: {}}
    for row in rows:
        if row["kind"] in found and row["distance"] is not None:
            found[row["kind"]][row["target"]] = row["distance"]
    both = sorted(found[ours].keys() & found[theirs].keys())
    return np.array([found[ours][i] for i in both]), np.array([found[theirs][i] for i in both])
