"""``dosmatgen frames``: frames of crystals with energies, forces and stresses of a force field, for another to learn from."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.job import FramesJob, Results, sha256_of
from ...core.labelled.reserved import read_reserved
from ..relaxation.forcefields.evaluation import Evaluation, Evaluator
from . import Clock, Progress, prepare, results
from .sources import load_set

_AT_ONCE = 50  # frames that are made, computed and kept together
_KEPT_STEPS = (0, 1, 3, 7, 15, 31)  # of a relaxation, and its last one
_RELAXED = ("substituted", "soup")
SUMS = "SHA256SUMS"
"""In the folder of parts: the hash and the name of each, as sha256sum writes and checks them."""


def restart_files(job: FramesJob) -> list[str]:
    """Name the folder of finished parts."""
    return [job.directory]


def run(job: FramesJob, folder: Path) -> Results:
    """Make and compute the frames of a job; a part that is done is never computed again.

    :raises ContentError: if the force field cannot be used, or no frame is left.
    """
    from ..relaxation.forcefields import load
    from ..training.distillation.frames import Frames

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    evaluator = load(job.force_field, folder, device)
    frames = Frames(load_set(folder / job.crystals), job, job.seed, read_reserved(job.reserved, folder))
    parts, progress = folder / job.directory, Progress("frames", job.count)
    parts.mkdir(exist_ok=True)
    key, computed, done = _key(job, folder, evaluator), 0, 0
    for start in range(0, job.count, _AT_ONCE):
        path = parts / f"{key}-{start:07d}.npz"
        stop = min(start + _AT_ONCE, job.count)
        if not path.is_file():
            if computed and not clock.allows(1.3 * clock.seconds / computed):
                break
            _compute(frames.make(range(start, stop)), evaluator, job).save(path)
            with open(parts / SUMS, "a", encoding="utf-8") as sums:
                sums.write(f"{sha256_of(path)}  {path.name}\n")
            computed += 1
        done = stop
        progress(done)
    found = [part for path in sorted(parts.glob(f"{key}-*.npz")) if len(part := CrystalSet.load(path))]
    if not found:
        raise ContentError("no frame is left: all are of systems that are held out, or the force field knows none of them")
    output = frames.with_origin(CrystalSet.concatenate(found))
    output.save(folder / job.output)
    details = {
        "n_frames": len(output),
        "kinds": dict(sorted(Counter(output.crystal_columns["kind"].tolist()).items())),
        "elements": len(np.unique(output.numbers)),
        "force_field": evaluator.description,
        "force_field_sha256": evaluator.sha256,
        "crystals_sha256": sha256_of(folder / job.crystals) if (folder / job.crystals).is_file() else None,
    }
    return results(job, folder, clock, output=job.output, done=done, of=job.count, device=device, details=details)


def _compute(frames: CrystalSet, evaluator: Evaluator, job: FramesJob) -> CrystalSet:
    """Compute frames; some are relaxed a little, and what is on the way is kept too."""
    from ..relaxation.relax import relax

    unknown = np.zeros(len(frames), dtype=bool)
    unknown[frames.crystal_of_atom[~evaluator.knows(frames.numbers)]] = True
    frames = frames[np.flatnonzero(~unknown)]
    moves = np.isin(frames.crystal_columns["kind"], _RELAXED) & (job.steps > 0)
    pieces = [_labelled(frames[np.flatnonzero(~moves)], evaluator.evaluate)] if (~moves).any() else []
    for i in np.flatnonzero(moves):
        recorder = _Recorder(evaluator)
        one = frames[int(i)]
        parameters = job.relaxation()
        for _ in relax(one.replace(crystal_columns={}, atom_columns={}), recorder, parameters):
            pass
        for crystal, evaluation in recorder.kept():
            columns = {name: one.crystal_columns[name] for name in ("kind", "number")}
            pieces.append(_labelled(crystal.with_columns(crystal=columns), lambda _, e=evaluation: e))
    if not pieces:
        return frames
    joined = CrystalSet.concatenate(pieces)
    usable = np.isfinite(joined.crystal_columns["energy"]) & np.isfinite(joined.crystal_columns["stress"]).all((1, 2))
    size = np.linalg.norm(joined.atom_columns["forces"], axis=1)
    usable[joined.crystal_of_atom[~(size <= job.largest_force)]] = False
    return joined[np.flatnonzero(usable)]


def _labelled(crystals: CrystalSet, evaluate) -> CrystalSet:
    energies, forces, stresses = evaluate(crystals)
    return crystals.with_columns({"energy": energies, "stress": stresses}, {"forces": forces})


class _Recorder:
    """A force field that remembers what it was asked for a single crystal."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.seen = evaluator, list[tuple[CrystalSet, Evaluation]]()
        self.description, self.sha256 = evaluator.description, evaluator.sha256

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Ask the force field."""
        return self.evaluator.knows(numbers)

    def evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Ask the force field, and remember."""
        found = self.evaluator.evaluate(crystals)
        self.seen.append((crystals, found))
        return found

    def kept(self) -> list[tuple[CrystalSet, Evaluation]]:
        """Return the first steps, ever fewer of the later ones, and the last."""
        last = len(self.seen) - 1
        return [self.seen[k] for k in sorted({k for k in _KEPT_STEPS if k < last} | ({last} if last >= 0 else set()))]


def _key(job: FramesJob, folder: Path, evaluator: Evaluator) -> str:
    """Return a hash of all that a part depends on; not of ``count``, which can be raised later."""
    files = [sha256_of(folder / name) for name in job.input_files() if (folder / name).is_file()]
    given = job.model_dump(mode="json", exclude={"runtime", "directory", "output", "count"}, exclude_defaults=True)
    content = [given, files, evaluator.description]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
