"""The best candidate of each target, chosen as a campaign chooses: relaxed, predicted, screened, ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job import ForceField, ReferencesJob, RelaxJob, RelaxParameters, Runtime, SampleParameters
from aiida_dosmatgen.core.screening import ScreenCriteria, screen
from aiida_dosmatgen.core.screening.geometries import join_geometries
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.commands import references, relax

from .surrogate import Surrogate
from .work import key_of

PROTOCOLS = Path(__file__).parents[2] / "aiida_dosmatgen" / "workflows" / "protocols" / "candidates.yaml"


class Protocol(NamedTuple):
    """What the default protocol of the campaign says of its candidates."""

    sample: SampleParameters
    relax: RelaxParameters
    criteria: ScreenCriteria


def protocol() -> Protocol:
    """Read the default protocol, so that the report is about what users get."""
    text = yaml.safe_load(PROTOCOLS.read_text(encoding="utf-8"))
    default, own = text["default_inputs"], text["protocols"][text["default_protocol"]]

    def merged(*keys: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for level in (default, own):
            for key in keys:
                level = level.get(key, {})
            found |= level
        return found

    return Protocol(
        SampleParameters(**merged("sample", "parameters")),
        RelaxParameters(**merged("relax", "parameters")),
        ScreenCriteria(**merged("criteria")),
    )


def relaxed(
    crystals: CrystalSet, force_field: ForceField, parameters: RelaxParameters, folder: Path, threads: int | None
) -> tuple[CrystalSet, dict[str, float]]:
    """Relax candidates and elements by the jobs that a campaign runs; it continues where it was stopped.

    :return: the crystals with the columns of the relaxation, and the elements' energies by the force field (eV/atom).
    """
    folder = folder / key_of(crystals, force_field.model_dump(), parameters.model_dump())
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / "done.json"
    if not marker.exists():
        crystals.save(folder / "candidates.npz")
        job = RelaxJob(
            crystals="candidates.npz", force_field=force_field, parameters=parameters, runtime=Runtime(threads=threads)
        )
        relax.run(job, folder)
        elements = sorted({SYMBOLS[z] for z in crystals.numbers.tolist()})
        given = {"force_field": force_field, "parameters": parameters, "runtime": Runtime(threads=threads)}
        outcome = references.run(ReferencesJob(elements=elements, **given), folder)
        marker.write_text(json.dumps(outcome.details["energies"]), encoding="utf-8")
    return CrystalSet.load(folder / "relaxed.npz"), json.loads(marker.read_text(encoding="utf-8"))


def displacements(before: CrystalSet, after: CrystalSet) -> np.ndarray:
    """Return the root mean square displacement of each crystal's atoms in Å, shape (N,).

    In fractional coordinates to the nearest image, without a common translation, measured in the mean of the two cells: the
    change of the cell alone counts for nothing.
    """
    found, offsets = np.empty(len(before)), before.offsets
    for i in range(len(before)):
        atoms = slice(offsets[i], offsets[i + 1])
        change = after.fractional[atoms] - before.fractional[atoms]
        change = change - change[:1]
        change = change - np.round(change)
        change = (change - change.mean(0)) @ ((before.lattices[i] + after.lattices[i]) / 2)
        found[i] = np.sqrt((change**2).sum(1).mean())
    return found


def relaxation_summary(before: CrystalSet, after: CrystalSet) -> dict[str, Any]:
    """Return how relaxations ended, and how far crystals moved that converged."""
    status = after.crystal_columns["status"]
    rows = np.flatnonzero(status == "converged")
    moved = displacements(before[rows], after[rows])
    swollen = after.volumes[rows] / before.volumes[rows]
    names, counts = np.unique(status, return_counts=True)
    return {
        "n": len(after),
        "converged": float((status == "converged").mean()),
        "statuses": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
        "steps_median": float(np.median(after.crystal_columns["steps"])),
        "rmsd_mean": float(moved.mean()) if len(rows) else None,
        "rmsd_median": float(np.median(moved)) if len(rows) else None,
        "volume_ratio_median": float(np.median(swollen)) if len(rows) else None,
    }


class Best(NamedTuple):
    """The first of a target's ranking.

    :param crystal: with the column ``candidate``.
    :param distance: from the target, by the surrogate.
    :param lenient: whether no candidate passed the campaign's criteria, so that only valid ones were asked for.
    """

    crystal: CrystalSet
    distance: float
    lenient: bool


def best_of_targets(
    surrogate: Surrogate,
    candidates: CrystalSet,
    references: dict[str, float],
    targets: list[DosTarget],
    criteria: ScreenCriteria,
    unrelaxed: CrystalSet | None = None,
) -> dict[int, Best]:
    """Return the first of the ranking for each target, by its number.

    Where no candidate passes, the first of those that do not have to be converged or bound; a target without any is missing.

    :param candidates: relaxed, with the columns ``energy``, ``status`` and ``target``.
    :param unrelaxed: the same, not relaxed, with the column ``energy``; each candidate is then ranked in its closer geometry.
    """
    candidates = surrogate.predicted(candidates)
    if unrelaxed is not None:
        candidates = candidates.with_columns(crystal={"start_energy": unrelaxed.crystal_columns["energy"]})
        unrelaxed = surrogate.predicted(unrelaxed)
    criteria = criteria.model_copy(update={"unique": False})  # duplicates come after the first, which is all that counts
    loose = criteria.model_copy(
        update={"require_converged": False, "max_formation_energy": None, "min_formation_energy": -np.inf}
    )
    found: dict[int, Best] = {}
    for i, target in enumerate(targets):
        rows = np.flatnonzero(candidates.crystal_columns["target"] == i)
        own = candidates[rows] if unrelaxed is None else join_geometries(candidates[rows], unrelaxed[rows])
        for lenient, used in ((False, criteria), (True, loose)):
            ranking = screen(own, references, target, used).ranking
            if ranking:
                first = ranking[0]
                found[i] = Best(own[first["index"]], first["predicted_distance"], lenient)
                break
    return found
