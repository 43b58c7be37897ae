"""Generate candidates."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.orm import Dict, Int, List, SinglefileData, to_aiida_type

from ..core.job import SampleJob, SampleParameters
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .base import DosmatgenCalculation, validate_seed, validate_with


class SampleCalculation(DosmatgenCalculation):
    """Generate the candidates of a range with a denoiser, conditioned on a target.

    Candidate i depends on checkpoint, target, parameters, seed and i alone, so a range may be split over jobs at will.
    """

    KIND = "sample"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("checkpoint", valid_type=CheckpointData, validator=_validate_checkpoint, help="The denoiser.")
        spec.input("target", valid_type=DosTargetData, required=False, help="The DOS asked for; none samples freely.")
        spec.input(
            "parameters",
            valid_type=Dict,
            serializer=to_aiida_type,
            validator=validate_with(SampleParameters),
            default=lambda: Dict({}),
            help="As in `aiida_dosmatgen.core.job.SampleParameters`.",
        )
        spec.input("seed", valid_type=Int, serializer=to_aiida_type, validator=validate_seed, help="Seed of all randomness.")
        spec.input(
            "candidates",
            valid_type=List,
            serializer=to_aiida_type,
            validator=_validate_range,
            help="[start, stop]: the candidates start … stop − 1.",
        )
        spec.output("crystals", valid_type=CrystalSetData, help="The candidates in order.")

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that the number of atoms is known."""
        if "parameters" not in inputs or inputs["parameters"].get_dict().get("n_atoms") is not None:
            return None
        target = inputs.get("target", None)
        if target is None:
            return "`parameters` must say `n_atoms` when there is no target"
        if target.base.attributes.get("n_atoms", None) is None:
            return "the target is a total DOS that does not say how many atoms; give `n_atoms` in `parameters`"
        return None

    def job(self) -> tuple[SampleJob, list[tuple[SinglefileData, str]]]:
        """Return the job file and the files it needs."""
        target = self.inputs.get("target", None)
        start, stop = self.inputs.candidates.get_list()
        job = SampleJob(
            checkpoint=CheckpointData.DEFAULT_FILENAME,
            target=None if target is None else DosTargetData.DEFAULT_FILENAME,
            seed=self.inputs.seed.value,
            start=start,
            stop=stop,
            parameters=SampleParameters.model_validate(self.inputs.parameters.get_dict()),
            runtime=self.runtime(),
        )
        files = [self.inputs.checkpoint] if target is None else [self.inputs.checkpoint, target]
        return job, [(node, node.DEFAULT_FILENAME) for node in files]


def _validate_checkpoint(value: Any, _: Any) -> str | None:
    kind = None if value is None else value.base.attributes.get("kind", None)
    return f"the checkpoint is a {kind}; sampling needs a denoiser" if kind not in (None, "denoiser") else None


def _validate_range(value: Any, _: Any) -> str | None:
    if value is None:
        return None
    content = value.get_list()
    if len(content) == 2 and all(type(i) is int for i in content) and 0 <= content[0] < content[1]:
        return None
    return f"{content} is no range of candidates; give [start, stop] with 0 <= start < stop"
