"""The prototype of a crystal: a name for its structure that does not depend on its elements.

Two crystals have the same name if they have the same space group and, for some exchange of their elements, the same numbers of
atoms on positions of the same multiplicity and site symmetry. Other choices of the origin, other cells, other volumes and other
elements do not change it. Some different structures share a name; then both are held out or neither, so nothing leaks by that.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import spglib

from ..crystals import CrystalSet

UNKNOWN = "unknown"
"""The prototype of a crystal whose symmetry cannot be told, or that was distorted from one that is not known."""

_SYMPREC = 0.1  # Å; crystals relaxed by others are symmetric within this
_DISPLACED = re.compile(r"(?P<id>.*) displaced \d+\.\d+$")


def prototype_of(crystal: CrystalSet) -> str:
    """Return the name of the structure of one crystal, e.g. ``AB-225-2-b1a0``.

    Its parts: letters with the numbers of atoms that are alike, the space group, the atoms of the primitive cell, and a digest
    of multiplicities and site symmetries.
    """
    cell = (crystal.lattices[0].tolist(), crystal.fractional.tolist(), crystal.numbers.tolist())
    dataset = spglib.get_symmetry_dataset(cell, symprec=_SYMPREC)
    if dataset is None:
        return UNKNOWN
    orbits: dict[int, list[str]] = defaultdict(list)  # of each element, its orbits as multiplicity and site symmetry
    numbers, types = np.asarray(dataset.std_types), np.asarray(dataset.std_mapping_to_primitive)
    n_primitive = int(types.max()) + 1
    share = len(numbers) // n_primitive  # lattice points of the standard cell
    counts: Counter[int] = Counter((numbers[np.unique(types, return_index=True)[1]]).tolist())
    in_cell = Counter(dataset.crystallographic_orbits.tolist())
    for orbit, n in in_cell.items():
        multiplicity = n * len(numbers) // len(crystal.numbers)
        symmetry = "".join(sorted(dataset.site_symmetry_symbols[orbit].replace(".", "")))
        orbits[int(crystal.numbers[orbit])].append(f"{multiplicity}{symmetry}")
    signature = sorted((counts[z] * share, sorted(found)) for z, found in orbits.items())
    amounts = sorted(counts.values())
    divisor = int(np.gcd.reduce(amounts))
    formula = "".join(f"{chr(65 + i)}{n // divisor if n > divisor else ''}" for i, n in enumerate(amounts))
    digest = hashlib.sha256(repr(signature).encode()).hexdigest()[:6]
    return f"{formula}-{dataset.number}-{n_primitive}-{digest}"


def prototypes_of(crystals: CrystalSet, parents: Sequence[CrystalSet] = ()) -> list[str]:
    """Return the prototype of each crystal: what the column ``prototype`` says, or its own structure's.

    A crystal whose ``id`` says that it was displaced has the prototype of the crystal it was made from: the one of the same
    source, id and elements among ``parents`` or in the set itself.
    """
    columns = crystals.crystal_columns
    if "prototype" in columns:
        return [str(name) for name in columns["prototype"].tolist()]
    if "id" not in columns or "source" not in columns:
        return [prototype_of(crystal) for crystal in crystals]
    ids = [_DISPLACED.match(str(entry).strip()) for entry in columns["id"].tolist()]
    wanted = {
        _key(crystals, row, match["id"]): list[tuple[CrystalSet, int]]() for row, match in enumerate(ids) if match is not None
    }
    for known in (*parents, crystals) if wanted else ():
        if not {"source", "id"} <= known.crystal_columns.keys():
            continue
        for row, entry in enumerate(known.crystal_columns["id"].tolist()):
            found = wanted.get(_key(known, row, str(entry).strip()))
            if found is not None:
                found.append((known, row))
    names = []
    for row, match in enumerate(ids):
        if match is None:
            names.append(prototype_of(crystals[row]))
            continue
        candidates = [known[i] for known, i in wanted[_key(crystals, row, match["id"])]]
        names.append(_nearest(crystals[row], candidates))
    return names


def _key(crystals: CrystalSet, row: int, entry: str) -> tuple[str, str, tuple[int, ...]]:
    first, last = crystals.offsets[row], crystals.offsets[row + 1]
    source = str(crystals.crystal_columns["source"][row]).strip()
    return source, entry, tuple(sorted(crystals.numbers[first:last].tolist()))


def _nearest(crystal: CrystalSet, candidates: Sequence[CrystalSet]) -> str:
    """Return the prototype of the candidate that the crystal is nearest to; not every source gives each crystal its own id."""
    names = [_named(candidate) for candidate in candidates]
    if len(set(names)) < 2:
        return names[0] if names else UNKNOWN
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, mine = StructureMatcher(primitive_cell=False), crystal.to_pymatgen()[0]
    distances = [matcher.get_rms_dist(mine, candidate.to_pymatgen()[0]) for candidate in candidates]
    rated = [(distance[0], name) for distance, name in zip(distances, names, strict=True) if distance is not None]
    return min(rated)[1] if rated else names[0]


def _named(crystal: CrystalSet) -> str:
    column = crystal.crystal_columns.get("prototype")
    return prototype_of(crystal) if column is None else str(column[0])
