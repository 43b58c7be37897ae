"""Parser of ``dosmatgen relax``."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ContentError
from ..core.job import Results
from ..data.crystals import CrystalSetData
from ..data.forcefield import ForceFieldData
from .base import DosmatgenParser
from .crystals import read_crystals


class RelaxParser(DosmatgenParser):
    """Attach the relaxed crystals."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the crystals; all must be there, also those without time; the force field must be the one that was given."""
        read_crystals(path, ("energy", "status", "forces"), self.node.inputs.crystals.crystals)
        check_force_field(results, self.node.inputs.force_field)
        self.out("crystals", CrystalSetData(path, check=False))


def check_force_field(results: Results, given: ForceFieldData) -> str | None:
    """Return the sha256 of the force field that a job used.

    :raises ContentError: if it is not that of the force field that was given.
    """
    used = results.details.get("force_field_sha256")
    if given.sha256 is not None and used != given.sha256:
        raise ContentError(f"the force field used has sha256 {used}, the one given {given.sha256}")
    return used
