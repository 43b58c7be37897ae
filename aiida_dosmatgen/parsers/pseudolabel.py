"""Parser of ``dosmatgen pseudolabel``."""

from __future__ import annotations

from pathlib import Path

from ..core.job import Results
from ..data.labelled import LabelledCrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals
from .relax import check_force_field


class PseudolabelParser(DosmatgenParser):
    """Attach the crystals with their predicted curves."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the crystals; predictor, force field and crystals must be those that were given."""
        read_crystals(path, ("dos", "complete_below", "source", "id"))
        check_force_field(results, self.node.inputs.force_field)
        self.check_given(results, "predictor", "crystals")
        inputs = self.node.inputs
        crystals = inputs.crystals.sha256 if "crystals" in inputs else None
        what = "prototype crystals" if crystals is None else "given crystals and prototypes"
        card = {
            "origin": f"predicted curves of {what}",
            "predictor_sha256": inputs.predictor.sha256,
            "crystals_sha256": crystals,
        }
        self.out("crystals", LabelledCrystalSetData(path, card=card))
