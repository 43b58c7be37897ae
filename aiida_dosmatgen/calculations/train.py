"""Train a model."""

from __future__ import annotations

from typing import Any

from aiida.orm import Dict, Int

from ..core.job import TrainJob, TrainParameters
from ..data.checkpoint import CheckpointData
from ..data.crystals import CrystalSetData
from ..data.forcefield import FILENAME, ForceFieldData
from ..data.labelled import LabelledCrystalSetData
from ..data.trust import validate_trust
from .base import DosmatgenCalculation, Files
from .ports import port_from_field, port_from_model
from .relax import trust_options

_PARENT = "parent.safetensors"
_PARENT_FORCE_FIELD = "parent.model"
_PSEUDOLABELLED = "pseudolabelled.npz"


class TrainCalculation(DosmatgenCalculation):
    """Train a denoiser, a predictor or a MACE force field on labelled crystals."""

    KIND = "train"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define inputs, outputs and exit codes."""
        super().define(spec)
        spec.input(
            "dataset",
            valid_type=CrystalSetData,
            help="The labelled crystals; for a force field also frames (`dosmatgen.frames`), which have no density of states.",
        )
        spec.input("parameters", **port_from_model(TrainParameters))
        spec.input("seed", **port_from_field(TrainJob, "seed", Int))
        spec.input(
            "pseudolabelled",
            valid_type=CrystalSetData,
            required=False,
            help="Crystals with predicted curves (`dosmatgen.pseudolabel`), which a denoiser sees besides, or frames of a "
            "teacher (`dosmatgen.frames`), which a force field does.",
        )
        spec.input(
            "parent",
            valid_type=(CheckpointData, ForceFieldData),
            required=False,
            validator=_validate_parent,
            help="A checkpoint or force field to start from.",
        )
        spec.output("checkpoint", valid_type=CheckpointData, required=False, help="The denoiser or predictor.")
        spec.output("force_field", valid_type=ForceFieldData, required=False, help="The force field.")
        spec.output("history", valid_type=Dict, help="Lists with one entry for each epoch.")

    @classmethod
    def validate_inputs(cls, inputs: Any) -> str | None:
        """Check that data set, parent and model fit together."""
        if "parameters" not in inputs:
            return None
        given = inputs["parameters"].get_dict()
        model = given.get("model", TrainParameters().model)
        pseudolabelled = inputs.get("pseudolabelled", None)
        dataset, parent = inputs.get("dataset", None), inputs.get("parent", None)
        if model == "forcefield":
            return _problem_of_force_field(dataset, pseudolabelled, parent, given.get("batched"))
        for name, node in (("dataset", dataset), ("pseudolabelled", pseudolabelled)):
            if node is not None and not isinstance(node, LabelledCrystalSetData):
                return f"{name}: a {model} learns from densities of states, which these crystals have not"
        if model != "denoiser" and pseudolabelled is not None:
            return f"only a denoiser learns from predicted curves; leave pseudolabelled out for a {model}"
        if parent is not None and parent.base.attributes.get("kind", model) != model:
            return f"the parent is a {parent.base.attributes.get('kind')}, but a {model} is to be trained"
        return None

    def job(self) -> tuple[TrainJob, Files]:
        """Return the job file and the files it needs."""
        parameters = TrainParameters.model_validate(self.inputs.parameters.get_dict())
        parent, pseudolabelled = self.inputs.get("parent", None), self.inputs.get("pseudolabelled", None)
        name_of_parent = _PARENT_FORCE_FIELD if isinstance(parent, ForceFieldData) else _PARENT
        job = TrainJob(
            dataset=LabelledCrystalSetData.DEFAULT_FILENAME,
            pseudolabelled=None if pseudolabelled is None else _PSEUDOLABELLED,
            parameters=parameters,
            seed=self.inputs.seed.value,
            parent=None if parent is None else name_of_parent,
            output=FILENAME if parameters.model == "forcefield" else CheckpointData.DEFAULT_FILENAME,
            runtime=self.runtime(),
        )
        files: Files = [(self.inputs.dataset, LabelledCrystalSetData.DEFAULT_FILENAME)]
        optional = ((parent, name_of_parent), (pseudolabelled, _PSEUDOLABELLED))
        return job, [*files, *((node, name) for node, name in optional if node is not None)]

    def command_line(self) -> list[str]:
        """Return further arguments of the executable: the trust in a force field to start from."""
        parent = self.inputs.get("parent", None)
        return trust_options(parent) if isinstance(parent, ForceFieldData) else []


def _validate_parent(parent: CheckpointData | ForceFieldData | None, context: Any) -> str | None:
    return validate_trust(parent, context) if isinstance(parent, ForceFieldData) else None


def _problem_of_force_field(
    dataset: CrystalSetData | None, pseudolabelled: CrystalSetData | None, parent: Any, batched: dict[str, Any] | None
) -> str | None:
    """Say what keeps a force field from being trained, or None."""
    for name, node in (("dataset", dataset), ("pseudolabelled", pseudolabelled)):
        columns = {} if node is None else node.base.attributes.get("columns", None) or {}
        if node is not None and not ("energy" in columns.get("crystal", []) and "forces" in columns.get("atom", [])):
            return f"{name}: a force field is trained on energies and forces, which these crystals have not"
    if batched is None and (pseudolabelled is not None or parent is not None):
        return "a force field learns from frames besides labels, or from a parent, with parameters.batched only"
    if isinstance(parent, CheckpointData):
        return f"the parent is a {parent.base.attributes.get('kind')}, but a forcefield is to be trained"
    if parent is not None and parent.kind != "mace-file":
        return f"the parent is a {parent.kind}, which has no file to start from"
    if parent is not None and (batched or {}).get("parent_sha256") != parent.sha256:
        return f"parameters.batched.parent_sha256 does not name the parent; it is {parent.sha256}"
    return None
