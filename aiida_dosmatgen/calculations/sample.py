"""Generate candidates."""

from __future__ import annotations

from typing import Any

from aiida.common import CalcInfo, ValidationError
from aiida.orm import Int, List, SinglefileData, to_aiida_type

from ..aiida_internals.nodes import Folder
from ..core.errors import ContentError
from ..core.job import SampleJob, SampleParameters
from ..data.checkpoint import CheckpointData
from ..data.conversion import StructureData
from ..data.crystals import CrystalSetData
from ..data.target import DosTargetData
from .base import DosmatgenCalculation, Files
from .ports import port_from_field, port_from_model
from .sampling import crystals_of, problem_of_sampling

CLASSIFIER_FILE = "classifier.safetensors"
TEMPLATE_FILE = "template.npz"


class SampleCalculation(DosmatgenCalculation):
    """Generate the candidates of a range with a denoiser, conditioned on a target or freely.

    Candidate i depends on checkpoint, target, classifier, template, parameters, seed and i alone, so a range may be split over
    jobs at will.
    """

    KIND = "sample"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("checkpoint", valid_type=CheckpointData, validator=validate_kind("denoiser"), help="The denoiser.")
        spec.input("target", valid_type=DosTargetData, required=False, help="The DOS asked for; none samples freely.")
        spec.input(
            "classifier",
            valid_type=CheckpointData,
            required=False,
            validator=validate_kind("classifier"),
            help="Predictor on noised crystals, whose gradient guides if `guidance` is `classifier`.",
        )
        spec.input(
            "template",
            valid_type=(CrystalSetData, StructureData),
            required=False,
            validator=validate_template,
            help="Crystals to start from (`start_time`) or to hold parts of (`constraints`); candidate i uses crystal i modulo "
            "their number.",
        )
        spec.input("parameters", **port_from_model(SampleParameters))
        spec.input("seed", **port_from_field(SampleJob, "seed", Int))
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
        """Check that guidance, constraints and sizes have what they need."""
        return problem_of_sampling(inputs, inputs.get("checkpoint", None), inputs.get("target", None))

    def job(self) -> tuple[SampleJob, Files]:
        """Return the job file and the files it needs."""
        start, stop = self.inputs.candidates.get_list()
        names = {
            "checkpoint": CheckpointData.DEFAULT_FILENAME,
            "target": DosTargetData.DEFAULT_FILENAME,
            "classifier": CLASSIFIER_FILE,
            "template": TEMPLATE_FILE,
        }
        given = {port: name for port, name in names.items() if port in self.inputs}
        job = SampleJob(
            **given,
            seed=self.inputs.seed.value,
            start=start,
            stop=stop,
            parameters=SampleParameters.model_validate(self.inputs.parameters.get_dict()),
            runtime=self.runtime(),
        )
        nodes = [(self.inputs[port], name) for port, name in given.items()]
        return job, [(node, name) for node, name in nodes if isinstance(node, SinglefileData)]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the job file, and a template that is one structure as a file of crystals."""
        info = super().prepare_for_submission(folder)
        template = self.inputs.get("template", None)
        if isinstance(template, StructureData):
            crystals_of(template).save(str(folder.get_abs_path(TEMPLATE_FILE)))
        return info


def validate_kind(kind: str) -> Any:
    """Return a validator that accepts checkpoints of one kind."""

    def validate(node: CheckpointData | None, _: Any) -> str | None:
        found = None if node is None else node.base.attributes.get("kind", None)
        return f"the checkpoint is a {found}, a {kind} is needed here" if found not in (None, kind) else None

    return validate


def validate_template(node: CrystalSetData | StructureData | None, _: Any) -> str | None:
    """Refuse templates that are no crystals, or none at all."""
    if node is None:
        return None
    try:
        if not len(crystals_of(node).check()):
            return "the template has no crystals; give at least one"
    except (ContentError, ValidationError) as exception:
        return f"the template cannot be used: {exception}"
    return None


def _validate_range(value: Any, _: Any) -> str | None:
    if value is None:
        return None
    content = value.get_list()
    if len(content) == 2 and all(type(i) is int for i in content) and 0 <= content[0] < content[1]:
        return None
    return f"{content} is no range of candidates; give [start, stop] with 0 <= start < stop"
