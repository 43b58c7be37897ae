"""``dosmatgen train``: a denoiser, a classifier, a predictor or a force field from labelled crystals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ContentError
from ...core.job import Results, TrainJob
from ..effort import effort_of
from . import Clock, Progress, prepare, results


def restart_files(job: TrainJob) -> list[str]:
    """Name the files that the trainers save after each epoch."""
    from ..training import forcefield, loop, tightbinding

    if job.parameters.model == "forcefield":
        return [forcefield.WORK_FOLDER] if job.parameters.batched is None else [loop.STATE_FILE]
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

    batched = job.parameters.batched is not None
    if job.pseudolabelled is not None and not batched:
        raise ContentError("pseudolabelled: a force field learns from such frames by parameters.batched only")
    if job.parent is not None and not batched:
        raise ContentError("parent: a force field has one by parameters.batched only; leave the parent out")
    if Path(job.output).suffix == ".safetensors":
        raise ContentError(f"output: a force field is a MACE file, not {job.output}; give e.g. 'forcefield.model'")
    if batched:
        return _train_batched(job, folder, clock, device)
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
        "effort": {"seconds": round(clock.seconds, 1), "cpu_seconds": round(clock.cpu_seconds, 1)},
        "parent_sha256": None,
    }
    return results(
        job, folder, clock, output=job.output, done=outcome.epochs, of=job.parameters.epochs,
        device=device, finished=outcome.finished, details=details,
    )  # fmt: skip


def _train_batched(job: TrainJob, folder: Path, clock: Clock, device: Any) -> Results:
    from ...core.labelled.shards import MANIFEST
    from ...core.labelled.splits import without_test
    from ..training.dataset import hash_of
    from ..training.distillation.train import train_batched
    from .sources import load_set

    path = folder / job.dataset
    dataset_sha256 = hash_of(path / MANIFEST if path.is_dir() else path, "data set")
    crystals, n_test = without_test(load_set(path))
    if "status" in crystals.crystal_columns:
        crystals = crystals[np.flatnonzero(crystals.crystal_columns["status"] == "ok")]
    files = {name: None if name is None else folder / name for name in (job.pseudolabelled, job.parent)}
    pseudolabelled, parent = files[job.pseudolabelled], files[job.parent]
    outcome = train_batched(
        crystals, None if pseudolabelled is None else load_set(pseudolabelled), job.parameters, job.seed, folder,
        folder / job.output, folder / job.history, parent=parent, device=str(device), allows=clock.allows,
        progress=Progress("epochs", job.parameters.epochs),
    )  # fmt: skip
    details = {
        "model": "forcefield",
        "dataset_sha256": dataset_sha256,
        "pseudolabelled_sha256": None if pseudolabelled is None else hash_of(pseudolabelled, "pseudolabelled set"),
        "seed": job.seed,
        "best_epoch": outcome["best_epoch"],
        "metrics": outcome["metrics"] | {"n_test": n_test},
        "effort": effort_of(outcome["history"]),
        "parent_sha256": None if parent is None else hash_of(parent, "parent"),
    }
    return results(
        job, folder, clock, output=job.output, done=outcome["epochs"], of=job.parameters.epochs,
        device=device, finished=outcome["finished"], details=details,
    )  # fmt: skip
