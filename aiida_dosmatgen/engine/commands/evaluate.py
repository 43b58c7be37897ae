"""``dosmatgen evaluate``: the errors of a checkpoint on labelled crystals."""

import json
from pathlib import Path

from ...core.files.replacing import replacing
from ...core.job import EvaluateJob, Results, sha256_of
from . import Clock, prepare, results


def restart_files(job: EvaluateJob) -> list[str]:
    """Name nothing: an evaluation takes seconds."""
    return []


def run(job: EvaluateJob, folder: Path) -> Results:
    """Evaluate a checkpoint, and write its errors as JSON.

    :raises ContentError: if a file cannot be read, or the model knows none of the crystals.
    """
    from ..training.evaluation import evaluate

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    dataset = None if job.dataset is None else folder / job.dataset
    crystals = folder / job.crystals
    found = evaluate(folder / job.checkpoint, crystals, dataset, batch_size=job.runtime.batch_size, device=device)
    with replacing(folder / job.output) as partial:
        partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
    n = found["n_crystals"]
    hashes = {"checkpoint_sha256": sha256_of(folder / job.checkpoint), "crystals_sha256": sha256_of(crystals)}
    return results(job, folder, clock, output=job.output, done=n, of=n, device=device, details=hashes)
