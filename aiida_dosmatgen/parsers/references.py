"""Parser of ``dosmatgen references``."""

from __future__ import annotations

from pathlib import Path

from aiida.orm import Dict

from ..core.errors import ContentError
from ..core.job import Results
from ..data.base import storable
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals
from .relax import check_force_field


class ReferencesParser(DosmatgenParser):
    """Attach the energies of the elements, and their crystals."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach energies and crystals; the force field must be the one that was given."""
        read_crystals(path, ("energy", "status"))
        used = check_force_field(results, self.node.inputs.force_field)
        content = {key: results.details.get(key) for key in ("elements", "energies")}
        if not isinstance(content["energies"], dict) or not isinstance(content["elements"], list):
            raise ContentError("results.json lacks the energies of the elements")
        self.out("crystals", CrystalSetData(path, check=False))
        if results.finished:
            self.out("references", Dict(storable({"force_field_sha256": used, **content})))
