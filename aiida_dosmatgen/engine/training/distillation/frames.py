"""Frames for a force field to learn from: crystals at rest and around it, and such as a generator of crystals makes.

======================  ============================================================================================
rest                    a crystal as it is
rattled                 atoms displaced by 0.02–0.3 Å, the cell strained a little
strained                any strain, of some per cent
scaled                  volume between 0.75 and 1.25 of what it was, the atoms displaced a little
substituted             a crystal with other elements, more often with similar ones, its volume that of their radii
soup                    random atoms at random places that do not lie on each other
close                   two atoms in a box, from a bond squeezed by a third to none
each                    crystal i modulo their number, as it is: for a set in which all of them are
======================  ============================================================================================

Frame i depends on the crystals, the parameters, the seed and i alone.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from ase import Atoms

from ....core.contacts import closest_contacts, covalent_radii
from ....core.crystals import CrystalSet
from ....core.elements import ATOMIC_NUMBERS, SYMBOLS, electronegativity
from ....core.job import FramesParameters
from ....core.labelled.reserved import digest_of
from ....core.labelled.splits import assign, systems_of
from ...labelling.distortions import displace, strain
from ...relaxation.repair import push_apart

_SMALLEST_CONTACT = {"soup": 0.75, "close": 0.62}
_OTHERS_CONTACT = 0.55
_LARGEST_VOLUME = 120.0  # Å³ an atom, but for atoms in a box
_SIMILAR = 0.5  # of Pauling's electronegativity
_ORIGIN = "row"  # what atoms call the crystal that they were made from


class Frames:
    """Makes frames by their number.

    :param crystals: at rest; those with more than ``max_atoms`` atoms are left out.
    :param digests: of chemical systems that never enter.
    """

    def __init__(
        self, crystals: CrystalSet, parameters: FramesParameters, seed: int, digests: Collection[str] = frozenset()
    ) -> None:
        self.parameters, self.seed, self.digests = parameters, seed, frozenset(digests)
        columns = crystals.crystal_columns
        named = {"source", "id"} <= columns.keys()
        source = columns["source"] if named else np.full(len(crystals), "crystals")
        names = columns["id"] if named else np.arange(len(crystals)).astype(str)
        small = crystals.replace(crystal_columns={"source": source, "id": names}, atom_columns={})
        small = small[np.flatnonzero(small.n_atoms <= parameters.max_atoms)]
        small = small[np.flatnonzero(self.admitted(small))]
        self.sources, self.ids = small.crystal_columns["source"], small.crystal_columns["id"]
        self.crystals = small.replace(crystal_columns={})
        present = np.unique(self.crystals.numbers)
        wanted = present if parameters.elements is None else np.array([ATOMIC_NUMBERS[s] for s in parameters.elements])
        self.elements = np.sort(wanted)
        self.weights = np.where(np.isin(self.elements, present), 1.0, parameters.rare)
        self.electronegativity = _electronegativity()
        counts = np.bincount(self.crystals.numbers, minlength=len(SYMBOLS))
        rarity = np.maximum.reduceat(1 / np.sqrt(counts[self.crystals.numbers]), self.crystals.offsets[:-1])
        self._chance = rarity / rarity.sum()
        shares = parameters.shares.model_dump()
        self.kinds, total = list(shares), sum(shares.values())
        self._shares = np.array(list(shares.values())) / total

    def admitted(self, crystals: CrystalSet) -> np.ndarray:
        """Say which crystals are of no system that is reserved or held out, shape (N,) bool."""
        reserved = np.array([digest_of(system) in self.digests for system in systems_of(crystals)], dtype=bool)
        if self.parameters.split is None:
            return ~reserved
        split = self.parameters.split
        return ~reserved & (assign(crystals, split.system_fraction, 0.0, split.seed, split.final_fraction) == "train")

    def make(self, numbers: range) -> CrystalSet:
        """Make frames, without those of systems that are held out.

        :return: with the columns ``kind`` and ``number``.
        """
        made = [(i, *self._frame(i)) for i in numbers]
        crystals = CrystalSet.from_ase([atoms for _, _, atoms in made])
        columns = {"kind": np.array([kind for _, kind, _ in made]), "number": np.array([i for i, _, _ in made])}
        return crystals.with_columns(crystal=columns)[np.flatnonzero(self.admitted(crystals))]

    def with_origin(self, frames: CrystalSet) -> CrystalSet:
        """Return frames with the columns ``source`` and ``id`` of the crystals that they were made from.

        Those of soups and pairs are ``frames`` and what they are; those of a set that does not name its crystals are
        ``crystals`` and the row.

        :param frames: with the column ``number``.
        """
        numbers, places = np.unique(frames.crystal_columns["number"], return_inverse=True)
        sources, ids = [], []
        for i in numbers.tolist():
            kind, atoms = self._frame(i)
            row = atoms.info.get(_ORIGIN)
            sources.append("frames" if row is None else str(self.sources[row]))
            ids.append(f"{kind} {i}" if row is None else str(self.ids[row]))
        return frames.with_columns(crystal={"source": np.array(sources)[places], "id": np.array(ids)[places]})

    def _frame(self, i: int) -> tuple[str, Atoms]:
        rng = np.random.default_rng([self.seed, i])
        kind = str(rng.choice(self.kinds, p=self._shares))
        while True:
            atoms = self._given(i % len(self.crystals)) if kind == "each" else getattr(self, f"_{kind}")(rng)
            if kind == "each":
                return "rest", atoms
            crystal = CrystalSet.from_ase(atoms)
            contact = float(closest_contacts(crystal)[0])
            apart = contact > _SMALLEST_CONTACT.get(kind, _OTHERS_CONTACT)
            if apart and (kind in ("close", "rest") or crystal.volumes[0] < _LARGEST_VOLUME * len(atoms)):
                return kind, atoms

    # --- kinds --------------------------------------------------------------------------------------------------------

    def _rest(self, rng: np.random.Generator) -> Atoms:
        return self._given(int(rng.choice(len(self.crystals), p=self._chance)))

    def _given(self, row: int) -> Atoms:
        atoms = self.crystals[row].to_ase()[0]
        atoms.info[_ORIGIN] = row
        return atoms

    def _rattled(self, rng: np.random.Generator) -> Atoms:
        atoms = self._rest(rng)
        strain(atoms, float(rng.uniform(0, 0.02)), rng)
        displace(atoms, float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))), rng)
        return atoms

    def _strained(self, rng: np.random.Generator) -> Atoms:
        atoms = self._rest(rng)
        strain(atoms, float(rng.uniform(0.01, 0.08)), rng)
        displace(atoms, float(rng.uniform(0, 0.05)), rng)
        return atoms

    def _scaled(self, rng: np.random.Generator) -> Atoms:
        atoms = self._rest(rng)
        _scale(atoms, float(rng.uniform(0.75, 1.25)))
        displace(atoms, float(rng.uniform(0, 0.05)), rng)
        return atoms

    def _substituted(self, rng: np.random.Generator) -> Atoms:
        atoms = self._rest(rng)
        before, numbers = _radii_volume(atoms.numbers), atoms.numbers.copy()
        present = np.unique(numbers)
        replaced = rng.permutation(present)[: int(rng.integers(1, len(present) + 1))]
        for z in replaced:
            distance = np.abs(self.electronegativity[self.elements] - self.electronegativity[z])
            chance = self.weights * (np.exp(-distance / _SIMILAR) + 0.1) * ~np.isin(self.elements, present)
            numbers[atoms.numbers == z] = rng.choice(self.elements, p=chance / chance.sum())
        atoms.numbers = numbers
        _scale(atoms, _radii_volume(numbers) / before * float(rng.uniform(0.85, 1.15)))
        displace(atoms, float(rng.uniform(0, 0.15)), rng)
        return atoms

    def _soup(self, rng: np.random.Generator) -> Atoms:
        n = int(rng.integers(2, min(8, self.parameters.max_atoms) + 1))
        most = min(n, len(self.elements), int(rng.integers(1, 5)))
        elements = rng.choice(self.elements, most, replace=False, p=self.weights / self.weights.sum())
        numbers = rng.choice(elements, n)
        volume = _radii_volume(numbers) * float(rng.uniform(1.6, 4.5))
        while True:
            lengths, cosines = rng.uniform(0.6, 1.6, 3), rng.uniform(-0.4, 0.5, 3)
            angles = np.degrees(np.arccos(cosines))
            try:
                atoms = Atoms(numbers, cell=[*lengths, *angles], pbc=True)
            except (AssertionError, ValueError):  # no such cell
                continue
            if atoms.cell.volume > 0.3:
                break
        atoms.set_cell(atoms.cell.array * (volume / atoms.cell.volume) ** (1 / 3))
        atoms.set_scaled_positions(rng.random((n, 3)))
        return _pushed(atoms)

    def _close(self, rng: np.random.Generator) -> Atoms:
        numbers = rng.choice(self.elements, 2, p=self.weights / self.weights.sum())
        length = float(covalent_radii(numbers).sum() * rng.uniform(0.65, 1.6))
        direction = rng.normal(size=3)
        box = float(rng.uniform(5.5, 8.0)) + length / 2
        positions = np.stack([np.zeros(3), length * direction / np.linalg.norm(direction)])
        return Atoms(numbers, positions=positions, cell=[box] * 3, pbc=True)


def _scale(atoms: Atoms, factor: float) -> None:
    atoms.set_cell(atoms.cell.array * factor ** (1 / 3), scale_atoms=True)


def _radii_volume(numbers: np.ndarray) -> float:
    """Volume in Å³ of spheres with the covalent radii."""
    return float((4 / 3 * np.pi * covalent_radii(numbers) ** 3).sum())


def _pushed(atoms: Atoms) -> Atoms:
    pushed = push_apart(CrystalSet.from_ase(atoms))
    return atoms if pushed is None else pushed.to_ase()[0]


def _electronegativity() -> np.ndarray:
    """Return Pauling's electronegativity by atomic number; 2 where there is none."""
    return np.array([2.0] + [electronegativity(z, 2.0) for z in range(1, len(SYMBOLS))])
