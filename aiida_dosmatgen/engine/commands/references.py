"""``dosmatgen references``: the energies of the elements with a force field."""

from pathlib import Path

import numpy as np

from ...core.elements import atomic_number
from ...core.errors import ContentError
from ...core.job import ReferencesJob, Results
from ..labelling.prototypes import elemental
from ..relaxation.references import reference_candidates, reference_energies
from . import Clock, prepare, results
from .relax import discard, load_evaluator, relax_all, restart_files

__all__ = ["restart_files", "run"]


def run(job: ReferencesJob, folder: Path) -> Results:
    """Relax the elements of a job, and take the lowest energy of each.

    :raises ContentError: if the force field cannot be used, or knows none of the elements.
    """
    clock = Clock(job.runtime.max_seconds)
    device = prepare(job.runtime)
    evaluator = load_evaluator(job, folder, device)
    elements = sorted(set(job.elements), key=atomic_number)
    known = evaluator.knows(np.array([atomic_number(symbol) for symbol in elements]))
    if not known.any():
        raise ContentError(f"elements: the force field knows none of {', '.join(elements)}")
    candidates = reference_candidates(
        {symbol: elemental(symbol) for symbol, takes in zip(elements, known, strict=True) if takes}
    )
    relaxed = relax_all(candidates, evaluator, job, folder, clock)
    relaxed.save(folder / job.output)
    done = int((relaxed.crystal_columns["status"] != "out of time").sum())
    details = {
        "force_field": evaluator.description,
        "force_field_sha256": evaluator.sha256,
        "elements": elements,
        "energies": reference_energies(relaxed),
    }
    if done == len(candidates):
        discard(job, folder)
    return results(job, folder, clock, output=job.output, done=done, of=len(candidates), device=device, details=details)
