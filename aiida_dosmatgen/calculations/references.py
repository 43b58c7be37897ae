"""Relax the elements with a force field, for formation energies."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.orm import Data, Dict, List, to_aiida_type

from ..core.elements import ATOMIC_NUMBERS
from ..core.job import ReferencesJob, RelaxParameters
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME
from .base import DosmatgenCalculation
from .relax import define_relaxation


class ReferencesCalculation(DosmatgenCalculation):
    """Relax the elements with a force field, each in several structures, and take the lowest energies."""

    KIND = "references"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input(
            "elements", valid_type=List, serializer=to_aiida_type, validator=_validate_elements, help="Chemical symbols."
        )
        define_relaxation(spec)
        spec.output("crystals", valid_type=CrystalSetData, help="The relaxed elements, each with its status and energy.")
        spec.output(
            "references",
            valid_type=Dict,
            help="`energies` of the elements in eV/atom, the `elements` that were asked for, and `force_field_sha256`.",
        )

    def job(self) -> tuple[ReferencesJob, list[tuple[Data, str]]]:
        """Return the job file and the files it needs."""
        force_field = self.inputs.force_field
        job = ReferencesJob(
            elements=self.inputs.elements.get_list(),
            force_field=force_field.job_section(),
            parameters=RelaxParameters.model_validate(self.inputs.parameters.get_dict()),
            runtime=self.runtime(),
        )
        return job, [(force_field, FILENAME)] if force_field.kind == "mace-file" else []


def _validate_elements(value: Any, _: Any) -> str | None:
    if value is None:
        return None
    symbols = value.get_list()
    unknown = [symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS]
    return f"{unknown[0]!r} is not an element" if unknown else None if symbols else "there are no elements"
