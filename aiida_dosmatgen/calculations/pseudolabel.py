"""Label crystals with a predictor."""

from __future__ import annotations

from typing import Any

from aiida.orm import Int

from ..core.job import PseudolabelJob, PseudolabelParameters
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME, ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from ..data.trust import validate_trust
from .base import DosmatgenCalculation, Files
from .crystals import define_reserved, reserved_of
from .ports import port_from_field, port_from_model
from .predict import validate_predictor
from .relax import trust_options


class PseudolabelCalculation(DosmatgenCalculation):
    """Predict the densities of states of many crystals, new ones of prototypes and given ones, for a denoiser to learn from."""

    KIND = "pseudolabel"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("predictor", valid_type=CheckpointData, validator=validate_predictor, help="The predictor.")
        spec.input(
            "force_field",
            valid_type=ForceFieldData,
            validator=validate_trust,
            help="With which a share of the crystals is relaxed first.",
        )
        spec.input("parameters", **port_from_model(PseudolabelParameters, required=True))
        spec.input("seed", **port_from_field(PseudolabelJob, "seed", Int))
        spec.input(
            "crystals",
            valid_type=CrystalSetData,
            required=False,
            help="Further crystals, as `dosmatgen crystals` makes them of real ones; their columns `source` and `id` are kept.",
        )
        define_reserved(spec, "of which no crystal is labelled")
        spec.output(
            "crystals",
            valid_type=LabelledCrystalSetData,
            help="The crystals with predicted curves, and `source` and `id` of each.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that there is something to label, and that the predictor knows the elements."""
        if "parameters" not in inputs or "predictor" not in inputs:
            return None
        if not inputs["parameters"].get_dict().get("count", 1) and inputs.get("crystals", None) is None:
            return "there is nothing to label: count is 0, and no crystals are given"
        known = inputs["predictor"].base.attributes.get("elements", None)
        unknown = [s for s in inputs["parameters"].get_dict().get("elements", []) if known is not None and s not in known]
        return f"parameters.elements: the predictor does not know {' '.join(unknown)}" if unknown else None

    def job(self) -> tuple[PseudolabelJob, Files]:
        """Return the job file and the files it needs."""
        force_field, crystals = self.inputs.force_field, self.inputs.get("crystals", None)
        job = PseudolabelJob(
            **PseudolabelParameters.model_validate(self.inputs.parameters.get_dict()).model_dump(),
            predictor=CheckpointData.DEFAULT_FILENAME,
            force_field=force_field.job_section(),
            crystals=None if crystals is None else CrystalSetData.DEFAULT_FILENAME,
            reserved=reserved_of(self.inputs),
            seed=self.inputs.seed.value,
            runtime=self.runtime(),
        )
        files: Files = [(self.inputs.predictor, CheckpointData.DEFAULT_FILENAME)]
        if force_field.kind == "mace-file":
            files.append((force_field, FILENAME))
        if crystals is not None:
            files.append((crystals, CrystalSetData.DEFAULT_FILENAME))
        return job, files

    def command_line(self) -> list[str]:
        """Return further arguments of the executable: the trust that the validator of the force field asked for."""
        return trust_options(self.inputs.force_field)
