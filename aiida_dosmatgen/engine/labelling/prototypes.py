"""Crystals made from prototypes: the raw material of a training set.

Each crystal is a prototype filled with random elements, scaled so that its closest atoms touch, then strained and displaced
(:mod:`.distortions`), with or without keeping some of its symmetry; a few have a vacancy or a foreign atom.
Crystal i is a function of (elements, seed, i) alone.
"""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.spacegroup import crystal as spacegroup_crystal

from ...core.crystals import CrystalSet
from ...core.elements import atomic_number
from ...core.labelled.splits import VACANCY
from .distortions import displace, distort_within_subgroup, remove_atom, strain


class Prototype(NamedTuple):
    """A structure type: slots on Wyckoff positions of a space group.

    ``cell`` is (b/a, c/a) or (b/a, c/a, α, β, γ); ``contact`` is the shortest distance over the sum of covalent radii.
    """

    name: str
    sites: str
    positions: tuple[tuple[float, float, float], ...]
    spacegroup: int
    cell: tuple[float, ...] = (1.0, 1.0)
    contact: float = 1.0
    weight: float = 1.0


_T = 1 / 3
PROTOTYPES = (
    # elements
    Prototype("diamond", "A", ((0, 0, 0),), 227, weight=4),
    Prototype("fcc", "A", ((0, 0, 0),), 225, contact=1.15),
    Prototype("bcc", "A", ((0, 0, 0),), 229, contact=1.12),
    Prototype("simple cubic", "A", ((0, 0, 0),), 221, contact=1.07),
    Prototype("hcp", "A", ((_T, 2 * _T, 0.25),), 194, (1, 1.633), 1.15),
    Prototype("lonsdaleite", "A", ((_T, 2 * _T, 0.0625),), 194, (1, 1.633), weight=1.5),
    Prototype("graphite", "AA", ((0, 0, 0.25), (_T, 2 * _T, 0.25)), 194, (1, 2.72), 0.95),
    Prototype("A7", "A", ((0, 0, 0.227),), 166, (1, 2.8), 1.05, 1.5),
    Prototype("beta-tin", "A", ((0, 0, 0),), 141, (1, 0.5456), 1.05),
    Prototype("simple hexagonal", "A", ((0, 0, 0),), 191, (1, 0.94), 1.1),
    Prototype("bc8", "A", ((0.1, 0.1, 0.1),), 206),
    Prototype("alpha-gallium", "A", ((0, 0.1549, 0.081),), 64, (1.695, 1.0), 1.02),
    Prototype("black phosphorus", "A", ((0, 0.1017, 0.0806),), 64, (3.162, 1.321)),
    # AB
    Prototype("zincblende", "AB", ((0, 0, 0), (0.25, 0.25, 0.25)), 216, weight=10),
    Prototype("wurtzite", "AB", ((_T, 2 * _T, 0), (_T, 2 * _T, 0.375)), 186, (1, 1.633), weight=4),
    Prototype("rocksalt", "AB", ((0, 0, 0), (0.5, 0.5, 0.5)), 225, contact=1.07, weight=3),
    Prototype("caesium chloride", "AB", ((0, 0, 0), (0.5, 0.5, 0.5)), 221, contact=1.12),
    Prototype("nickel arsenide", "AB", ((0, 0, 0), (_T, 2 * _T, 0.25)), 194, (1, 1.4), 1.07),
    Prototype("tungsten carbide", "AB", ((0, 0, 0), (_T, 2 * _T, 0.5)), 187, (1, 0.976), 1.05),
    Prototype("hexagonal boron nitride", "AB", ((_T, 2 * _T, 0.25), (_T, 2 * _T, 0.75)), 194, (1, 2.66), 0.95, 1.5),
    Prototype("L1_0", "AB", ((0, 0, 0), (0.5, 0.5, 0.5)), 123, (1, 1.3), 1.1),
    Prototype("litharge", "AB", ((0, 0, 0), (0, 0.5, 0.235)), 129, (1, 1.26), 1.03),
    Prototype("cooperite", "AB", ((0, 0.5, 0), (0, 0, 0.25)), 131, (1, 1.76)),
    Prototype("FeSi", "AB", ((0.137, 0.137, 0.137), (0.842, 0.842, 0.842)), 198, contact=1.03),
    Prototype("CrB", "AB", ((0, 0.146, 0.25), (0, 0.44, 0.25)), 63, (2.65, 0.99), 1.03),
    Prototype("FeB", "AB", ((0.18, 0.25, 0.12), (0.03, 0.25, 0.61)), 62, (0.545, 0.74), 1.03),
    Prototype("NbO", "AB", ((0, 0.5, 0.5), (0.5, 0, 0)), 221, contact=1.03),
    Prototype("gallium selenide", "AB", ((_T, 2 * _T, 0.173), (_T, 2 * _T, 0.602)), 194, (1, 4.26)),
    Prototype("GeS", "AB", ((0.12, 0.25, 0.12), (0.85, 0.25, 0.48)), 62, (0.35, 0.41)),
    # AB2
    Prototype("fluorite", "AB", ((0, 0, 0), (0.25, 0.25, 0.25)), 225, contact=1.08, weight=1.5),
    Prototype("cadmium iodide", "AB", ((0, 0, 0), (_T, 2 * _T, 0.25)), 164, (1, 1.6), 1.05),
    Prototype("rutile", "AB", ((0, 0, 0), (0.305, 0.305, 0)), 136, (1, 0.65), 1.05, 1.5),
    Prototype("cristobalite", "AB", ((0, 0, 0), (0.125, 0.125, 0.125)), 227, weight=1.5),
    Prototype("beta-cristobalite I-42d", "AB", ((0, 0, 0), (0.09, 0.25, 0.125)), 122, (1, 1.39), weight=1.5),
    Prototype("aluminium diboride", "AB", ((0, 0, 0), (_T, 2 * _T, 0.5)), 191, (1, 1.08)),
    Prototype("molybdenite", "AB", ((_T, 2 * _T, 0.25), (_T, 2 * _T, 0.62)), 194, (1, 3.9)),
    Prototype("cuprite", "AB", ((0, 0, 0), (0.25, 0.25, 0.25)), 224),
    Prototype("MoSi2", "AB", ((0, 0, 0), (0, 0, 0.333)), 139, (1, 2.45), 1.08),
    Prototype("marcasite", "AB", ((0, 0, 0), (0.2, 0.378, 0)), 58, (1.22, 0.763), 1.03),
    Prototype("cadmium chloride", "AB", ((0, 0, 0), (0, 0, 0.25)), 166, (1, 4.6), 1.05),
    Prototype("anatase", "AB", ((0, 0, 0), (0, 0, 0.208)), 141, (1, 2.51), 1.05),
    Prototype("pyrite", "AB", ((0, 0, 0), (0.385, 0.385, 0.385)), 205, contact=1.03),
    Prototype("carbon dioxide", "AB", ((0, 0, 0), (0.118, 0.118, 0.118)), 205, contact=0.95),
    Prototype("quartz", "AB", ((0.4697, 0, 2 * _T), (0.4135, 0.2669, 0.7858)), 154, (1, 1.1)),
    Prototype("tridymite", "ABB", ((_T, 2 * _T, 0.062), (_T, 2 * _T, 0.25), (0.5, 0, 0)), 194, (1, 1.64)),
    Prototype("SiS2", "AB", ((0, 0, 0.25), (0.1185, 0.2088, 0)), 72, (0.587, 0.58)),
    Prototype("calcium carbide", "AB", ((0, 0, 0), (0, 0, 0.4)), 139, (1, 1.64), 1.05),
    Prototype("thorium silicide", "AB", ((0, 0, 0), (0, 0, 0.416)), 141, (1, 3.4), 1.05),
    Prototype("Ni2In", "ABA", ((0, 0, 0), (_T, 2 * _T, 0.25), (_T, 2 * _T, 0.75)), 194, (1, 1.25), 1.08),
    # AB3, A2B3, A3B4, AB4, AB6
    Prototype("L1_2", "AB", ((0, 0, 0), (0, 0.5, 0.5)), 221, contact=1.12, weight=1.5),
    Prototype("ReO3", "AB", ((0, 0, 0), (0.5, 0, 0)), 221),
    Prototype("D0_3", "ABB", ((0, 0, 0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5)), 225, contact=1.1),
    Prototype("D0_22", "ABB", ((0, 0, 0), (0, 0, 0.5), (0, 0.5, 0.25)), 139, (1, 2.0), 1.12),
    Prototype("D0_19", "AB", ((_T, 2 * _T, 0.25), (5 / 6, 2 * _T, 0.25)), 194, (1, 0.8), 1.12, 0.7),
    Prototype("La2O3", "ABB", ((_T, 2 * _T, 0.245), (0, 0, 0), (_T, 2 * _T, 0.645)), 164, (1, 1.55), weight=1.5),
    Prototype("pseudocubic C3N4", "AB", ((0, 0.5, 0.5), (0.25, 0.25, 0.25)), 215, weight=1.5),
    Prototype("A15", "AB", ((0, 0, 0), (0.25, 0, 0.5)), 223, contact=1.1),
    Prototype("tetradymite", "ABB", ((0, 0, 0.4), (0, 0, 0), (0, 0, 0.21)), 166, (1, 6.9), 1.03),
    Prototype("corundum", "AB", ((0, 0, 0.352), (0.306, 0, 0.25)), 167, (1, 2.73), 1.03),
    Prototype("CoSn", "ABB", ((0.5, 0, 0), (0, 0, 0), (_T, 2 * _T, 0.5)), 191, (1, 0.8), 1.05),
    Prototype("Fe4N", "ABA", ((0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)), 221, contact=1.05),
    Prototype("Ni4Mo", "AB", ((0, 0, 0), (0.4, 0.2, 0)), 87, (1, 0.62), 1.1),
    Prototype("CaB6", "AB", ((0, 0, 0), (0.2, 0.5, 0.5)), 221),
    # three and four elements
    Prototype("half-Heusler", "ABC", ((0, 0, 0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5)), 216, contact=1.05),
    Prototype("LiGaGe", "ABC", ((0, 0, 0.25), (_T, 2 * _T, 0.46), (_T, 2 * _T, 0.84)), 186, (1, 1.6), 1.02, 0.7),
    Prototype("chalcopyrite", "ABC", ((0, 0, 0), (0, 0, 0.5), (0.25, 0.25, 0.125)), 122, (1, 2.0), weight=2.5),
    Prototype("ordered zincblende", "ABC", ((0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25)), 115, (1, 1.4142), weight=3),
    Prototype("delafossite", "ABC", ((0, 0, 0), (0, 0, 0.5), (0, 0, 0.11)), 166, (1, 5.7)),
    Prototype("NaFeO2", "ABC", ((0, 0, 0), (0, 0, 0.5), (0, 0, 0.24)), 166, (1, 4.9), 1.05),
    Prototype("perovskite", "ABC", ((0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)), 221, contact=1.03, weight=1.5),
    Prototype("matlockite", "ABC", ((0, 0, 0), (0, 0.5, 0.2), (0, 0.5, 0.65)), 129, (1, 1.75), 1.05),
    Prototype("ZrBeSi", "ABC", ((0, 0, 0), (_T, 2 * _T, 0.25), (_T, 2 * _T, 0.75)), 194, (1, 1.7), 1.03),
    Prototype("famatinite", "ABAC", ((0, 0.5, 0.25), (0, 0, 0), (0, 0, 0.5), (0.25, 0.25, 0.125)), 121, (1, 2.0)),
    Prototype("thiogallate", "ABBC", ((0, 0, 0), (0, 0, 0.5), (0, 0.5, 0.25), (0.27, 0.26, 0.14)), 82, (1, 1.85)),
    Prototype("calcite", "ABC", ((0, 0, 0), (0, 0, 0.25), (0.2578, 0, 0.25)), 167, (1, 3.42)),
    Prototype("ilmenite", "ABC", ((0, 0, 0.355), (0, 0, 0.146), (0.317, 0.023, 0.245)), 148, (1, 2.77), 1.03),
    Prototype("BaNiO3", "ABC", ((_T, 2 * _T, 0.75), (0, 0, 0), (0.15, 0.3, 0.25)), 194, (1, 0.85), 1.03),
    Prototype("full Heusler", "ABC", ((0.25, 0.25, 0.25), (0, 0, 0), (0.5, 0.5, 0.5)), 225, contact=1.08),
    Prototype(
        "quaternary Heusler",
        "ABCD",
        ((0, 0, 0), (0.25,) * 3, (0.5,) * 3, (0.75,) * 3),
        216,
        contact=1.05,
        weight=0.7,
    ),
)

_MOLECULES = {"H": 0.75, "N": 1.10, "O": 1.23}  # bond lengths in Å of elements that are molecules
_MOLECULE_BOX = 6.0  # Å
_ALPHA_BORON = (
    (0.1188, 0.2376, 0.8912),
    (0.1965, 0.3930, 0.0243),
)  # R-3m, a = 4.908 Å, c = 12.567 Å; 12 atoms


def build(prototype: Prototype, elements: list[str]) -> Atoms:
    """Fill a prototype with elements (one for each slot letter) and scale it until its closest atoms touch.

    :return: the primitive cell.
    """
    slots = dict(zip(sorted(set(prototype.sites)), elements, strict=True))
    ratios = prototype.cell if len(prototype.cell) == 5 else (*prototype.cell, *_angles(prototype.spacegroup))
    atoms = spacegroup_crystal(
        [slots[s] for s in prototype.sites],
        [tuple(p) for p in prototype.positions],
        spacegroup=prototype.spacegroup,
        cellpar=[5.0, 5.0 * ratios[0], 5.0 * ratios[1], *ratios[2:]],
        primitive_cell=True,
        onduplicates="error",
    )
    atoms = Atoms(atoms.numbers, cell=atoms.cell, scaled_positions=atoms.get_scaled_positions(), pbc=True)
    atoms.set_cell(atoms.cell * (prototype.contact / closest_contact(atoms)), scale_atoms=True)
    return atoms


def closest_contact(atoms: Atoms) -> float:
    """Return the smallest distance of two atoms (images included) over the sum of their covalent radii."""
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ atoms.cell.array
    positions, radii = atoms.positions, covalent_radii[atoms.numbers]
    d = np.linalg.norm(positions[:, None, None] - positions[None, :, None] + shifts, axis=-1)
    d[d < 1e-8] = np.inf
    return float((d.min(-1) / (radii[:, None] + radii[None])).min())


def elemental(symbol: str) -> list[Atoms]:
    """Return the prototypes of an element, among them its ground state for the elements of the shipped data set."""
    structures = [build(p, [symbol]) for p in PROTOTYPES if set(p.sites) == {"A"}]
    if symbol in _MOLECULES:
        half = _MOLECULES[symbol] / (2 * _MOLECULE_BOX) / np.sqrt(3)
        structures.append(Atoms([symbol] * 2, scaled_positions=[[-half] * 3, [half] * 3], cell=[_MOLECULE_BOX] * 3, pbc=True))
    if symbol == "B":
        cell = spacegroup_crystal(
            ["B", "B"],
            list(_ALPHA_BORON),
            spacegroup=166,
            cellpar=[4.908, 4.908, 12.567, 90, 90, 120],
            primitive_cell=True,
        )
        structures.append(Atoms(cell.numbers, cell=cell.cell, scaled_positions=cell.get_scaled_positions(), pbc=True))
    return structures


def generate(elements: list[str], count: int, seed: int, max_atoms: int = 8) -> CrystalSet:
    """Make ``count`` strained, displaced and sometimes substituted prototype crystals.

    The first ones are each element's prototypes unstrained; the rest are random.

    :return: crystals with the text column ``prototype``.
    """
    for symbol in elements:
        atomic_number(symbol)
    ground = [(a, "elemental") for symbol in elements for a in elemental(symbol)]
    chosen = ground[:count] + [
        _random(elements, np.random.default_rng([seed, i]), max_atoms) for i in range(len(ground), count)
    ]
    crystals = CrystalSet.from_ase([atoms for atoms, _ in chosen])
    return crystals.with_columns(crystal={"prototype": np.array([name for _, name in chosen])})


def _random(elements: list[str], rng: np.random.Generator, max_atoms: int) -> tuple[Atoms, str]:
    weights = np.array([p.weight for p in PROTOTYPES])
    while True:
        prototype = PROTOTYPES[rng.choice(len(PROTOTYPES), p=weights / weights.sum())]
        n_slots = len(set(prototype.sites))
        if n_slots > len(elements):
            continue
        atoms, name = build(prototype, list(rng.choice(elements, n_slots, replace=False))), prototype.name
        if 2 * len(atoms) <= max_atoms and rng.random() < 0.15:
            repeat = [1, 1, 1]
            repeat[rng.integers(3)] = 2
            atoms = atoms.repeat(repeat)
            atoms.symbols[rng.integers(len(atoms))] = rng.choice(elements)
        if len(atoms) > 2 and rng.random() < 0.08:
            remove_atom(atoms, rng)
            name += VACANCY
        if len(atoms) > max_atoms:
            continue
        if rng.random() < 0.5:
            distort_within_subgroup(atoms, rng.uniform(0, 0.3), rng.uniform(0, 0.08), rng)
        else:
            if rng.random() < 0.6:
                strain(atoms, 0.04, rng)
            if rng.random() < 0.6:
                displace(atoms, rng.uniform(0.02, 0.15), rng)
        atoms.set_cell(atoms.cell.array * rng.uniform(0.86, 1.22) ** (1 / 3), scale_atoms=True)
        if closest_contact(atoms) > 0.75 and atoms.cell.volume / len(atoms) < 60:
            return atoms, name


def _angles(spacegroup: int) -> tuple[float, float, float]:
    return (90.0, 90.0, 120.0) if 143 <= spacegroup <= 194 else (90.0, 90.0, 90.0)
