"""``dosmatgen sample``: candidates from a denoiser checkpoint.

Finished batches are saved as parts beside the output until all are done, so a job that was killed continues where it stopped.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.job import Results, SampleJob, sha256_of
from ...core.target import DosTarget
from ..checkpoint import load_model
from ..diffusion.sampler import precision, sample
from . import Clock, Progress, prepare, results


class _OutOfTime(Exception):
    pass


class _Parts:
    """Finished candidates of one (checkpoint, target, parameters, seed) on disk.

    :param folder: one folder for each key; a file for each batch.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, crystals: CrystalSet) -> None:
        """Keep a batch."""
        candidates = crystals.crystal_columns["candidate"]
        name = hashlib.sha256(candidates.tobytes()).hexdigest()[:8]
        crystals.save(self.folder / f"{int(candidates[0])}-{name}.npz")

    def collect(self, wanted: range) -> CrystalSet:
        """Return the wanted candidates that are there, each once, in order."""
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            try:
                found.append(CrystalSet.load(path))
            except ContentError:  # not ours, or damaged by a full disk: compute it again
                path.unlink()
        crystals = CrystalSet.concatenate(found)
        if not len(crystals):
            return _empty()
        candidates, first = np.unique(crystals.crystal_columns["candidate"], return_index=True)
        return crystals[first[(candidates >= wanted.start) & (candidates < wanted.stop)]]


def restart_files(job: SampleJob) -> list[str]:
    """Name the folder of finished batches."""
    return [f".{job.output}.parts"]


def run(job: SampleJob, folder: Path) -> Results:
    """Generate the candidates of a job.

    :raises ContentError: for an unusable checkpoint, target or template, and for parameters that contradict them.
    """
    clock = Clock(job.runtime.max_seconds)
    if job.stop <= job.start:
        raise ContentError(f"stop ({job.stop}) must be above start ({job.start})")
    device = prepare(job.runtime)
    parameters = job.parameters
    wanted = range(job.start, job.stop)
    target = None if job.target is None else DosTarget.load(folder / job.target)
    template = None if job.template is None else CrystalSet.load(folder / job.template)
    if template is not None and not len(template):
        raise ContentError(f"{job.template} has no crystals; a template needs at least one")
    dtype = precision(parameters)
    model, _ = load_model(folder / job.checkpoint, device, dtype, "denoiser")
    classifier = None
    if job.classifier is not None:
        classifier, _ = load_model(folder / job.classifier, device, dtype, "classifier")

    def hashed(name: str | None) -> str | None:
        return None if name is None else sha256_of(folder / name)

    details = {
        "checkpoint_sha256": hashed(job.checkpoint),
        "target_sha256": hashed(job.target),
        "classifier_sha256": hashed(job.classifier),
        "template_sha256": hashed(job.template),
        "seed": job.seed,
        "parameters": parameters.model_dump(mode="json"),
    }
    key = hashlib.sha256(json.dumps(details, sort_keys=True).encode()).hexdigest()[:16]
    keep = folder / restart_files(job)[0]
    parts = _Parts(keep, key)
    done = set(parts.collect(wanted).crystal_columns["candidate"].tolist())
    missing = [i for i in wanted if i not in done]

    def check() -> None:
        if not clock.allows():
            raise _OutOfTime

    progress = Progress("candidates", len(wanted))
    try:
        for crystals in sample(
            model, target, parameters, job.seed, missing,
            classifier=classifier, template=template, batch_size=job.runtime.batch_size, each_step=check,
        ):  # fmt: skip
            parts.add(crystals)
            done.update(crystals.crystal_columns["candidate"].tolist())
            progress(len(done))
    except _OutOfTime:
        pass
    output = parts.collect(wanted)
    output.save(folder / job.output)
    if len(output) == len(wanted):
        shutil.rmtree(keep, ignore_errors=True)
    return results(
        job,
        folder,
        clock,
        output=job.output,
        done=len(output),
        of=len(wanted),
        device=device,
        details={**details, "start": job.start, "stop": job.stop},
    )


def _empty() -> CrystalSet:
    columns = {name: np.zeros(0, dtype=np.int64) for name in ("candidate", "seed", "attempt")}
    return CrystalSet(np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3, 3)), columns)
