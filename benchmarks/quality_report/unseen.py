"""What is asked for: real crystals at rest, of chemical systems by which nothing was chosen."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.shards import folder_of_shards, load_shards, read_manifest
from aiida_dosmatgen.core.labelled.splits import systems_of

from .targets import near_equilibrium

REAL = "real"
LARGEST_PRESSURE, LARGEST_FORCE = 3.0, 0.3  # GPa, eV/Å; of sets that do not say which crystals are real


@dataclasses.dataclass(frozen=True)
class Labels:
    """A labelled set as it was computed, with all that its curves have.

    :param crystals: with the column ``split``.
    :param recipe: how they were labelled, of a set of shards; None for the former labels.
    """

    crystals: CrystalSet
    recipe: dict[str, Any] | None

    def of(self, split: str) -> CrystalSet:
        """Return the crystals of a split."""
        return self.crystals[np.flatnonzero(self.crystals.crystal_columns["split"] == split)]


def read(path: Path) -> Labels:
    """Read a folder of shards, or an ``npz`` file with the column ``split``.

    :raises ContentError: if there is no such column.
    """
    folder = folder_of_shards(path)
    if folder is not None or path.is_dir():
        crystals = load_shards(folder or path)
        recipe = read_manifest(folder or path)["settings"]["recipe"]
    else:
        crystals, recipe = CrystalSet.load(path), None
    if "split" not in crystals.crystal_columns:
        raise ContentError(f"{path} does not say what is kept for tests; the report needs the column 'split'")
    if "status" in crystals.crystal_columns:
        crystals = crystals[np.flatnonzero(crystals.crystal_columns["status"] == "ok")]
    return Labels(crystals, recipe)


def at_rest(crystals: CrystalSet) -> np.ndarray:
    """Tell which crystals are real and at rest, shape (N,) bool; where the set does not say it, by forces and pressure."""
    if "kind" in crystals.crystal_columns:
        return crystals.crystal_columns["kind"] == REAL
    return near_equilibrium(crystals, LARGEST_FORCE, LARGEST_PRESSURE * GPa)


def choose(crystals: CrystalSet, count: int, seed: int, elements: list[str], max_atoms: int) -> np.ndarray:
    """Return the rows of so many targets, each of another chemical system as long as there are any, fewer if there are not.

    Systems come in the order of a hash of seed and name, so that what was chosen stays chosen when the set grows; of a system
    the first crystal by its name.

    :param elements: symbols that the models know.
    :raises ContentError: if there is none.
    """
    systems, rest = systems_of(crystals), at_rest(crystals)
    names = crystals.crystal_columns.get("id", np.array([f"{i:06d}" for i in range(len(crystals))]))
    of_system: dict[str, list[int]] = {}
    for i in np.argsort(names, kind="stable"):
        symbols = systems[i].split("-")
        if rest[i] and len(symbols) > 1 and set(symbols) <= set(elements) and crystals.n_atoms[i] <= max_atoms:
            of_system.setdefault(systems[i], []).append(int(i))
    if not of_system:
        raise ContentError(f"no real compound at rest of up to {max_atoms} atoms has only elements that the models know")

    def drawn(system: str) -> str:
        return hashlib.sha256(f"{seed} {system}".encode()).hexdigest()

    rows: list[int] = []
    while len(rows) < count and of_system:
        turn = sorted(of_system, key=drawn)  # each system once, then each a second time, and so on
        while turn and len(rows) < count:
            rows.append(of_system[turn.pop(0)].pop(0))
        of_system = {system: left for system, left in of_system.items() if left}
    return np.array(rows)


def known_to(crystals: CrystalSet, elements: list[str]) -> CrystalSet:
    """Return the crystals that have only elements of a model."""
    return crystals[[i for i, system in enumerate(systems_of(crystals)) if set(system.split("-")) <= set(elements)]]


def elements_of(crystals: CrystalSet) -> list[str]:
    """Return the symbols of all elements, by atomic number."""
    return [SYMBOLS[z] for z in np.unique(crystals.numbers)]
