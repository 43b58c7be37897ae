"""Jobs that predict densities of states and formation energies."""

from __future__ import annotations

from typing import Literal

from .base import Job, Written


class PredictJob(Job):
    """Predict the per-atom DOS and the formation energy of crystals."""

    kind: Literal["predict"] = "predict"
    checkpoint: str
    crystals: str
    output: Written = "predicted.npz"
