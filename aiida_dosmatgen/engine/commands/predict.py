"""``dosmatgen predict``: the density of states and formation energy of crystals, by a predictor checkpoint."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.files.checkpoint_header import CheckpointHeader
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

    Sizes are not refused: a prediction is of the surroundings of atoms, and a supercell has those of its cell.

    :raises ContentError: if the checkpoint is none of a predictor, a file cannot be read, or each crystal has an element that
        the checkpoint has not seen.
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
    unseen = _unseen(crystals, header)
    details: dict[str, Any] = {"checkpoint_sha256": sha256_of(folder / job.checkpoint)}
    details |= {"unseen_elements": unseen} if unseen else {}
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
