"""Relax crystals with a force field."""

from __future__ import annotations

from typing import Any

from ..core.job import RelaxJob, RelaxParameters
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME, ForceFieldData
from ..data.trust import validate_trust
from .base import DosmatgenCalculation, Files
from .ports import port_from_model


def define_relaxation(spec: Any) -> None:
    """Define the inputs that say how a job relaxes: the force field and the parameters."""
    spec.input("force_field", valid_type=ForceFieldData, validator=validate_trust, help="The force field.")
    spec.input("parameters", **port_from_model(RelaxParameters))


def trust_options(force_field: ForceFieldData) -> list[str]:
    """Return what tells the executable that a model file is trusted in this profile."""
    return ["--trust", str(force_field.sha256)] if force_field.kind == "mace-file" and force_field.is_trusted else []


class RelaxCalculation(DosmatgenCalculation):
    """Relax crystals with a force field."""

    KIND = "relax"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("crystals", valid_type=CrystalSetData, help="The crystals to relax.")
        define_relaxation(spec)
        spec.output("crystals", valid_type=CrystalSetData, help="All crystals in order, each with its status and energy.")

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that there is something to relax."""
        crystals = inputs.get("crystals", None)
        if crystals is not None and crystals.base.attributes.get("n_crystals", None) == 0:
            return "there are no crystals to relax"
        return None

    def job(self) -> tuple[RelaxJob, Files]:
        """Return the job file and the files it needs."""
        force_field = self.inputs.force_field
        job = RelaxJob(
            crystals=CrystalSetData.DEFAULT_FILENAME,
            force_field=force_field.job_section(),
            parameters=RelaxParameters.model_validate(self.inputs.parameters.get_dict()),
            runtime=self.runtime(),
        )
        files: Files = [(self.inputs.crystals, CrystalSetData.DEFAULT_FILENAME)]
        if force_field.kind == "mace-file":
            files.append((force_field, FILENAME))
        return job, files

    def command_line(self) -> list[str]:
        """Return further arguments of the executable: the trust that the validator of the force field asked for."""
        return trust_options(self.inputs.force_field)
