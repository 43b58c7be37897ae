"""Predict the DOS and the formation energy of crystals."""

from __future__ import annotations

from typing import Any

from ..core.job import PredictJob
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from .base import DosmatgenCalculation, Files


class PredictCalculation(DosmatgenCalculation):
    """Predict the per-atom DOS and the formation energy of crystals with a predictor checkpoint."""

    KIND = "predict"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("crystals", valid_type=CrystalSetData, help="The crystals.")
        spec.input("checkpoint", valid_type=CheckpointData, validator=validate_predictor, help="The predictor.")
        spec.output("crystals", valid_type=CrystalSetData, help="All crystals in order, with the predictions as columns.")

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that there is something to predict."""
        crystals = inputs.get("crystals", None)
        if crystals is not None and crystals.base.attributes.get("n_crystals", None) == 0:
            return "there are no crystals to predict"
        return None

    def job(self) -> tuple[PredictJob, Files]:
        """Return the job file and the files it needs."""
        job = PredictJob(
            checkpoint=CheckpointData.DEFAULT_FILENAME,
            crystals=CrystalSetData.DEFAULT_FILENAME,
            runtime=self.runtime(),
        )
        return job, [(node, node.DEFAULT_FILENAME) for node in (self.inputs.checkpoint, self.inputs.crystals)]


def validate_predictor(value: Any, _: Any) -> str | None:
    """Say that a checkpoint is not a predictor, or None."""
    kind = None if value is None else value.base.attributes.get("kind", None)
    return f"the checkpoint is a {kind}; predictions need a predictor" if kind not in (None, "predictor") else None
