"""``dosmatgen relax``: a set of crystals with a force field, in one batched run."""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ...core.crystals import CrystalSet
from ...core.job import ReferencesJob, RelaxJob, Results
from ..parts import Parts
from ..relaxation import Relaxed, gather, relax
from ..relaxation.forcefields import Evaluator, load
from . import Clock, Progress, prepare, results

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
_MARGIN = 5.0  # s kept for writing the output within the time budget


def restart_files(job: RelaxJob | ReferencesJob) -> list[str]:
    """Name the folder of relaxed crystals."""
    return [f"{job.output}.parts"]


def run(job: RelaxJob, folder: Path) -> Results:
    """Relax the crystals of a job.

    :raises ContentError: if the crystals or the force field cannot be used.
    """
    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    crystals = CrystalSet.load(folder / job.crystals)
    evaluator = load_evaluator(job, folder, device)
    relaxed = relax_all(crystals, evaluator, job, folder, clock)
    relaxed.save(folder / job.output)
    status = relaxed.crystal_columns["status"]
    done = int((status != "out of time").sum())
    details = {
        "force_field": evaluator.description,
        "force_field_sha256": evaluator.sha256,
        "statuses": {str(k): v for k, v in sorted(Counter(status.tolist()).items())},
    }
    if done == len(crystals):
        discard(job, folder)
    return results(job, folder, clock, output=job.output, done=done, of=len(crystals), device=device, details=details)


def load_evaluator(job: RelaxJob | ReferencesJob, folder: Path, device: torch.device) -> Evaluator:
    """Load the force field of a job.

    :raises ContentError: if it cannot be used.
    """
    return load(job.force_field, folder, device, _PRECISIONS[job.parameters.precision])


def relax_all(
    crystals: CrystalSet, evaluator: Evaluator, job: RelaxJob | ReferencesJob, folder: Path, clock: Clock
) -> CrystalSet:
    """Relax crystals until all are done or the time is over; those without time get the status ``out of time``.

    Finished crystals are saved beside the output until that is complete (:func:`discard`): a job that was killed, or ran out of
    time, is continued by starting it again in the same folder.

    :return: all crystals in the order given, with their earlier columns and those of the relaxation.
    """
    parts = Parts(folder / restart_files(job)[0], _key(crystals, job, evaluator))
    found = {i: Relaxed(i, crystal) for i, crystal in parts.read().items()}
    finished = {i: r for i, r in found.items() if r.status != "out of time"}
    todo = np.array([i for i in range(len(crystals)) if i not in finished], dtype=np.int64)
    start = _start(crystals, found, todo)
    progress = Progress("crystals relaxed", len(crystals))
    done = len(finished)
    margin = min(_MARGIN, 0.1 * (job.runtime.max_seconds or 0.0))
    for relaxed in relax(
        crystals[todo], evaluator, job.parameters, batch_size=job.runtime.batch_size, start=start,
        in_time=lambda: clock.allows(margin),
    ):  # fmt: skip
        relaxed = dataclasses.replace(relaxed, index=int(todo[relaxed.index]))
        finished[relaxed.index] = relaxed
        parts.add(relaxed.index, relaxed.crystal)
        done += relaxed.status != "out of time"
        progress(done)
    parts.flush()
    return gather(crystals, list(finished.values()))


def discard(job: RelaxJob | ReferencesJob, folder: Path) -> None:
    """Remove the restart files, once the output is complete on disk."""
    shutil.rmtree(folder / restart_files(job)[0])


def _start(crystals: CrystalSet, found: dict[int, Relaxed], todo: np.ndarray) -> CrystalSet | None:
    """Return the remaining crystals, from where an earlier run stopped with them, if there was one."""
    if not found:
        return None
    unbegun, pieces = {"steps": np.array([0]), "start_energy": np.array([np.nan])}, []
    for i in todo:
        earlier = found.get(int(i))
        crystal, columns = (crystals[i], unbegun) if earlier is None else (earlier.crystal, earlier.crystal.crystal_columns)
        pieces.append(
            crystal.replace(crystal_columns={name: columns.get(name, unbegun[name]) for name in unbegun}, atom_columns={})
        )
    return CrystalSet.concatenate(pieces)


def _key(crystals: CrystalSet, job: RelaxJob | ReferencesJob, evaluator: Evaluator) -> str:
    arrays = hashlib.sha256()
    for array in (crystals.n_atoms, crystals.numbers, crystals.fractional, crystals.lattices):
        arrays.update(np.ascontiguousarray(array).tobytes())
    content = [arrays.hexdigest(), evaluator.sha256, evaluator.description, job.parameters.model_dump()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
