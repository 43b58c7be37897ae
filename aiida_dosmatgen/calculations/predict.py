"""Predict the DOS and the formation energy of crystals."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict

from ..core.job import PredictJob
from ..core.screening.criteria import ScreenCriteria
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .base import DosmatgenCalculation, Files
from .ports import port_from_model


class PredictCalculation(DosmatgenCalculation):
    """Predict the per-atom DOS and the formation energy of crystals with a predictor checkpoint."""

    KIND = "predict"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("crystals", valid_type=CrystalSetData, help="The crystals.")
        spec.input("checkpoint", valid_type=CheckpointData, validator=validate_predictor, help="The predictor.")
        spec.input(
            "criteria",
            **{
                **port_from_model(ScreenCriteria, "criteria", required=True),
                "required": False,
                "help": "Where it is given, more candidates than its `max_ranked` are screened as they are predicted.",
            },
        )
        spec.input(
            "references", valid_type=Dict, required=False, help="With the criteria: `energies` of the elements in eV/atom."
        )
        spec.input("target", valid_type=DosTargetData, required=False, help="With the criteria: what candidates are ranked by.")
        spec.input("phases", valid_type=CrystalSetData, required=False, help="With the criteria: known phases, for the hull.")
        spec.input(
            "known", valid_type=CrystalSetData, required=False, help="With the criteria: crystals that are known already."
        )
        spec.output(
            "crystals",
            valid_type=CrystalSetData,
            help="All crystals in order, with the predictions as columns; of many that are screened the best.",
        )
        spec.output(
            "left_out",
            valid_type=CrystalSetData,
            required=False,
            help="The others of many that are screened, relaxed, each with its `reason`, and without curves.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that there is something to predict."""
        crystals = inputs.get("crystals", None)
        if crystals is not None and crystals.base.attributes.get("n_crystals", None) == 0:
            return "there are no crystals to predict"
        if ("criteria" in inputs) != ("references" in inputs):
            return "criteria and references belong together; give both or neither"
        return None

    def job(self) -> tuple[PredictJob, Files]:
        """Return the job file and the files it needs."""
        files: Files = [(node, node.DEFAULT_FILENAME) for node in (self.inputs.checkpoint, self.inputs.crystals)]
        given: dict[str, Any] = {}
        if "criteria" in self.inputs:
            energies = self.inputs.references.get_dict()["energies"]
            given["criteria"] = self.inputs.criteria.get_dict()
            given["references"] = {symbol: energy for symbol, energy in energies.items() if energy is not None}
            for name in ("target", "phases", "known"):
                if name in self.inputs:
                    given[name] = f"{name}.npz"
                    files.append((self.inputs[name], given[name]))
        job = PredictJob(
            checkpoint=CheckpointData.DEFAULT_FILENAME,
            crystals=CrystalSetData.DEFAULT_FILENAME,
            runtime=self.runtime(),
            **given,
        )
        return job, files

    def retrieved_files(self, job: PredictJob) -> list[str]:
        """Return the names of further files that come back, where there are any."""
        return [job.left_out] if job.criteria is not None else []


def validate_predictor(value: Any, _: Any) -> str | None:
    """Say that a checkpoint is not a predictor, or None."""
    kind = None if value is None else value.base.attributes.get("kind", None)
    return f"the checkpoint is a {kind}; predictions need a predictor" if kind not in (None, "predictor") else None
