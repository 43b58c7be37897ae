"""Chemical systems that never enter a data set, by whatever way a crystal comes: they are kept for an examination from outside.

A set names them by digests, which tell whether a crystal is of one of them, and do not list them. Whoever reserves systems may
give either, the names or the digests.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..crystals import CrystalSet
from ..elements import SYMBOLS
from ..errors import ContentError

RESERVED = "reserved.txt"
"""In a folder of shards: one digest a line."""


def digest_of(system: str) -> str:
    """Return the digest of a chemical system, whose symbols may be in any order, e.g. of ``Ga-N``."""
    return hashlib.sha256("-".join(sorted(system.split("-"))).encode()).hexdigest()[:16]


def digests_of(entries: Iterable[str]) -> frozenset[str]:
    """Return the digests of reserved systems.

    :param entries: chemical systems, e.g. ``Ga-N``, or digests of them.
    :raises ContentError: for what is neither; as nothing would be reserved by it.
    """
    found = set()
    for entry in entries:
        if re.fullmatch("[0-9a-f]{16}", entry):
            found.add(entry)
        elif set(entry.split("-")) <= set(SYMBOLS[1:]):
            found.add(digest_of(entry))
        else:
            raise ContentError(f"reserved: {entry!r} is neither a chemical system such as Ga-N nor the digest of one")
    return frozenset(found)


def read_reserved(reserved: str | Iterable[str] | None, folder: Path) -> frozenset[str]:
    """Return the digests of what a job reserves.

    :param reserved: a text file in the folder, or the entries themselves; None reserves nothing.
    :raises ContentError: for entries that are neither systems nor digests.
    """
    if isinstance(reserved, str):
        return digests_of((folder / reserved).read_text(encoding="utf-8").split())
    return digests_of(reserved or ())


def reserved_in(crystals: CrystalSet, folder: Path) -> list[str]:
    """Return the chemical systems of a set that the file in a folder reserves; none if there is no file."""
    path = folder / RESERVED
    if not path.is_file():
        return []
    reserved = set(path.read_text(encoding="utf-8").split())
    return sorted(system for system in set(_systems(crystals)) if digest_of(system) in reserved)


def without_reserved(crystals: CrystalSet, digests: frozenset[str]) -> CrystalSet:
    """Return the crystals of a set whose systems are not reserved."""
    return crystals[np.flatnonzero([digest_of(system) not in digests for system in _systems(crystals)])]


def _systems(crystals: CrystalSet) -> list[str]:
    ends = itertools.pairwise(crystals.offsets.tolist())
    return ["-".join(sorted({SYMBOLS[z] for z in crystals.numbers[a:b]})) for a, b in ends]
