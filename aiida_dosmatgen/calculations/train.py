"""Train a model."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, Int

from ..core.job import TrainJob, TrainParameters
from ..data.checkpoint import CheckpointData
from ..data.forcefield import FILENAME, ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from .base import DosmatgenCalculation, Files
from .ports import port_from_field, port_from_model

_PARENT = "parent.safetensors"
_PSEUDOLABELLED = "pseudolabelled.npz"


class TrainCalculation(DosmatgenCalculation):
    """Train a denoiser, a predictor or a MACE force field on labelled crystals."""

    KIND = "train"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input("dataset", valid_type=LabelledCrystalSetData, help="The labelled crystals.")
        spec.input("parameters", **port_from_model(TrainParameters))
        spec.input("seed", **port_from_field(TrainJob, "seed", Int))
        spec.input(
            "pseudolabelled",
            valid_type=LabelledCrystalSetData,
            required=False,
            help="Crystals with predicted curves (`dosmatgen pseudolabel`), which a denoiser sees besides.",
        )
        spec.input("parent", valid_type=CheckpointData, required=False, help="A checkpoint to start from.")
        spec.output("checkpoint", valid_type=CheckpointData, required=False, help="The denoiser or predictor.")
        spec.output("force_field", valid_type=ForceFieldData, required=False, help="The force field.")
        spec.output("history", valid_type=Dict, help="Lists with one entry for each epoch.")

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that data set, parent and model fit together."""
        if "parameters" not in inputs:
            return None
        model = inputs["parameters"].get_dict().get("model", TrainParameters().model)
        dataset, parent = inputs.get("dataset", None), inputs.get("parent", None)
        if model == "forcefield" and dataset is not None and not dataset.base.attributes.get("has_energies", True):
            return "a force field is trained on energies and forces, which this data set has not"
        if model != "denoiser" and inputs.get("pseudolabelled", None) is not None:
            return f"only a denoiser learns from predicted curves; leave pseudolabelled out for a {model}"
        if parent is not None and parent.base.attributes.get("kind", model) != model:
            return f"the parent is a {parent.base.attributes.get('kind')}, but a {model} is to be trained"
        return None

    def job(self) -> tuple[TrainJob, Files]:
        """Return the job file and the files it needs."""
        parameters = TrainParameters.model_validate(self.inputs.parameters.get_dict())
        parent, pseudolabelled = self.inputs.get("parent", None), self.inputs.get("pseudolabelled", None)
        job = TrainJob(
            dataset=LabelledCrystalSetData.DEFAULT_FILENAME,
            pseudolabelled=None if pseudolabelled is None else _PSEUDOLABELLED,
            parameters=parameters,
            seed=self.inputs.seed.value,
            parent=None if parent is None else _PARENT,
            output=FILENAME if parameters.model == "forcefield" else CheckpointData.DEFAULT_FILENAME,
            runtime=self.runtime(),
        )
        files: Files = [(self.inputs.dataset, LabelledCrystalSetData.DEFAULT_FILENAME)]
        optional = ((parent, _PARENT), (pseudolabelled, _PSEUDOLABELLED))
        return job, [*files, *((node, name) for node, name in optional if node is not None)]
