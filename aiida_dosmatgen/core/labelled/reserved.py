"""Chemical systems that never enter a data set, by whatever way a crystal comes: they are kept for an examination from outside.

A set names them by digests, which tell whether a crystal is of one of them, and do not list them.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from ..crystals import CrystalSet
from ..elements import SYMBOLS

RESERVED = "reserved.txt"
"""In a folder of shards: one digest a line."""


def digest_of(system: str) -> str:
    """Return the digest of a chemical system, whose symbols may be in any order, e.g. of ``Ga-N``."""
    return hashlib.sha256("-".join(sorted(system.split("-"))).encode()).hexdigest()[:16]


def reserved_in(crystals: CrystalSet, folder: Path) -> list[str]:
    """Return the chemical systems of a set that the file in a folder reserves; none if there is no file."""
    path = folder / RESERVED
    if not path.is_file():
        return []
    reserved = set(path.read_text(encoding="utf-8").split())
    return sorted(system for system in set(_systems(crystals)) if digest_of(system) in reserved)


def without_reserved(crystals: CrystalSet, path: Path) -> CrystalSet:
    """Return the crystals of a set whose systems a file of digests does not reserve."""
    reserved = set(path.read_text(encoding="utf-8").split())
    return crystals[[i for i, system in enumerate(_systems(crystals)) if digest_of(system) not in reserved]]


def _systems(crystals: CrystalSet) -> list[str]:
    ends = itertools.pairwise(crystals.offsets.tolist())
    return ["-".join(sorted({SYMBOLS[z] for z in crystals.numbers[a:b]})) for a, b in ends]
