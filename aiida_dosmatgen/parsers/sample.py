"""Parser of ``dosmatgen sample``."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ContentError
from ..core.job import Results
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals


class SampleParser(DosmatgenParser):
    """Attach the candidates."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the candidates; they must be those of the range, in order, of the models and the target that were given."""
        self.check_given(results, "checkpoint", "target", "classifier")
        crystals = read_crystals(path, ("candidate", "seed"))
        start, stop = self.node.inputs.candidates.get_list()
        got = crystals.crystal_columns["candidate"].tolist()
        if got != sorted(set(got)) or not set(got) <= set(range(start, stop)):
            raise ContentError(f"{path.name} holds other candidates than {start} to {stop - 1}")
        if results.finished and len(got) != stop - start:
            raise ContentError(f"{path.name} holds {len(got)} candidates, expected {stop - start}")
        self.out("crystals", CrystalSetData(path, check=False))
