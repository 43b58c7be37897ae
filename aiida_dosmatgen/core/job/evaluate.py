"""Jobs that evaluate a model on labelled crystals."""

from __future__ import annotations

from typing import Literal

from .base import Job, Written


class EvaluateJob(Job):
    """Compute the errors of a checkpoint on labelled crystals that it has not learnt from.

    :param crystals: labelled crystals; those with elements or sizes that the model does not know are left out.
    :param dataset: labelled crystals whose elements formation energies are counted from. None takes those among the crystals.
    """

    kind: Literal["evaluate"] = "evaluate"
    checkpoint: str
    crystals: str
    dataset: str | None = None
    output: Written = "metrics.json"
