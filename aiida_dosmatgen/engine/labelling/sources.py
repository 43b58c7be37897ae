"""Crystals to label, and whence they come: files of real crystals, the elements, substitutions into prototypes, distortions.

Each crystal has the columns ``source`` and ``id``, which name its origin, ``kind`` (``real``, ``element``, ``substituted``,
``scaled`` or ``distorted``), ``spacegroup``, and ``prototype``: of what it was made from, if it was distorted.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from ...core.crystals import CrystalSet
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.ground_states import ground_state
from ...core.labelled.prototypes import prototype_of, prototypes_of
from ...core.labelled.reserved import digest_of
from ...core.labelled.shards import names_of
from .distortions import distort_within_subgroup
from .espresso import RunFailure
from .label import symmetrised

VOLUMES = (0.9, 1.15)
"""Range of the volumes of scaled crystals, relative to the ones they were made from."""

DISPLACEMENTS = (0.05, 0.2)
"""Range in Å of the standard deviation of displacements."""

_STRAIN = 0.02
_TRIES = 200  # of elements for a prototype, most of which have no balance of charges


def system_of(symbols: Iterable[str]) -> str:
    """Return the chemical system of atoms, e.g. ``Ga-N``."""
    return "-".join(sorted(set(symbols)))


def real_crystals(path: Path) -> Iterator[CrystalSet]:
    """Read crystals that name their ``source`` and ``id``; cells become primitive.

    :param path: an extxyz file, gzipped or not, whose comments have both, or an ``npz`` file with both as columns.
    :raises ContentError: naming the frame that lacks one of them, or whose symmetry cannot be told.
    """
    if path.suffix == ".npz":
        yield from _of_set(path)
        return
    from ase.io import iread
    from monty.io import zopen

    with zopen(path, "rt", encoding="utf-8") as stream:
        for number, atoms in enumerate(iread(stream, index=":", format="extxyz")):
            missing = [name for name in ("source", "id") if name not in atoms.info]
            if missing:
                raise ContentError(
                    f"{path}, frame {number}: it has no {missing[0]!r} in its comment line; a label names its origin"
                )
            if not atoms.pbc.all():
                raise ContentError(
                    f"{path}, frame {number}: it is not periodic in three dimensions; leave slabs and molecules out"
                )
            try:
                yield _named(atoms, str(atoms.info["source"]), str(atoms.info["id"]), "real")
            except RunFailure as exception:
                raise ContentError(f"{path}, frame {number}: {exception}") from None


def _of_set(path: Path) -> Iterator[CrystalSet]:
    for number, crystal in enumerate(CrystalSet.load(path)):
        missing = [name for name in ("source", "id") if name not in crystal.crystal_columns]
        if missing:
            raise ContentError(f"{path}: the crystals have no column {missing[0]!r}; a label names its origin")
        source, entry = (str(crystal.crystal_columns[name][0]).strip() for name in ("source", "id"))
        try:
            yield _named(crystal.to_ase()[0], source, entry, "real")
        except RunFailure as exception:
            raise ContentError(f"{path}, crystal {number}: {exception}") from None


def elements(symbols: Iterable[str]) -> Iterator[CrystalSet]:
    """Return the ground states of elements, as far as they are known (:mod:`...core.ground_states`)."""
    for symbol in symbols:
        try:
            yield _named(ground_state(symbol), "elements", symbol, "element")
        except ContentError:
            continue


def substituted(symbols: Sequence[str], count: int, max_atoms: int, seed: int) -> Iterator[CrystalSet]:
    """Return prototypes of the AFLOW library with other elements, of charges that balance, at a predicted volume.

    Charges balance if pymatgen finds oxidation states, among those that occur in ICSD, that add up to zero
    (``Composition.oxi_state_guesses``); volumes are those of ``DLSVolumePredictor``, from the lengths of bonds that occur.

    :param count: how many, at most.
    """
    from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor
    from pymatgen.core import Composition

    rng, predictor, seen = np.random.default_rng(seed), DLSVolumePredictor(), set[tuple[str, str]]()
    prototypes = [entry for entry in _aflow() if len(entry[1].composition) > 1 and len(entry[1]) <= max_atoms]
    for _ in range(_TRIES * count):
        if len(seen) == count:
            return
        name, structure = prototypes[rng.integers(len(prototypes))]
        places = list(structure.composition)
        chosen = [str(symbol) for symbol in rng.choice(list(symbols), len(places), replace=False)]
        swap = dict(zip(places, chosen, strict=True))
        formula = Composition({swap[place]: amount for place, amount in structure.composition.items()}).reduced_formula
        if (name, formula) in seen or not Composition(formula).oxi_state_guesses():
            continue
        made = structure.copy()
        made.replace_species(swap)
        try:
            made = predictor.get_predicted_structure(made)
        except ValueError:  # it knows no radius of one of the elements
            continue
        seen.add((name, formula))
        yield _named(made.to_ase_atoms(), "aflow", f"{name}:{formula}", "substituted")


def distorted(crystals: Iterable[CrystalSet], share: float, seed: int) -> Iterator[CrystalSet]:
    """Return a share of the crystals out of equilibrium: half of them scaled, half displaced and strained.

    What becomes of a crystal depends on the seed, its name and its structure alone: not every source has ids.
    A subgroup of its symmetry is kept, which saves k-points.

    :param share: from 0 to 1.
    """
    for crystal in crystals:
        source, entry = (str(crystal.crystal_columns[name][0]) for name in ("source", "id"))
        rng = np.random.default_rng([seed, zlib.crc32(names_of(crystal)[0].encode())])
        if rng.random() >= share:
            continue
        atoms = crystal.to_ase()[0]
        if rng.random() < 0.5:
            volume = rng.uniform(*VOLUMES)
            atoms.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
            yield _named(atoms, source, f"{entry} scaled {volume:.2f}", "scaled")
        else:
            displacement = rng.uniform(*DISPLACEMENTS)
            distort_within_subgroup(atoms, displacement, _STRAIN, rng)
            prototype = prototypes_of(crystal)[0]
            yield _named(atoms, source, f"{entry} displaced {displacement:.2f}", "distorted", prototype)


def outside(
    crystals: Iterable[CrystalSet], reserved: Collection[str], symbols: set[str], max_atoms: int
) -> Iterator[CrystalSet]:
    """Return the crystals of at most ``max_atoms`` atoms, of these elements, that are in none of the reserved systems.

    :param reserved: digests of systems.
    """
    for crystal in crystals:
        held = {SYMBOLS[z] for z in crystal.numbers}
        if len(crystal.numbers) <= max_atoms and held <= symbols and digest_of(system_of(held)) not in reserved:
            yield crystal


def _named(atoms: Atoms, source: str, entry: str, kind: str, prototype: str | None = None) -> CrystalSet:
    crystal = symmetrised(CrystalSet.from_ase([atoms]))
    parts = (crystal.lattices[0].tolist(), crystal.fractional.tolist(), crystal.numbers.tolist())
    dataset = spglib.get_symmetry_dataset(parts, symprec=1e-3)
    columns = {
        "source": source,
        "id": entry,
        "kind": kind,
        "spacegroup": 1 if dataset is None else dataset.number,
        "prototype": prototype_of(crystal) if prototype is None else prototype,
    }
    return crystal.with_columns(crystal={name: np.array([value]) for name, value in columns.items()})


@cache
def _aflow() -> list[tuple[str, Any]]:
    """Return names and structures of the ordered prototypes that pymatgen carries."""
    import pymatgen.analysis.prototypes
    from monty.serialization import loadfn
    from pymatgen.core import Structure

    folder = Path(pymatgen.analysis.prototypes.__file__).parent
    # As plain JSON: monty's decoder makes a StructureNL of each, with its history, which takes seconds
    entries = loadfn(folder / "aflow_prototypes.json.gz", cls=json.JSONDecoder)
    structures = [(entry["tags"]["aflow"], Structure.from_dict(entry["snl"])) for entry in entries]
    return [(name, structure) for name, structure in structures if structure.is_ordered]
