"""``dosmatgen relax``: a set of crystals, and the elemental references of their elements, in one batched run."""

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.job import RelaxJob, Results, sha256_of
from ..forcefields import Evaluator, load
from ..references import reference_candidates, reference_energies
from ..relaxation import Relaxed, gather, relax
from ..relaxation.parts import Parts
from . import Clock, Progress, prepare, results

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
_MARGIN = 5.0  # s kept for writing the output within the time budget


def kept(job: RelaxJob) -> list[str]:
    """Name the folder of relaxed crystals."""
    return [f"{job.output}.parts"]


def run(job: RelaxJob, folder: Path) -> Results:
    """Relax the crystals of a job.

    What is finished is kept in ``<output>.parts`` until the output is complete: a job that was killed, or ran out of time, is
    continued by starting it again in the same folder.

    :raises ContentError: if the crystals or the force field cannot be used.
    """
    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    crystals = CrystalSet.load(folder / job.crystals)
    evaluator = load(job.force_field, folder, device, _PRECISIONS[job.parameters.precision])
    references = _references(crystals, evaluator)
    everything = CrystalSet.concatenate([references, crystals])

    parts = Parts(folder / kept(job)[0], _key(job, folder, evaluator))
    found = parts.read()
    finished = {i: r for i, r in found.items() if r.status != "out of time"}
    todo = np.array([i for i in range(len(everything)) if i not in finished], dtype=np.int64)
    start = _start(everything, found, todo)

    progress = Progress("crystals relaxed", len(everything))
    margin = min(_MARGIN, 0.1 * (job.runtime.max_seconds or 0.0))
    for relaxed in relax(
        everything[todo], evaluator, job.parameters, batch_size=job.runtime.batch_size, start=start,
        in_time=lambda: clock.allows(margin),
    ):  # fmt: skip
        relaxed = dataclasses.replace(relaxed, index=int(todo[relaxed.index]))
        finished[relaxed.index] = relaxed
        parts.add(relaxed)
        progress(sum(r.status != "out of time" for r in finished.values()))
    parts.flush()

    relaxed_set = gather(everything, list(finished.values()))
    ours = relaxed_set[len(references) :]
    _merge_columns(crystals, ours).save(folder / job.output)
    left = int((relaxed_set.crystal_columns["status"] == "out of time").sum())
    if not left:
        parts.remove()
    details = {
        "force_field": evaluator.description,
        "force_field_sha256": evaluator.sha256,
        "reference_energies": reference_energies(relaxed_set[: len(references)]),
        "statuses": {str(k): v for k, v in sorted(Counter(ours.crystal_columns["status"].tolist()).items())},
    }
    done = int((ours.crystal_columns["status"] != "out of time").sum())
    return results(
        job, folder, clock, output=job.output, done=done, of=len(crystals), device=device, finished=not left, details=details
    )


def _references(crystals: CrystalSet, evaluator: Evaluator) -> CrystalSet:
    """Return the reference candidates of the elements that the crystals have and the force field knows."""
    numbers = np.unique(crystals.numbers)
    numbers = numbers[(numbers > 0) & (numbers < len(SYMBOLS))]
    return reference_candidates(SYMBOLS[z] for z in numbers[evaluator.knows(numbers)])


def _start(everything: CrystalSet, found: dict[int, Relaxed], todo: np.ndarray) -> CrystalSet | None:
    """Return where the crystals that are left start: where an earlier run had to leave them, if there was one."""
    if not found:
        return None
    pieces = []
    for i in todo:
        earlier = found.get(int(i))
        steps = np.array([0]) if earlier is None else earlier.crystal.crystal_columns["steps"]
        crystal = everything[i] if earlier is None else earlier.crystal
        pieces.append(crystal.replace(crystal_columns={"steps": steps}, atom_columns={}))
    return CrystalSet.concatenate(pieces)


def _merge_columns(crystals: CrystalSet, relaxed: CrystalSet) -> CrystalSet:
    """Return the relaxed crystals with the columns that they came with; the references have none of these."""
    return crystals.replace(fractional=relaxed.fractional, lattices=relaxed.lattices).with_columns(
        relaxed.crystal_columns, relaxed.atom_columns
    )


def _key(job: RelaxJob, folder: Path, evaluator: Evaluator) -> str:
    content = [sha256_of(folder / job.crystals), evaluator.sha256, evaluator.description, job.parameters.model_dump()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
