"""Parser of ``dosmatgen relax``."""

from __future__ import annotations

from pathlib import Path

from aiida.orm import Dict

from ..core.errors import ContentError
from ..core.job import Results
from ..data.base import storable
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser
from .crystals import read_crystals


class RelaxParser(DosmatgenParser):
    """Attach the relaxed crystals and the elemental references."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach crystals and references; the force field must be the one that was given."""
        partial = not results.finished
        read_crystals(path, ("energy", "status", "forces"), self.node.inputs.crystals.crystals, partial)
        energies = results.details.get("reference_energies")
        if not isinstance(energies, dict):
            raise ContentError("results.json lacks the reference energies of the elements")
        used, given = results.details.get("force_field_sha256"), self.node.inputs.force_field.sha256
        if given is not None and used != given:
            raise ContentError(f"the force field used has sha256 {used}, the one given {given}")
        self.out("crystals", CrystalSetData(path, check=False))
        self.out("references", Dict(storable({"force_field_sha256": used, "energies": energies})))
