"""Parser of ``dosmatgen train``."""

from __future__ import annotations

import json
from pathlib import Path

from aiida.orm import Dict

from ..core.errors import ContentError
from ..core.job import Results, TrainJob, TrainParameters
from ..data.base import storable
from ..data.checkpoint import CheckpointData
from ..data.forcefield import ForceFieldData
from .base import DosmatgenParser

_HISTORY = TrainJob.model_fields["history"].default


class TrainParser(DosmatgenParser):
    """Attach the checkpoint or force field, and the history of the training."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach model and history; the model must be of the requested kind and trained on the given set."""
        inputs = self.node.inputs
        model = inputs.parameters.get_dict().get("model", TrainParameters().model)
        history = self._history()
        if model == "forcefield":
            used, given = results.details.get("dataset_sha256"), inputs.dataset.sha256
            if used != given:
                raise ContentError(f"{path.name} was trained on the data set {used}, given was {given}")
            learnt = [inputs[name] for name in ("dataset", "pseudolabelled", "parent") if name in inputs]
            elements = {symbol for node in learnt for symbol in node.base.attributes.get("elements", None) or ()}
            force_field = ForceFieldData.from_file(path, elements=list(elements))
            self.out("force_field", force_field.trust(str(force_field.sha256)))  # its file is as the trainer hashed it
        else:
            checkpoint = CheckpointData.from_file(path)
            kind, dataset = (checkpoint.base.attributes.get(key) for key in ("kind", "dataset_sha256"))
            if kind != model:
                raise ContentError(f"{path.name} is a {kind}, a {model} was expected")
            if dataset != inputs.dataset.sha256:
                raise ContentError(f"{path.name} was trained on the data set {dataset}, given was {inputs.dataset.sha256}")
            self.out("checkpoint", checkpoint)
        self.out("history", Dict(storable(history)))

    def _history(self) -> dict[str, list]:
        repository = self.retrieved.base.repository
        if _HISTORY not in repository.list_object_names():
            raise ContentError(f"{_HISTORY} is missing")
        try:
            history = json.loads(repository.get_object_content(_HISTORY, "r"))
        except ValueError:
            raise ContentError(f"{_HISTORY} is not valid JSON") from None
        if not isinstance(history, dict) or not all(isinstance(v, list) for v in history.values()):
            raise ContentError(f"{_HISTORY} is not an object of lists")
        return history
