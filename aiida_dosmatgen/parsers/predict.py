"""Parser of ``dosmatgen predict``."""

from __future__ import annotations

from pathlib import Path

from ..core.job import Results
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals


class PredictParser(DosmatgenParser):
    """Attach the crystals with their predictions."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the crystals; all must be there, in order."""
        columns = ("predicted_dos", "predicted_formation_energy")
        read_crystals(path, columns, self.node.inputs.crystals.crystals, not results.finished)
        self.out("crystals", CrystalSetData(path, check=False))
