"""``dosmatgen predict``: the density of states and formation energy of crystals, by a predictor checkpoint."""

from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.job import PredictJob, Results, sha256_of
from ...core.screening import thin
from ...core.target import DosTarget
from ..memory import halving
from . import Clock, Progress, prepare, results

_BATCH_SIZE = 64


def restart_files(job: PredictJob) -> list[str]:
    """Name nothing: predictions take seconds."""
    return []


def run(job: PredictJob, folder: Path) -> Results:
    """Predict the crystals of a job; those that cannot be predicted get NaN.

    Many candidates of a job with criteria are screened as they are predicted, and the output has the best of them.

    :raises ContentError: if the checkpoint is none of a predictor, or a file cannot be read.
    """
    from ..checkpoint import load_model
    from ..prediction.predict import in_batches, predict

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    model, header = load_model(folder / job.checkpoint, device)
    if header.kind != "predictor":
        raise ContentError(f"checkpoint: {job.checkpoint} is a {header.kind}; predictions need a predictor")
    crystals = CrystalSet.load(folder / job.crystals)
    size = job.runtime.batch_size or _BATCH_SIZE
    details: dict[str, str | int] = {"checkpoint_sha256": sha256_of(folder / job.checkpoint)}
    (folder / job.left_out).unlink(missing_ok=True)
    if job.criteria is not None and job.references is not None and _n_candidates(crystals) > job.criteria.max_ranked:
        target, (phases, known) = (
            None,
            (None if name is None else CrystalSet.load(folder / name) for name in (job.phases, job.known)),
        )
        if job.target is not None:
            target = DosTarget.load(folder / job.target)
        progress = Progress("crystals predicted at most", len(crystals))
        predicting = in_batches(model, header, crystals, size, progress)
        thinned = thin(crystals, job.references, target, job.criteria, predicting, phases, known)
        predicted = thinned.crystals
        thinned.left_out.save(folder / job.left_out)
        details |= {"left_out": len(thinned.left_out), "left_out_sha256": sha256_of(folder / job.left_out)}
    else:
        predicted, _ = halving(
            lambda size: predict(model, header, crystals, size, Progress("crystals predicted", len(crystals))),
            size,
            device,
            "crystals",
        )
    predicted.save(folder / job.output)
    return results(
        job, folder, clock, output=job.output, done=len(crystals), of=len(crystals), device=device,
        details=details,
    )  # fmt: skip


def _n_candidates(crystals: CrystalSet) -> int:
    """Return how many candidates there are, each in one geometry or two."""
    return len(np.unique(crystals.crystal_columns["candidate"])) if "candidate" in crystals.crystal_columns else len(crystals)
