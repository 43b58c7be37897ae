"""``dosmatgen predict``: the density of states and formation energy of crystals, by a predictor checkpoint."""

import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.files.checkpoint_header import CheckpointHeader
from ...core.job import PredictJob, Results, sha256_of
from ...core.screening import Predict, looking, thin
from ...core.target import DosTarget
from ..parts import Parts
from . import Clock, Progress, prepare, results

_BATCH_SIZE = 64
_MARGIN = 5.0  # s kept for writing the output within the time budget


def restart_files(job: PredictJob) -> list[str]:
    """Name the folder of predictions."""
    return [f".{job.output}.parts"]


def run(job: PredictJob, folder: Path) -> Results:
    """Predict the crystals of a job; those that cannot be predicted get NaN.

    Many candidates of a job with criteria are screened as they are predicted, and the output has the best of them. Predictions
    are saved beside the output until that is complete: a job that was killed, or ran out of time, is continued by starting it
    again in the same folder.

    Sizes are not refused: a prediction is of the surroundings of atoms, and a supercell has those of its cell.

    :raises ContentError: if the checkpoint is none of a predictor, a file cannot be read, or each crystal has an element that
        the checkpoint has not seen.
    """
    from ..checkpoint import load_model
    from ..prediction.predict import in_batches

    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    model, header = load_model(folder / job.checkpoint, device)
    if header.kind != "predictor":
        raise ContentError(f"checkpoint: {job.checkpoint} is a {header.kind}; predictions need a predictor")
    crystals = CrystalSet.load(folder / job.crystals)
    unseen = _unseen(crystals, header)
    details: dict[str, Any] = {"checkpoint_sha256": sha256_of(folder / job.checkpoint)}
    details |= {"unseen_elements": unseen} if unseen else {}
    (folder / job.left_out).unlink(missing_ok=True)
    screened = job.criteria is not None and _n_candidates(crystals) > job.criteria.max_ranked
    margin = min(_MARGIN, 0.1 * (job.runtime.max_seconds or 0.0))
    of = (2 if screened else 1) * len(crystals)  # at most: a first look and a full prediction
    kept = _Kept(folder / restart_files(job)[0], _key(job, folder), of, lambda: clock.allows(margin))
    batches = functools.partial(in_batches, model, header, crystals, job.runtime.batch_size or _BATCH_SIZE)
    predicting = kept.remembered("full", batches())
    finished = True
    try:
        if screened:
            target = None if job.target is None else DosTarget.load(folder / job.target)
            look = None if target is None else kept.remembered("look", looking(batches(first_look=True), target))
            predicted, left_out = _screened(job, folder, crystals, target, predicting, look)
            left_out.save(folder / job.left_out)
            details |= {"left_out": len(left_out), "left_out_sha256": sha256_of(folder / job.left_out)}
        else:
            predicted = _all(predicting, np.arange(len(crystals)))
    except _OutOfTime:
        predicted, finished = kept.finished(crystals), False
    predicted.save(folder / job.output)
    if finished:
        kept.discard()
    return results(
        job, folder, clock, output=job.output, done=of if finished else kept.done, of=of, finished=finished, device=device,
        details=details,
    )  # fmt: skip


def _all(predict: Predict, rows: np.ndarray) -> CrystalSet:
    """Return the crystals with their predictions, in order."""
    found = list(predict(rows))
    if not found:
        raise ContentError("crystals: there are none to predict")
    return CrystalSet.concatenate(part for _, part in found)[np.argsort(np.concatenate([chosen for chosen, _ in found]))]


def _screened(
    job: PredictJob, folder: Path, crystals: CrystalSet, target: DosTarget | None, predict: Predict, look: Predict | None
) -> tuple[CrystalSet, CrystalSet]:
    """Return the best candidates with their predictions, and the others."""
    assert job.criteria is not None and job.references is not None
    phases, known = (None if name is None else CrystalSet.load(folder / name) for name in (job.phases, job.known))
    thinned = thin(crystals, job.references, target, job.criteria, predict, look, phases, known)
    return thinned.crystals, thinned.left_out


class _OutOfTime(Exception):
    pass


class _Kept:
    """Predictions on disk, full ones and first looks.

    :param of: predictions at most.
    :param in_time: whether there is time for another batch.
    """

    def __init__(self, folder: Path, key: str, of: int, in_time: Callable[[], bool]) -> None:
        self.folder, self.key, self.in_time = folder, key, in_time
        self.progress, self.done = Progress("predictions", of), 0

    def remembered(self, kind: str, predict: Predict) -> Predict:
        """Return what takes from disk what is there, and keeps what is predicted.

        :raises _OutOfTime: while it predicts.
        """
        parts = Parts(self.folder / kind, self.key)
        found = parts.read()

        def rows_predicted(rows: np.ndarray) -> Iterator[tuple[np.ndarray, CrystalSet]]:
            there = np.array([row in found for row in rows.tolist()], dtype=bool)
            for start in range(0, int(there.sum()), _BATCH_SIZE):
                chosen = rows[there][start : start + _BATCH_SIZE]
                self._count(len(chosen), kind)
                yield chosen, CrystalSet.concatenate(found[row] for row in chosen.tolist())
            for chosen, predicted in predict(rows[~there]):
                for row, crystal in zip(chosen.tolist(), predicted, strict=True):
                    parts.add(row, crystal)
                self._count(len(chosen), kind)
                yield chosen, predicted
                if not self.in_time():
                    parts.flush()
                    raise _OutOfTime
            parts.flush()

        return rows_predicted

    def finished(self, crystals: CrystalSet) -> CrystalSet:
        """Return the crystals with full predictions, in order."""
        found = Parts(self.folder / "full", self.key).read()
        nothing = {"predicted_dos": np.zeros((0, 1), dtype=np.float32)}
        none = crystals[np.zeros(0, dtype=np.int64)].with_columns(
            crystal={"predicted_formation_energy": np.zeros(0)}, atom=nothing
        )
        return CrystalSet.concatenate(found[row] for row in sorted(found)) if found else none

    def discard(self) -> None:
        """Remove all of it, once the output is complete on disk."""
        shutil.rmtree(self.folder)

    def _count(self, n: int, kind: str) -> None:
        self.done += n
        self.progress(self.done, "first looks among them" if kind == "look" else "")


def _key(job: PredictJob, folder: Path) -> str:
    """Return a hash of all that a prediction or a first look depends on."""
    files = [None if name is None else sha256_of(folder / name) for name in (job.checkpoint, job.crystals, job.target)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _unseen(crystals: CrystalSet, header: CheckpointHeader) -> list[str]:
    """Return the elements that the checkpoint has not seen, and say it; their crystals get no prediction."""
    from ..batch import type_indices

    foreign = type_indices(crystals.numbers, header.elements) < 0
    if not foreign.any():
        return []
    symbols = [SYMBOLS[z] if 0 < z < len(SYMBOLS) else str(z) for z in sorted(set(crystals.numbers[foreign].tolist()))]
    hit = len(set(crystals.crystal_of_atom[foreign].tolist()))
    message = f"{hit} of {len(crystals)} crystals have {' '.join(symbols)}, which the checkpoint has not seen"
    if hit == len(crystals):
        raise ContentError(f"crystals: {message}; it knows {' '.join(header.elements)}. Train it on crystals that have them")
    print(f"dosmatgen: {message}; they get no prediction", file=sys.stderr)
    return symbols


def _n_candidates(crystals: CrystalSet) -> int:
    """Return how many candidates there are, each in one geometry or two."""
    return len(np.unique(crystals.crystal_columns["candidate"])) if "candidate" in crystals.crystal_columns else len(crystals)
