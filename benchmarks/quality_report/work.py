"""Cached files, so that a stopped run continues. Their names are hashes of all that their content depends on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target import DosTarget


def say(text: str) -> None:
    """Report progress."""
    print(f"# {text}", file=sys.stderr, flush=True)


def key_of(*parts: Any) -> str:
    """Return a short hash of crystals, targets, arrays and JSON values: equal for equal content, and only for it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_bytes(part) + b"\0")
    return digest.hexdigest()[:20]


def _bytes(part: Any) -> bytes:
    if isinstance(part, CrystalSet):
        return b"".join(np.ascontiguousarray(a).tobytes() for a in (part.n_atoms, part.numbers, part.fractional, part.lattices))
    if isinstance(part, DosTarget):
        described = json.dumps([part.kind, part.n_atoms, part.complete_below, part.sites])
        return described.encode() + np.ascontiguousarray(part.curves).tobytes()
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part).tobytes()
    return json.dumps(part, sort_keys=True, default=str).encode()


def kept(path: Path, make: Callable[[], CrystalSet]) -> CrystalSet:
    """Return the crystals in a file; if it is not there, or damaged, make them, and keep them there."""
    if path.exists():
        try:
            return CrystalSet.load(path)
        except ContentError:
            path.unlink()
    crystals = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    crystals.save(path)
    return crystals


def dumps(value: Any) -> str:
    """Return JSON with one line for each entry of the two outer levels: long lists of numbers stay on their line."""
    lines = []
    for name, item in value.items():
        if isinstance(item, dict) and item:
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in item.items())
            text = f"{{\n{inner}\n }}"
        elif isinstance(item, list) and item:
            text = "[\n" + ",\n".join(f"  {json.dumps(v)}" for v in item) + "\n ]"
        else:
            text = json.dumps(item)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
