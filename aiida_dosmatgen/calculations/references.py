"""Relax the elements with a force field, for formation energies."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, List

from ..core.job import ReferencesJob, RelaxParameters
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME
from .base import DosmatgenCalculation, Files
from .ports import port_from_field
from .relax import define_relaxation, trust_options


class ReferencesCalculation(DosmatgenCalculation):
    """Relax the elements with a force field, each in several structures, and take the lowest energies."""

    KIND = "references"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("elements", **port_from_field(ReferencesJob, "elements", List))
        define_relaxation(spec)
        spec.output("crystals", valid_type=CrystalSetData, help="The relaxed elements, each with its status and energy.")
        spec.output(
            "references",
            valid_type=Dict,
            help="`energies` of the elements in eV/atom, the `elements` that were asked for, and `force_field_sha256`.",
        )

    def job(self) -> tuple[ReferencesJob, Files]:
        """Return the job file and the files it needs."""
        force_field = self.inputs.force_field
        job = ReferencesJob(
            elements=self.inputs.elements.get_list(),
            force_field=force_field.job_section(),
            parameters=RelaxParameters.model_validate(self.inputs.parameters.get_dict()),
            runtime=self.runtime(),
        )
        return job, [(force_field, FILENAME)] if force_field.kind == "mace-file" else []

    def command_line(self) -> list[str]:
        """Return further arguments of the executable: the trust that the validator of the force field asked for."""
        return trust_options(self.inputs.force_field)
