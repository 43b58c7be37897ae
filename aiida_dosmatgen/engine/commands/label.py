"""``dosmatgen label``: Quantum ESPRESSO on many crystals; finished records are never computed again."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dft.recipe import Recipe
from ...core.dft.upf import read_folder
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.job import LabelJob, Results, sha256_of
from ...core.labelled.leak import leak
from ...core.labelled.shards import add_shard, in_shards
from ...core.labelled.splits import assign, summary
from ..labelling.espresso import RunFailure
from ..labelling.label import symmetrised
from ..labelling.pwscf import estimated_cost, gather, label, record_path
from ..labelling.records import Records, compute_all
from . import Clock, Progress, results


def restart_files(job: LabelJob) -> list[str]:
    """Name the folder of records."""
    return [job.directory]


def run(job: LabelJob, folder: Path) -> Results:
    """Label the crystals of a job, and write a data card (``data_card.json``) beside the labelled set.

    :raises ContentError: if the crystals cannot be read, or Quantum ESPRESSO is not installed.
    """
    if job.recipe is not None:
        return _by_recipe(job, job.recipe, folder)
    clock = Clock(job.runtime.max_seconds)
    crystals = CrystalSet.load(folder / job.crystals)
    if job.max_cost is not None:
        crystals = crystals[[i for i, c in enumerate(crystals) if estimated_cost(c, job.settings) <= job.max_cost]]
    pseudos = None if job.pseudo_directory is None else folder / job.pseudo_directory
    progress = Progress("crystals labelled", len(crystals))
    finished_before = sum(record_path(folder / job.directory, c, job.settings).exists() for c in crystals)
    running = label(crystals, job.settings, folder / job.directory, job.workers, pseudos)
    for done, (index, status) in enumerate(running, 1):
        progress(done, "" if status == "ok" else f"crystal {index}: {status}")
        if done < len(crystals) and not clock.allows():
            running.close()
            break
    labelled, counts = gather(crystals, job.settings, folder / job.directory)
    if job.split is not None and len(labelled):
        split = assign(labelled, **job.split.model_dump())
        labelled = labelled.with_columns(crystal={"split": split})
    labelled.save(folder / job.output)
    computed = len(crystals) - counts.get("not computed", 0) - finished_before
    rate = {"structures": computed, "wall_seconds": round(clock.seconds, 1), "workers": job.workers}
    if computed:
        rate["structures_per_hour"] = round(3600 * computed / clock.seconds, 1)
        # one serial process each
        rate["core_seconds_per_structure"] = round(clock.seconds * job.workers / computed, 1)
    card = data_card(labelled, counts, job, folder) | {"computed_in_this_run": rate}
    (folder / "data_card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    details = {"statuses": counts, "computed_in_this_run": rate, "splits": card.get("splits")}
    done = len(crystals) - counts.get("not computed", 0)
    return results(job, folder, clock, output=job.output, done=done, of=len(crystals), details=details)


def _by_recipe(job: LabelJob, recipe: Recipe, folder: Path) -> Results:
    """Label crystals by a recipe, and add what is new to the shards if there are any."""
    clock = Clock(job.runtime.max_seconds)
    if job.pseudo_directory is None:
        raise ContentError("a recipe needs a folder of pseudopotentials; give pseudo_directory")
    crystals = CrystalSet.load(folder / job.crystals)
    pseudos = read_folder(folder / job.pseudo_directory)
    recipe = recipe.fitted(pseudos.values())
    records = Records(folder / job.directory / "records", recipe, pseudos)
    settings = job.settings
    there = np.zeros(len(crystals), dtype=bool)
    if job.shards is not None:
        there = in_shards(folder / job.shards, _as_labelled(crystals))
    missing = np.flatnonzero(~there)
    progress = Progress("crystals labelled", len(missing))
    before = sum(records.path(crystal).exists() for crystal in crystals[missing])
    running = compute_all(
        records, crystals[missing], job.workers, settings.max_seconds_per_crystal, settings.pw_command, settings.projwfc_command
    )
    for done, (row, status) in enumerate(running, 1):
        progress(done, "" if status == "ok" else f"crystal {missing[row]}: {status}")
        if done < len(missing) and not clock.allows():
            running.close()
            break
    labelled, counts = records.gather(crystals)
    labelled.save(folder / job.output)
    if job.shards is not None and len(labelled):
        files = {upf.path.name: upf.sha256 for upf in pseudos.values()}
        made_by = {"recipe": json.loads(recipe.text()), "pseudopotentials": files}
        failures = {reason: count for reason, count in counts.items() if reason not in ("ok", "not computed")}
        add_shard(folder / job.shards, labelled, made_by, [crystals], job.split, failures)
    now = sum(records.path(crystal).exists() for crystal in crystals[missing])
    rate = {"structures": now - before, "wall_seconds": round(clock.seconds, 1), "workers": job.workers}
    details = {"statuses": counts, "computed_in_this_run": rate, "in_shards_before": int(there.sum())}
    return results(job, folder, clock, output=job.output, done=int(there.sum()) + now, of=len(crystals), details=details)


def _as_labelled(crystals: CrystalSet) -> CrystalSet:
    """Return crystals in the cells in which they are computed; one whose symmetry cannot be told stays, and fails in turn."""
    cells = []
    for crystal in crystals:
        try:
            cells.append(symmetrised(crystal).with_columns(crystal=crystal.crystal_columns))
        except RunFailure:
            cells.append(crystal)
    return CrystalSet.concatenate(cells)


def data_card(labelled: CrystalSet, statuses: dict[str, int], job: LabelJob, folder: Path) -> dict:
    """Say how a labelled set was made, and what is in it."""
    columns = labelled.crystal_columns
    card = {
        "file": job.output,
        "sha256": sha256_of(folder / job.output),
        "n_crystals": len(labelled),
        "n_atoms": {str(n): c for n, c in sorted(Counter(labelled.n_atoms.tolist()).items())},
        "elements": {SYMBOLS[z]: c for z, c in sorted(Counter(labelled.numbers.tolist()).items())},
        "n_formulas": len(set(labelled.compositions)),
        "statuses": statuses,
        "settings": job.settings.model_dump(exclude={"pw_command", "projwfc_command"}),
        "max_cost": job.max_cost,
        "command": "dosmatgen label label.json",
        "crystals_sha256": sha256_of(folder / job.crystals),
        "columns": {"crystal": sorted(columns), "atom": sorted(labelled.atom_columns)},
        "units": "eV, Å, eV/Å, eV/Å^3 (positive in tension), states/eV relative to the highest occupied level",
    }
    if "prototype" in columns:
        card["prototypes"] = dict(Counter(columns["prototype"].tolist()).most_common())
    if "split" in columns and job.split is not None:
        card["splits"] = {**job.split.model_dump(), "counts": summary(labelled)}
        card["leak"] = leak(labelled)
    if len(labelled):
        lost = 1 - columns["projected_electrons"] / columns["n_electrons"]
        card["charge_lost_in_projection"] = {"mean": float(lost.mean()), "max": float(lost.max())}
        card["complete_below"] = dict(
            zip(("min", "median", "max"), np.percentile(columns["complete_below"], [0, 50, 100]).tolist(), strict=True)
        )
    return card
