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
    systems = {
        "-".join(sorted({SYMBOLS[z] for z in crystals.numbers[a:b]})) for a, b in itertools.pairwise(crystals.offsets.tolist())
    }
    return sorted(system for system in systems if digest_of(system) in reserved)
