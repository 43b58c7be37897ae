"""Parser of ``dosmatgen crystals``, and what the parsers of jobs with crystals as output share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.crystals import CrystalSet
from ..core.errors import ContentError
from ..core.job import Results
from ..data.crystals import CrystalSetData
from .base import DosmatgenParser


class CrystalsParser(DosmatgenParser):
    """Attach the crystals of a data set."""

    def parse_output(self, path: Path, results: Results) -> None:
        """Attach the crystals; each must name its origin."""
        read_crystals(path, ("source", "id", "kind", "prototype"))
        self.out("crystals", CrystalSetData(path))


def read_crystals(path: Path, columns: Iterable[str], given: CrystalSet | None = None, partial: bool = False) -> CrystalSet:
    """Read crystals that a job wrote, and check that they belong to the job.

    :param columns: names that must be among the crystal or atom columns.
    :param given: the crystals that the job was given; the output must have the same ones in the same order.
    :param partial: whether the output may lack crystals, because the job stopped early.
    :raises ContentError: if a column is missing, or the crystals are others.
    """
    crystals = CrystalSet.load(path)
    present = {*crystals.crystal_columns, *crystals.atom_columns}
    missing = [name for name in columns if name not in present]
    if missing:
        raise ContentError(f"{path.name} lacks the column {missing[0]!r}")
    if given is not None and not partial:
        if len(crystals) != len(given):
            raise ContentError(f"{path.name} has {len(crystals)} crystals, {len(given)} were given")
        if not (np.array_equal(crystals.n_atoms, given.n_atoms) and np.array_equal(crystals.numbers, given.numbers)):
            raise ContentError(f"{path.name} has crystals of other compositions than those given")
    return crystals
