"""``dosmatgen train``: a denoiser, a classifier, a predictor or a force field from labelled crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import ContentError
from ...core.job import Results, TrainJob
from . import Clock, Progress, prepare, results


def restart_files(job: TrainJob) -> list[str]:
    """Name the files that the trainers save after each epoch."""
    from ..training import forcefield, loop, tightbinding

    if job.parameters.model == "forcefield":
        return [forcefield.WORK_FOLDER]
    return [loop.STATE_FILE, tightbinding.STATE_FILE] if job.parameters.model == "predictor" else [loop.STATE_FILE]


def run(job: TrainJob, folder: Path) -> Results:
    """Train a model; a job that was stopped continues if its folder still has its restart file.

    :raises ContentError: if data set, parent and parameters do not fit together.
    """
    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    if job.parameters.model == "forcefield":
        return _train_force_field(job, folder, clock, device)
    from ..training.networks import train_network

    outcome = train_network(job, folder, device=device, allows=clock.allows, progress=Progress)
    return results(
        job, folder, clock, output=job.output, done=outcome.done, of=outcome.of,
        device=device, finished=outcome.finished, details=outcome.details,
    )  # fmt: skip


def _train_force_field(job: TrainJob, folder: Path, clock: Clock, device: Any) -> Results:
    from ...core.labelled.splits import without_test
    from ..training.dataset import hash_of, load_labelled
    from ..training.forcefield import train_force_field

    if job.pseudolabelled is not None:
        raise ContentError("pseudolabelled: only a denoiser learns from predicted curves; a force field does not")
    if job.parent is not None:
        raise ContentError("parent: a force field is trained from scratch; leave the parent out")
    if Path(job.output).suffix == ".safetensors":
        raise ContentError(f"output: a force field is a MACE file, not {job.output}; give e.g. 'forcefield.model'")
    dataset_sha256 = hash_of(folder / job.dataset, "data set")
    crystals, n_test = without_test(load_labelled(folder / job.dataset))
    outcome = train_force_field(
        crystals, job.parameters, job.seed, folder, folder / job.output, folder / job.history,
        device=str(device), clock=clock, progress=Progress("epochs", job.parameters.epochs),
    )  # fmt: skip
    details = {
        "model": "forcefield",
        "dataset_sha256": dataset_sha256,
        "seed": job.seed,
        "best_epoch": outcome.best_epoch,
        "metrics": outcome.metrics | {"n_test": n_test},
        "parent_sha256": None,
    }
    return results(
        job, folder, clock, output=job.output, done=outcome.epochs, of=job.parameters.epochs,
        device=device, finished=outcome.finished, details=details,
    )  # fmt: skip
