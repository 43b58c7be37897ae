"""Parser of ``dosmatgen predict``."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ContentError
from ..core.job import PredictJob, Results, sha256_of
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals


class PredictParser(DosmatgenParser):
    """Attach the crystals with their predictions."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the crystals; all must be there, in order, but those that were left out; of the predictor that was given."""
        self.check_given(results, "checkpoint")
        columns = ("predicted_dos", "predicted_formation_energy")
        screened = "left_out" in results.details
        read_crystals(path, () if screened else columns, self.node.inputs.crystals.crystals, screened or not results.finished)
        if screened:
            with self.file(PredictJob.model_fields["left_out"].default) as others:
                if sha256_of(others) != results.details["left_out_sha256"]:
                    raise ContentError(f"{others.name} has not the sha256 that results.json states")
                read_crystals(others, ("candidate", "reason", "criterion"))
                self.out("left_out", CrystalSetData(others, check=False))
        self.out("crystals", CrystalSetData(path, check=False))
