"""``dosmatgen predict``: the density of states and formation energy of crystals, by a predictor checkpoint."""

from pathlib import Path

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.job import PredictJob, Results, sha256_of
from ..memory import halving
from . import Clock, Progress, prepare, results

_BATCH_SIZE = 64


def restart_files(job: PredictJob) -> list[str]:
    """Name nothing: predictions take seconds."""
    return []


def run(job: PredictJob, folder: Path) -> Results:
    """Predict the crystals of a job; those that cannot be predicted get NaN.

    :raises ContentError: if the checkpoint is none of a predictor, or a file cannot be read.
    """
    from ..checkpoint import load_model
    from ..prediction.predict import predict

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    model, header = load_model(folder / job.checkpoint, device)
    if header.kind != "predictor":
        raise ContentError(f"checkpoint: {job.checkpoint} is a {header.kind}; predictions need a predictor")
    crystals = CrystalSet.load(folder / job.crystals)
    progress = Progress("crystals predicted", len(crystals))
    predicted, _ = halving(
        lambda size: predict(model, header, crystals, size, progress), job.runtime.batch_size or _BATCH_SIZE, device, "crystals"
    )
    predicted.save(folder / job.output)
    return results(
        job, folder, clock, output=job.output, done=len(crystals), of=len(crystals), device=device,
        details={"checkpoint_sha256": sha256_of(folder / job.checkpoint)},
    )  # fmt: skip
