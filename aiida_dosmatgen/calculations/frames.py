"""Label frames with a force field, for another to learn from."""

from __future__ import annotations

from typing import Any

from aiida.orm import Int

from ..core.job import FramesJob, FramesParameters
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME, ForceFieldData
from ..data.trust import validate_trust
from .base import DosmatgenCalculation, Files
from .crystals import define_reserved, reserved_of
from .ports import port_from_field, port_from_model
from .relax import trust_options


class FramesCalculation(DosmatgenCalculation):
    """Make frames of crystals and compute energies, forces and stresses with a force field, for another to learn from."""

    KIND = "frames"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input(
            "crystals",
            valid_type=CrystalSetData,
            help="Crystals at rest; their columns `source` and `id` name the origin of the frames.",
        )
        spec.input("force_field", valid_type=ForceFieldData, validator=validate_trust, help="The teacher.")
        spec.input("parameters", **port_from_model(FramesParameters, required=True))
        spec.input("seed", **port_from_field(FramesJob, "seed", Int))
        define_reserved(spec, "of which there are no frames")
        spec.output(
            "frames",
            valid_type=CrystalSetData,
            help="The frames with energies, forces and stresses, and `kind`, `source` and `id` of each.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that there is something to make frames of."""
        crystals = inputs.get("crystals", None)
        if crystals is not None and crystals.base.attributes.get("n_crystals", None) == 0:
            return "there are no crystals to make frames of"
        return None

    def job(self) -> tuple[FramesJob, Files]:
        """Return the job file and the files it needs."""
        force_field = self.inputs.force_field
        job = FramesJob(
            **FramesParameters.model_validate(self.inputs.parameters.get_dict()).model_dump(exclude_unset=True),
            crystals=CrystalSetData.DEFAULT_FILENAME,
            force_field=force_field.job_section(),
            reserved=reserved_of(self.inputs),
            seed=self.inputs.seed.value,
            runtime=self.runtime(),
        )
        files: Files = [(self.inputs.crystals, CrystalSetData.DEFAULT_FILENAME)]
        return job, [*files, *([(force_field, FILENAME)] if force_field.kind == "mace-file" else [])]

    def command_line(self) -> list[str]:
        """Return further arguments of the executable: the trust that the validator of the force field asked for."""
        return trust_options(self.inputs.force_field)
