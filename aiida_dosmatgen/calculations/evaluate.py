"""Evaluate a model on labelled crystals."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from ..core.job import EvaluateJob
from ..data.checkpoint import CheckpointData
from ..data.labelled import LabelledCrystalSetData
from .base import DosmatgenCalculation, Files

_DATASET = "dataset.npz"


class EvaluateCalculation(DosmatgenCalculation):
    """Compute the errors of a denoiser, classifier or predictor on labelled crystals that it has not learnt from."""

    KIND = "evaluate"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("checkpoint", valid_type=CheckpointData, help="The model.")
        spec.input("crystals", valid_type=LabelledCrystalSetData, help="The labelled crystals.")
        spec.input(
            "dataset",
            valid_type=LabelledCrystalSetData,
            required=False,
            help="Labelled crystals whose elements formation energies are counted from; by default those among the crystals.",
        )
        spec.output("metrics", valid_type=Dict, help="The errors, and how many crystals there were.")

    def job(self) -> tuple[EvaluateJob, Files]:
        """Return the job file and the files it needs."""
        dataset = self.inputs.get("dataset", None)
        job = EvaluateJob(
            checkpoint=CheckpointData.DEFAULT_FILENAME,
            crystals=LabelledCrystalSetData.DEFAULT_FILENAME,
            dataset=None if dataset is None else _DATASET,
            runtime=self.runtime(),
        )
        files: Files = [(node, node.DEFAULT_FILENAME) for node in (self.inputs.checkpoint, self.inputs.crystals)]
        return job, [*files, *([] if dataset is None else [(dataset, _DATASET)])]
