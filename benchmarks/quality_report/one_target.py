"""One target from pure noise to DFT: all ways to ask, relaxation and ranking as in a campaign, and what pw.x says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_energies
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.job import ForceField
from aiida_dosmatgen.core.labelled.splits import systems_of
from aiida_dosmatgen.core.screening import screen
from aiida_dosmatgen.core.screening.geometries import RELAXED
from aiida_dosmatgen.core.screening.hull import energy_above_hull
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.core.target import DosTarget

from .jobs import References, made, run
from .likeness import MATCHERS, MET, described, matches, recall
from .protocol import Protocol
from .surrogate import valid
from .unseen import known_to
from .ways import HELD, HELD_ALONE, NOTHING, Way, default_way, ways

FIRST = 3  # of the ranking that go to pw.x
LARGEST_HULL = 0.1  # eV/atom


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is the same for all targets.

    :param denoiser: file, and likewise ``predictor``.
    :param references: energies of the elements by the force field.
    :param train: crystals of the split ``train``.
    :param learnt: what the denoiser learnt from besides, by its own word.
    :param phases: known phases; those of a candidate's elements are relaxed by the same force field.
    :param pseudos: folder of pseudopotentials; None leaves pw.x out.
    :param recipe: of the labels; None for the former ones.
    """

    denoiser: Path
    predictor: Path
    header: CheckpointHeader
    force_field: ForceField
    references: References
    protocol: Protocol
    train: CrystalSet
    phases: CrystalSet
    learnt: TrainingCrystals
    candidates: int
    seed: int
    runtime: dict[str, Any]
    dft: bool
    pseudos: Path | None
    recipe: dict[str, Any] | None
    workers: int
    seconds: float


def run_target(number: int, crystal: CrystalSet, setting: Setting, folder: Path) -> dict[str, Any]:
    """Return all that is found for one target, JSON values only; distances are in states/eV/atom, energies in eV/atom."""
    curves = curves_of(crystal)
    wanted = DosTarget(curves.summed())
    templates = known_to(setting.train, setting.header.elements)
    asked = ways(crystal, curves, setting.header, templates, number, setting.seed)
    main = default_way(asked)
    record: dict[str, Any] = {
        "number": number,
        "formula": crystal.formulas[0],
        "system": systems_of(crystal)[0],
        "prototype": str(crystal.crystal_columns["prototype"][0]) if "prototype" in crystal.crystal_columns else "",
        "n_atoms": int(crystal.n_atoms[0]),
        "main": main,
        "ways": {},
    }
    for name, way in asked.items():
        if way.reason is not None:
            record["ways"][name] = {"left_out": way.reason}
            continue
        found = _sampled(way, setting, made(folder / _folder_name(name)))
        record["ways"][name] = _row(found, wanted, crystal)
        if name in (HELD, HELD_ALONE):
            record["ways"][name] |= {key: matches(found, crystal, key) for key in MATCHERS}
    picks: list[tuple[str, CrystalSet, dict[str, Any]]] = []
    for kind, name, count in (("conditional", main, FIRST), (NOTHING, NOTHING, 1)):
        ranked, relaxed = _ranked(wanted, setting, folder / _folder_name(name))
        if kind == "conditional":
            distances = _distances(relaxed, wanted)["mae"]
            record["relaxed"] = _relaxation(relaxed) | described(
                relaxed, np.array(distances, dtype=float), setting.train, setting.learnt
            )
        picks += [(kind, relaxed[row["index"]], row) for row in ranked[:count]]
    record["picks"] = [_pick(kind, row) for kind, _, row in picks]
    if picks:
        _add_hull(record["picks"], CrystalSet.concatenate([crystal for _, crystal, _ in picks]), setting, folder)
    if setting.dft and picks:
        _add_dft(record["picks"], [crystal for _, crystal, _ in picks], wanted, number, setting, folder)
    return record


def _folder_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _sampled(way: Way, setting: Setting, folder: Path) -> CrystalSet:
    """Sample the candidates of a way, and predict them."""
    job: dict[str, Any] = {"checkpoint": str(setting.denoiser), "seed": setting.seed, "stop": setting.candidates}
    if way.target is not None:
        way.target.save(folder / "target.npz")
        job["target"] = "target.npz"
    if way.template is not None:
        way.template.save(folder / "template.npz")
        job["template"] = "template.npz"
    parameters = setting.protocol.sample.model_dump(mode="json", exclude_unset=True) | way.parameters
    if parameters.get("guidance") == "none":
        parameters.pop("guidance_scale", None)
    run("sample", folder, {**job, "parameters": parameters, "runtime": setting.runtime})
    return _predicted(folder, "candidates.npz", setting)


def _predicted(folder: Path, crystals: str, setting: Setting) -> CrystalSet:
    inside = made(folder / f"predicted-{Path(crystals).stem}")
    job = {"checkpoint": str(setting.predictor), "crystals": str((folder / crystals).resolve()), "runtime": setting.runtime}
    return CrystalSet.load(inside / run("predict", inside, job).output)


def _distances(predicted: CrystalSet, wanted: DosTarget) -> dict[str, list[float | None]]:
    """Return the distances of predicted curves from the target, of sites and of totals; None without a prediction."""
    found: dict[str, list[float | None]] = {"mae": [], "mae_total": []}
    for row in range(len(predicted)):
        atoms = slice(predicted.offsets[row], predicted.offsets[row + 1])
        there = np.isfinite(predicted.atom_columns["predicted_dos"][atoms]).all()
        distances = wanted.distances(curves_of(predicted, row, "predicted_dos")) if there else {}
        for name, values in found.items():
            values.append(distances.get(name))
    return found


def _row(found: CrystalSet, wanted: DosTarget, crystal: CrystalSet) -> dict[str, Any]:
    shares = [recall(one, crystal) for one in found]
    return {**_distances(found, wanted), "valid": valid(found).tolist(), "recall": shares}


def _ranked(wanted: DosTarget, setting: Setting, folder: Path) -> tuple[list[dict[str, Any]], CrystalSet]:
    """Relax the candidates of a way as a campaign does, and rank them; if none passes, those that need not be bound."""
    inside = made(folder / "relaxed")
    job = {
        "crystals": str((folder / "candidates.npz").resolve()),
        "force_field": setting.force_field.model_dump(exclude_none=True),
        "parameters": setting.protocol.relax.model_dump(mode="json"),
        "runtime": setting.runtime,
    }
    run("relax", inside, job, setting.force_field.sha256)
    relaxed = _predicted(inside, "relaxed.npz", setting)
    criteria = setting.protocol.criteria.model_copy(update={"geometries": [RELAXED]})
    loose = criteria.model_copy(
        update={"require_converged": False, "max_formation_energy": None, "min_formation_energy": -np.inf}
    )
    references = setting.references.of(_symbols(relaxed))
    for lenient, used in ((False, criteria), (True, loose)):
        ranking = screen(relaxed, references, wanted, used).ranking
        if ranking:
            return [{**row, "lenient": lenient} for row in ranking], relaxed
    return [], relaxed


def _symbols(crystals: CrystalSet) -> set[str]:
    return {SYMBOLS[z] for z in crystals.numbers.tolist()}


def _relaxation(relaxed: CrystalSet) -> dict[str, Any]:
    names, counts = np.unique(relaxed.crystal_columns["status"], return_counts=True)
    return {"n": len(relaxed), "statuses": {str(n): int(c) for n, c in zip(names, counts, strict=True)}}


def _pick(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    kept = ("rank", "candidate", "formula", "formation_energy", "predicted_distance", "lenient")
    return {"kind": kind, **{name: row[name] for name in kept}}


def _add_hull(picks: list[dict[str, Any]], crystals: CrystalSet, setting: Setting, folder: Path) -> None:
    """Say how far the picks are above the hull of the known phases, all by the force field of the candidates."""
    symbols = _symbols(crystals)
    inside = [i for i, system in enumerate(systems_of(setting.phases)) if set(system.split("-")) <= symbols]
    phases = None
    if inside:
        place = made(folder / "phases")
        setting.phases[inside].replace(crystal_columns={}, atom_columns={}).save(place / "phases.npz")
        job = {
            "crystals": "phases.npz",
            "force_field": setting.force_field.model_dump(exclude_none=True),
            "parameters": setting.protocol.relax.model_dump(mode="json"),
            "runtime": setting.runtime,
        }
        run("relax", place, job, setting.force_field.sha256)
        phases = CrystalSet.load(place / "relaxed.npz")
    above = energy_above_hull(crystals, setting.references.of(symbols), phases)
    for pick, value in zip(picks, above.tolist(), strict=True):
        pick["hull_distance"] = value if np.isfinite(value) else None


def _add_dft(
    picks: list[dict[str, Any]], crystals: list[CrystalSet], wanted: DosTarget, number: int, setting: Setting, folder: Path
) -> None:
    """Compute the picks by pw.x and projwfc.x, as the labels were, and say how far they are from the target."""
    place = made(folder / "dft")
    named = []
    for pick, crystal in zip(picks, crystals, strict=True):
        names = {"source": np.array(["quality"]), "id": np.array([f"{number} {pick['kind']} {pick['candidate']}"])}
        named.append(crystal.replace(crystal_columns=names, atom_columns={}))
    CrystalSet.concatenate(named).save(place / "crystals.npz")
    settings = {"max_seconds_per_crystal": setting.seconds}
    job: dict[str, Any] = {"crystals": "crystals.npz", "workers": setting.workers, "settings": settings}
    if setting.recipe is not None:
        job |= {"recipe": setting.recipe, "pseudo_directory": str(setting.pseudos)}
    labelled = CrystalSet.load(place / run("label", place, job).output)
    if setting.recipe is not None:  # which says what the energies of its labels are
        n, ends = labelled.atom_columns["dos"].shape[-1], (setting.recipe["low"], setting.recipe["high"])
        labelled = with_energies(labelled, EnergyGrid(*ends, n), setting.recipe["sigma"], "partition")
    found = _labels(labelled)
    for pick, crystal in zip(picks, named, strict=True):
        curves = found.get(_name(crystal, labelled))
        pick["distance"] = None if curves is None else wanted.distances(curves)["mae"]


def _labels(labelled: CrystalSet) -> dict[bytes, Curves]:
    """Return the curves of what could be computed, by the names of the crystals."""
    found = {}
    for row in range(len(labelled)):
        status = str(labelled.crystal_columns["status"][row]) if "status" in labelled.crystal_columns else "ok"
        if status == "ok":
            found[_name(labelled[row], labelled)] = curves_of(labelled, row)
    return found


def _name(crystal: CrystalSet, labelled: CrystalSet) -> bytes:
    """Return what tells a crystal: its id if labels keep it; else its geometry, which these labels do not touch."""
    if "id" in labelled.crystal_columns:
        return str(crystal.crystal_columns["id"][0]).encode()
    return crystal.numbers.tobytes() + np.round(crystal.fractional, 6).tobytes() + np.round(crystal.lattices, 6).tobytes()


def met_by_dft(pick: dict[str, Any]) -> bool:
    """Say whether a pick has the target's density of states by DFT, and is stable or nearly so by the force field."""
    distance, hull = pick.get("distance"), pick.get("hull_distance")
    return distance is not None and distance <= MET and hull is not None and hull <= LARGEST_HULL
