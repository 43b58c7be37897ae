"""Records of labelled crystals, one file each. Finished and failed crystals are not computed again."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dft.recipe import Recipe
from ...core.dft.upf import Upf
from ...core.elements import SYMBOLS
from .espresso import Killed, RunFailure
from .label import label_crystal, symmetrised

logger = logging.getLogger(__name__)


class Records:
    """A folder with one record for each crystal, recipe and set of pseudopotentials.

    :param folder: made if it is not there.
    :param pseudos: of the elements; a record is one of those of its crystal's elements.
    """

    def __init__(self, folder: Path, recipe: Recipe, pseudos: Mapping[str, Upf]) -> None:
        self.folder, self.recipe, self.pseudos = folder, recipe, pseudos
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {upf.element: upf.sha256 for upf in pseudos.values()}

    def path(self, crystal: CrystalSet) -> Path:
        """Return where the record of a crystal is, or will be."""
        digest = hashlib.sha256(self.recipe.text().encode())
        for symbol in sorted({SYMBOLS[z] for z in crystal.numbers}):
            digest.update(f"{symbol} {self._files.get(symbol)}".encode())
        for array in (crystal.numbers, crystal.fractional, crystal.lattices):
            digest.update(np.ascontiguousarray(array).tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def status(self, crystal: CrystalSet) -> str | None:
        """Return ``ok``, the reason why a crystal has no labels, or None if it has not been computed."""
        path = self.path(crystal)
        return str(CrystalSet.load(path).crystal_columns["status"][0]) if path.exists() else None

    def compute(self, crystal: CrystalSet, seconds: float, pw: Sequence[str], projwfc: Sequence[str]) -> str:
        """Label a crystal unless that has been done, keep what came of it, and return the status.

        Of runs that were killed nothing is kept, so that they are computed again.
        """
        known = self.status(crystal)
        if known is not None:
            return known
        try:
            labelled = label_crystal(symmetrised(crystal), self.recipe, self.pseudos, seconds, pw, projwfc)
            status = "ok"
        except Killed as exception:
            return str(exception)
        except RunFailure as exception:
            labelled, status = crystal.replace(crystal_columns={}, atom_columns={}), str(exception)
        columns = {**crystal.crystal_columns, "status": np.array([status])}
        labelled.with_columns(crystal=columns).save(self.path(crystal))
        return status

    def gather(self, crystals: CrystalSet) -> tuple[CrystalSet, dict[str, int]]:
        """Return the labelled crystals of a set, in its order, and how often each status occurs."""
        done, counts = [], Counter[str]()
        for crystal in crystals:
            path = self.path(crystal)
            record = CrystalSet.load(path) if path.exists() else None
            status = "not computed" if record is None else str(record.crystal_columns["status"][0])
            counts[status] += 1
            if record is not None and status == "ok":
                done.append(record)
        return CrystalSet.concatenate(done), dict(counts)


def compute_all(
    records: Records,
    crystals: CrystalSet,
    workers: int,
    seconds: float,
    pw: Sequence[str] = ("pw.x",),
    projwfc: Sequence[str] = ("projwfc.x",),
) -> Generator[tuple[int, str], None, None]:
    """Label crystals in their order, ``workers`` at a time, and yield (row, status) as each is done.

    :param seconds: for each crystal.
    """
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(records.compute, crystals[i], seconds, pw, projwfc): i for i in range(len(crystals))}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            for future in running:
                future.cancel()
