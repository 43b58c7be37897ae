"""Parser of ``dosmatgen evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

from aiida.orm import Dict

from ..core.errors import ContentError
from ..core.job import Results
from ..data.base import storable
from .base import DosmatgenParser


class EvaluateParser(DosmatgenParser):
    """Attach the errors of a model."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the errors; model and crystals must be those that were given."""
        inputs = self.node.inputs
        for name, given in (("checkpoint", inputs.checkpoint.sha256), ("crystals", inputs.crystals.sha256)):
            used = results.details.get(f"{name}_sha256")
            if used != given:
                raise ContentError(f"the {name} of the job have sha256 {used}, given was {given}")
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise ContentError(f"{path.name} is not valid JSON") from None
        if not isinstance(metrics, dict) or metrics.get("kind") != inputs.checkpoint.base.attributes.get("kind"):
            raise ContentError(f"{path.name} holds no errors of a {inputs.checkpoint.base.attributes.get('kind')}")
        self.out("metrics", Dict(storable(metrics)))
