"""Restart files of a job: finished crystals on disk, so that a killed run continues."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ..core.crystals import CrystalSet
from ..core.errors import ContentError

_INDEX = "part_index"


class Parts:
    """A folder of parts, each a few finished crystals.

    :param folder: made if needed; it belongs to one job (``key``), and parts of another are thrown away.
    :param key: text that changes with whatever changes the results.
    :param every: seconds between two parts.
    """

    def __init__(self, folder: Path, key: str, every: float = 10.0) -> None:
        self.folder, self.every = folder, every
        self._waiting: dict[int, CrystalSet] = {}
        self._last = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        label = folder / "key"
        if not label.is_file() or label.read_text(encoding="utf-8") != key:
            for part in folder.glob("part-*.npz"):
                part.unlink()
            label.write_text(key, encoding="utf-8")
        self._next = 1 + max((int(p.stem.split("-")[1]) for p in folder.glob("part-*.npz")), default=-1)

    def read(self) -> dict[int, CrystalSet]:
        """Return what earlier runs finished, by index; a damaged part is dropped, and its crystals are computed again."""
        found: dict[int, CrystalSet] = {}
        for path in sorted(self.folder.glob("part-*.npz")):
            try:
                part = CrystalSet.load(path)
            except ContentError:
                path.unlink()
                continue
            indices = part.crystal_columns[_INDEX]
            part = part.replace(crystal_columns={k: v for k, v in part.crystal_columns.items() if k != _INDEX})
            found |= {int(i): crystal for i, crystal in zip(indices, part, strict=True)}
        return found

    def add(self, index: int, crystal: CrystalSet) -> None:
        """Keep a crystal; it is on disk after ``every`` seconds at the latest, if crystals keep coming.

        :param index: its place in the set of the job.
        :param crystal: a set of one, with what was computed as columns.
        """
        self._waiting[index] = crystal
        if time.monotonic() - self._last >= self.every:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._last = time.monotonic()
        if not self._waiting:
            return
        part = CrystalSet.concatenate(self._waiting.values())
        indices = np.array(list(self._waiting))
        part.with_columns(crystal={_INDEX: indices}).save(self.folder / f"part-{self._next:06d}.npz")
        self._next += 1
        self._waiting = {}
