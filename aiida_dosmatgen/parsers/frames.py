"""Parser of ``dosmatgen frames``."""

from __future__ import annotations

from pathlib import Path

from ..core.job import Results
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals
from .relax import check_force_field


class FramesParser(DosmatgenParser):
    """Attach the frames with their energies, forces and stresses."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the frames; crystals and force field must be those that were given, and each frame must name its origin."""
        read_crystals(path, ("energy", "stress", "forces", "kind", "source", "id"))
        check_force_field(results, self.node.inputs.force_field)
        self.check_given(results, "crystals")
        self.out("frames", CrystalSetData(path))
