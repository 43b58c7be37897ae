"""``dosmatgen label``: Quantum ESPRESSO on many crystals; finished records are never computed again."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.job import LabelJob, Results, sha256_of
from ..labelling import estimated_cost, gather, label
from . import Clock, Progress, results


def run(job: LabelJob, folder: Path) -> Results:
    """Label the crystals of a job, and write a data card (``data_card.json``) beside the labelled set.

    :raises ContentError: if the crystals cannot be read, or Quantum ESPRESSO is not installed.
    """
    clock = Clock(job.runtime.max_seconds)
    crystals = CrystalSet.load(folder / job.crystals)
    if job.max_cost is not None:
        crystals = crystals[[i for i, c in enumerate(crystals) if estimated_cost(c, job.settings) <= job.max_cost]]
    pseudos = None if job.pseudo_directory is None else folder / job.pseudo_directory
    progress = Progress("crystals labelled", len(crystals))
    running = label(crystals, job.settings, folder / job.directory, job.workers, pseudos)
    for done, (index, status) in enumerate(running, 1):
        progress(done, "" if status == "ok" else f"crystal {index}: {status}")
        if done < len(crystals) and not clock.allows():
            running.close()
            break
    labelled, counts = gather(crystals, job.settings, folder / job.directory)
    labelled.save(folder / job.output)
    (folder / "data_card.json").write_text(json.dumps(data_card(labelled, counts, job, folder), indent=1), encoding="utf-8")
    done = len(crystals) - counts.get("not computed", 0)
    return results(job, folder, clock, output=job.output, done=done, of=len(crystals), details={"statuses": counts})


def data_card(labelled: CrystalSet, statuses: dict[str, int], job: LabelJob, folder: Path) -> dict:
    """Say how a labelled set was made, and what is in it."""
    columns = labelled.crystal_columns
    card = {
        "file": job.output,
        "sha256": sha256_of(folder / job.output),
        "n_crystals": len(labelled),
        "n_atoms": {str(n): c for n, c in sorted(Counter(labelled.n_atoms.tolist()).items())},
        "elements": {SYMBOLS[z]: c for z, c in sorted(Counter(labelled.numbers.tolist()).items())},
        "n_formulas": len(set(labelled.formulas)),
        "statuses": statuses,
        "settings": job.settings.model_dump(exclude={"pw_command", "projwfc_command"}),
        "max_cost": job.max_cost,
        "crystals_sha256": sha256_of(folder / job.crystals),
        "columns": {"crystal": sorted(columns), "atom": sorted(labelled.atom_columns)},
        "units": "eV, Å, eV/Å, eV/Å^3 (positive in tension), states/eV relative to the highest occupied level",
    }
    if "prototype" in columns:
        card["prototypes"] = dict(Counter(columns["prototype"].tolist()).most_common())
    if len(labelled):
        lost = 1 - columns["projected_electrons"] / columns["n_electrons"]
        card["charge_lost_in_projection"] = {"mean": float(lost.mean()), "max": float(lost.max())}
        card["complete_below"] = dict(
            zip(("min", "median", "max"), np.percentile(columns["complete_below"], [0, 50, 100]).tolist(), strict=True)
        )
    return card
