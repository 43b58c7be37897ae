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
        self.check_given(results, "checkpoint", "crystals")
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise ContentError(f"{path.name} is not valid JSON") from None
        if not isinstance(metrics, dict) or metrics.get("kind") != inputs.checkpoint.base.attributes.get("kind"):
            raise ContentError(f"{path.name} holds no errors of a {inputs.checkpoint.base.attributes.get('kind')}")
        self.out("metrics", Dict(storable(metrics)))
