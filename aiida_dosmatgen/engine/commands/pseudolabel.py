"""``dosmatgen pseudolabel``: many new crystals with predicted densities of states."""

import hashlib
import json
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.curve_columns import with_energies
from ...core.dos import EnergyGrid
from ...core.errors import ContentError
from ...core.job import PseudolabelJob, Results, sha256_of
from ...core.labelled.reserved import read_reserved, without_reserved
from . import Clock, Progress, prepare, results

_AT_ONCE = 500  # crystals that are relaxed, predicted and kept together


def restart_files(job: PseudolabelJob) -> list[str]:
    """Name the folder of crystals that are done."""
    return [job.directory]


def run(job: PseudolabelJob, folder: Path) -> Results:
    """Make, relax and predict the crystals of a job; a part that is done is never computed again.

    :raises ContentError: if the force field or the predictor cannot be used, or nothing is left to predict.
    """
    import torch

    from ..checkpoint import load_model
    from ..labelling.prototypes import generate
    from ..relaxation.forcefields import load
    from ..training.pseudolabels import most_certain, thinned

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    evaluator = load(job.force_field, folder, device, getattr(torch, job.parameters.precision))
    model, header = load_model(folder / job.predictor, device, kind="predictor")
    unknown = [symbol for symbol in job.elements if symbol not in header.elements]
    if unknown:
        raise ContentError(f"elements: the predictor does not know {' '.join(unknown)}; it knows {' '.join(header.elements)}")
    seeds = list(range(job.seed, job.seed + job.rounds)) if job.count else []
    raw = [generate(job.elements, job.count, seed, job.max_atoms) for seed in seeds]
    if job.crystals is not None:
        seeds, raw = [-1, *seeds], [_given(job, folder), *raw]
    if digests := read_reserved(job.reserved, folder):
        raw = [without_reserved(crystals, digests) for crystals in raw]
    made = [thinned(crystals, job.most_of_system, job.split) for crystals in raw]
    of = sum(map(len, made))
    if not of:
        raise ContentError(
            f"none of the {sum(map(len, raw))} crystals is left: all are kept for tests; "
            "raise count, or lower the fractions of split"
        )
    parts, progress, done = folder / job.directory, Progress("crystals", of), 0
    parts.mkdir(exist_ok=True)
    found: list[CrystalSet] = []
    key = _key(job, folder)
    pieces = [(seed, start, crystals) for seed, crystals in zip(seeds, made, strict=True) for start in _starts(crystals)]
    for seed, start, crystals in pieces:
        path = parts / f"{key}-{seed}-{start}.npz"
        piece = crystals[start : start + _AT_ONCE]
        if not path.is_file():
            if found and not clock.allows(1.3 * clock.seconds / max(1, len(found))):
                break
            _part(piece, job, evaluator, model, header, np.random.default_rng([seed % 2**63, start])).save(path)
        found.append(CrystalSet.load(path))
        done += len(piece)
        progress(done)
    output = most_certain(CrystalSet.concatenate(found), job.left_out)
    output.save(folder / job.output)
    details = {
        "n_crystals": len(output),
        "predictor_sha256": sha256_of(folder / job.predictor),
        "force_field_sha256": evaluator.sha256,
        "crystals_sha256": None if job.crystals is None else sha256_of(folder / job.crystals),
    }
    return results(job, folder, clock, output=job.output, done=done, of=of, device=device, details=details)


def _given(job: PseudolabelJob, folder: Path) -> CrystalSet:
    """Return the crystals of the job's file that have its elements and sizes, with a prototype each."""
    from ...core.elements import ATOMIC_NUMBERS
    from ...core.labelled.prototypes import prototypes_of

    crystals = CrystalSet.load(folder / str(job.crystals))
    foreign = ~np.isin(crystals.numbers, [ATOMIC_NUMBERS[symbol] for symbol in job.elements])
    strange = np.bincount(crystals.crystal_of_atom[foreign], minlength=len(crystals)) > 0
    crystals = crystals[np.flatnonzero(~strange & (crystals.n_atoms <= job.max_atoms))]
    names = crystals.crystal_columns.get("prototype")
    names = np.array(prototypes_of(crystals, [crystals])) if names is None else names
    kept = {name: values for name, values in crystals.crystal_columns.items() if name in ("source", "id")}
    return crystals.replace(crystal_columns={**kept, "prototype": names}, atom_columns={})


def _starts(crystals: CrystalSet) -> range:
    return range(0, len(crystals), _AT_ONCE)


def _part(crystals: CrystalSet, job: PseudolabelJob, evaluator, model, header, rng: np.random.Generator) -> CrystalSet:
    from ..prediction.predict import predict
    from ..relaxation import gather, relax
    from ..training.pseudolabels import valid

    chosen = rng.random(len(crystals)) < job.relaxed
    given = crystals[np.flatnonzero(chosen)]
    moved = given
    if len(given):
        moved = gather(given, list(relax(given, evaluator, job.parameters, batch_size=job.runtime.batch_size)))
        moved = moved[np.flatnonzero(np.isin(moved.crystal_columns["status"], ["converged", "max steps"]))]
    about = [name for name in ("prototype", "source", "id") if name in crystals.crystal_columns]
    both = [
        c.replace(crystal_columns={name: c.crystal_columns[name] for name in about}, atom_columns={})
        for c in (crystals[np.flatnonzero(~chosen)], moved)
    ]
    joined = CrystalSet.concatenate(both)
    predicted = predict(model, header, joined[np.flatnonzero(valid(joined))])
    columns = {
        name: predicted.crystal_columns[name] for name in (*about, "predicted_formation_energy", "predicted_dos_uncertainty")
    }
    columns["complete_below"] = np.full(len(predicted), header.grid.emax)
    names = zip(columns["prototype"].tolist(), predicted.formulas, strict=True)
    columns = {
        "source": np.full(len(predicted), "prototypes"),
        "id": np.array([f"{prototype}:{formula}" for prototype, formula in names], dtype=np.str_),
        **columns,
    }
    curves, grid = predicted.atom_columns["predicted_dos"], header.grid
    if "predicted_channels" in predicted.atom_columns:  # both spins together
        curves = predicted.atom_columns["predicted_channels"][:, None]
        grid = EnergyGrid(grid.emin, grid.emax, curves.shape[-1])
    return with_energies(
        predicted.replace(crystal_columns=columns, atom_columns={"dos": curves}), grid, header.sigma, header.meaning
    )


def _key(job: PseudolabelJob, folder: Path) -> str:
    """Return a hash of all that a part depends on."""
    files = [sha256_of(folder / name) for name in job.input_files()]
    content = [job.model_dump(mode="json", exclude={"runtime", "directory", "output", "left_out", "seed", "rounds"}), files]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
