"""Read sets of labelled crystals of others, record by record."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...crystals import CrystalSet
from ...dos import DEFAULT_GRID, EnergyGrid
from ...errors import ContentError
from ...job import sha256_of
from . import frames, parquet, records

_CHUNK = 256  # crystals that are joined, so that memory holds arrays and not many small objects


class Format(NamedTuple):
    """What a format is called, how a file of it is known, and what reads it."""

    name: str
    knows: Callable[[Path], bool]
    records: Callable[[Path], Iterator[tuple[str, Any]]]
    labelled: Callable[[Any, EnergyGrid], CrystalSet]


FORMATS = (
    Format("parquet", parquet.knows, parquet.records, parquet.labelled_record),
    Format("extxyz", frames.knows, frames.records, frames.labelled_record),
    Format("JSON records", records.knows, records.records, records.labelled_record),
)
"""The formats; the first that knows a file reads it."""


class Dropped(NamedTuple):
    """A record that is not in the set, and why."""

    record: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ImportedSet:
    """Labelled crystals from files of others.

    :param crystals: with the columns of :mod:`...curve_columns`, ``source`` and ``id``, and with energies, forces and stresses
        if all of them have those.
    :param dropped: what is not among them.
    :param notes: what was made of the files, in words.
    :param files: sha256 of each file by its name.
    """

    crystals: CrystalSet
    dropped: list[Dropped]
    notes: list[str]
    files: dict[str, str]

    @property
    def said(self) -> str:
        """What was made of the files, in one line."""
        left = f"{len(self.dropped)} records left out" if self.dropped else ""
        names = f"{', '.join(list(self.files)[:3])}{' …' if len(self.files) > 3 else ''}"
        return "; ".join(text for text in (f"{names}: {len(self.crystals)} crystals", *self.notes, left) if text)

    def card(self, most: int = 100) -> dict[str, Any]:
        """Return what a data card says of the import.

        :param most: how many dropped records are named.
        """
        return {
            "origin": "files of others",
            "files": self.files,
            "sources": dict(Counter(self.crystals.crystal_columns["source"].tolist())),
            "notes": self.notes,
            "dropped": len(self.dropped),
            "dropped_records": {one.record: one.reason for one in self.dropped[:most]},
        }


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return files, and those of folders that a format knows.

    :raises ContentError: if one is not there, or a folder has none.
    """
    found: list[Path] = []
    for path in (Path(name).expanduser() for name in paths):
        if path.is_dir():
            inside = [one for one in sorted(path.iterdir()) if one.is_file() and _format(one) is not None]
            if not inside:
                raise ContentError(f"{path} holds no parquet, extxyz or JSON file")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ContentError(f"{path} does not exist")
    return found


def read_set(
    paths: str | Path | Iterable[str | Path],
    grid: EnergyGrid = DEFAULT_GRID,
    progress: Callable[[int, Dropped | None], None] | None = None,
) -> ImportedSet:
    """Read one file or several, or the files of folders.

    A record that is no crystal with a density of states for each atom is left out, with the reason.

    :param grid: the energies of the set.
    :param progress: called after each record with the number of records so far, and the record if it was left out.
    :raises ContentError: if a file cannot be read, or nothing is left.
    """
    files = files_of([paths] if isinstance(paths, str | Path) else paths)
    kept = {group: _Group() for group in _GROUPS}
    dropped = list[Dropped]()

    count = 0
    for path in files:
        found = _format(path)
        if found is None:
            raise ContentError(f"{path} is no parquet, extxyz or JSON file, in which sets of others come")
        for where, record in found.records(path):
            count += 1
            lost = None
            try:
                crystal = found.labelled(record, grid)
            except ContentError as exception:
                lost = Dropped(where, " ".join(str(exception).removeprefix(f"{where}: ").split()))
                dropped.append(lost)
            else:
                kept[_group_of(crystal)].add(where, crystal)
            if progress is not None:
                progress(count, lost)
    crystals, notes = _joined(kept, dropped)
    if crystals is None:
        first = f"; {dropped[0].record}: {dropped[0].reason}" if dropped else ""
        raise ContentError(f"{', '.join(path.name for path in files[:3])}: no labelled crystal among {count} records{first}")
    return ImportedSet(crystals, dropped, notes, {path.name: sha256_of(path) for path in files})


def _format(path: Path) -> Format | None:
    return next((one for one in FORMATS if one.knows(path)), None)


_GROUPS = ("stress", "forces", "curves")
"""What records have besides their curves: energy, forces and stress; energy and forces; nothing."""


class _Group:
    """Records that have the same labels."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parts: list[CrystalSet] = []
        self._open: list[CrystalSet] = []

    def add(self, name: str, crystal: CrystalSet) -> None:
        self.names.append(name)
        self._open.append(crystal)
        if len(self._open) == _CHUNK:
            self.close()

    def close(self) -> list[CrystalSet]:
        if self._open:
            self.parts.append(CrystalSet.concatenate(self._open))
            self._open = []
        return self.parts


def _group_of(crystal: CrystalSet) -> str:
    return next((name for name in ("stress", "energy") if name in crystal.crystal_columns), "curves").replace(
        "energy", "forces"
    )


def _joined(kept: dict[str, _Group], dropped: list[Dropped]) -> tuple[CrystalSet | None, list[str]]:
    """Return one set, and what was made of it: energies come for all crystals or for none, and stresses, too."""
    with_energy = len(kept["stress"].names) + len(kept["forces"].names)
    without, notes = len(kept["curves"].names), list[str]()
    groups = list(_GROUPS)
    if with_energy >= without > 0:
        reason = f"it has no energy and forces, which {with_energy} other records have"
        dropped += [Dropped(name, reason) for name in kept["curves"].names]
        groups.remove("curves")
    elif with_energy and without:
        notes.append(f"energies and forces left out: {with_energy} records have them, {without} have none")
    if kept["stress"].names and kept["forces"].names:
        notes.append(f"stresses left out: {len(kept['forces'].names)} records have none")
    parts = [crystals for group in groups for crystals in kept[group].close()]
    return (CrystalSet.concatenate(parts) if parts else None), notes
