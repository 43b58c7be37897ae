import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.fingerprints import fingerprints
from aiida_dosmatgen.core.screening.matching import (
    Equality,
    composition_of,
    duplicates,
    known_as,
    reduced_composition,
    representatives,
)


def test_duplicates_see_through_cells_and_supercells():
    primitive = bulk("GaAs", "zincblende", 5.65)
    cubic = bulk("GaAs", "zincblende", 5.65, cubic=True)
    skew = make_supercell(primitive, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    other = bulk("GaAs", "rocksalt", 5.0)
    swapped = bulk("AsGa", "zincblende", 5.65)
    larger = bulk("GaAs", "zincblende", 6.6)
    crystals = CrystalSet.from_ase([primitive, cubic, other, skew, swapped, larger])
    assert sorted(duplicates(crystals, [0, 1, 2, 3, 4, 5])) == [1, 3, 4]
    assert sorted(duplicates(crystals, [3, 2, 0])) == [0]


def test_known_crystals_are_found_at_any_volume_and_in_any_cell():
    primitive = bulk("GaAs", "zincblende", 5.65)
    strained = bulk("GaAs", "zincblende", 5.2, cubic=True)
    crystals = CrystalSet.from_ase([strained, bulk("GaAs", "rocksalt", 5.0), bulk("InAs", "zincblende", 6.0)])
    known = CrystalSet.from_ase([bulk("Si"), primitive, primitive])
    assert known_as(crystals, [0, 1, 2], known) == {0: 1}
    assert known_as(crystals, [1, 2], known) == {}


def test_compositions_are_reduced():
    assert composition_of(np.array([33, 31, 33, 31])) == reduced_composition("GaAs") == ((31, 1), (33, 1))
    assert reduced_composition("O4Si2") == ((8, 2), (14, 1))


def displaced(atoms: Atoms, rng: np.random.Generator, by: float, strain: float) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(copy.cell.array @ (np.eye(3) + rng.normal(0, strain, (3, 3))), scale_atoms=True)
    copy.positions += rng.normal(0, by, copy.positions.shape)
    return copy


@pytest.fixture(scope="module")
def diverse() -> CrystalSet:
    """500 crystals of few compositions: prototypes with other elements, copies in other cells, distorted ones, random ones."""
    rng = np.random.default_rng(5)
    prototypes = [
        bulk(formula, structure, a, **more)
        for formula, a in (("GaAs", 5.6), ("SiC", 4.4), ("CSi", 4.5), ("GaP", 5.4))
        for structure, more in (
            ("zincblende", {}),
            ("rocksalt", {"cubic": True}),
            ("cesiumchloride", {}),
            ("wurtzite", {"c": 1.63 * a / 2**0.5}),
        )
    ]
    prototypes = [make_supercell(p, np.diag([2 if len(p) < 8 else 1, 1, 1])) for p in prototypes]
    copies = []
    for atoms in itertools.islice(itertools.cycle(prototypes), 350):
        turned = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]) if rng.random() < 0.5 else atoms.copy()
        turned.rotate(rng.uniform(0, 180), rng.normal(size=3), rotate_cell=True)
        copies.append(displaced(turned, rng, *rng.choice([(0, 0), (0.03, 0.005), (0.1, 0.02), (0.3, 0.05)])))
    cells = [np.eye(3) * 5.4 + rng.normal(0, 0.4, (3, 3)) for _ in range(100)]
    free = [Atoms("Ga4As4", scaled_positions=rng.random((8, 3)), cell=cell, pbc=True) for cell in cells]
    again = [displaced(free[k], rng, 0.02, 0.002) for k in rng.integers(0, 100, 50)]
    every = [*copies, *free, *again]
    crystals = CrystalSet.from_ase([every[k] for k in rng.permutation(len(every))])
    energies = rng.choice([-4.0, -4.01, -4.02, -4.1, np.nan], len(crystals), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    return crystals.with_columns(crystal={"energy": energies * crystals.n_atoms})


def test_representatives_are_those_of_all_pairs_in_whatever_order_the_rows_come(diverse):
    n = len(diverse)
    assert n == 500
    ranked = np.random.default_rng(0).permutation(n).tolist()
    found = representatives(diverse, ranked)
    equality = Equality(diverse, ranked)
    kept: dict = {}
    expected = {}
    for i in ranked:
        same = kept.setdefault(composition_of(diverse[i].numbers), [])
        expected[i] = next((j for j in same if equality.equal(j, i)), i)
        if expected[i] == i:
            same.append(i)
    assert found == expected
    assert 50 < sum(row == first for row, first in found.items()) < 450
    rows = np.random.default_rng(1).permutation(n)
    place = np.argsort(rows)  # of each crystal in the shuffled set
    shuffled = representatives(diverse[rows], place[ranked].tolist())
    assert {int(rows[i]): int(rows[j]) for i, j in shuffled.items()} == found


def test_equality_is_symmetric(diverse):
    first = representatives(diverse, range(100))
    pairs = [(i, j) for i, j in first.items() if i != j][:20]
    equality = Equality(diverse, sorted({i for pair in pairs for i in pair}))
    assert len(pairs) == 20
    assert all(equality.equal(i, j) and equality.equal(j, i) for i, j in pairs)


def test_energies_decide_where_the_geometry_does_not():
    same = CrystalSet.from_ase([bulk("GaAs", "zincblende", a) for a in (5.65, 5.66, 5.67)])
    for energies, expected in (((-8.0, -8.04, -8.3), [1]), ((-8.0, np.nan, -8.3), [1]), ((np.nan,) * 3, [1, 2])):
        assert duplicates(same.with_columns(crystal={"energy": np.array(energies)}), [0, 1, 2]) == expected


def test_fingerprints_know_no_cells_and_move_less_than_the_atoms():
    rng = np.random.default_rng(2)
    flat = Atoms("GaAs2", scaled_positions=rng.random((3, 3)), cell=[[3, 0, 0], [0.3, 3.2, 0], [0.2, 0.1, 14]], pbc=True)
    basis = make_supercell(flat, [[1, 2, 0], [0, 1, 0], [-1, 3, 1]])
    double = make_supercell(flat, np.diag([1, 2, 1]))
    larger = flat.copy()
    larger.set_cell(1.2 * flat.cell.array, scale_atoms=True)
    near = flat.copy()
    near.positions += 0.02 * (lambda x: x / np.linalg.norm(x, axis=1)[:, None])(rng.normal(size=(3, 3)))
    crystals = CrystalSet.from_ase([flat, basis, double, larger, near])
    one, *others, moved = fingerprints(crystals, np.arange(5))
    assert len(one) == 4 * 6
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-9)
    unit = (crystals.volumes[0] / 3) ** (1 / 3)
    assert 0 < np.abs(moved - one).max() <= 2 * 0.02 / unit + 1e-12
    # Ga and its images along the shortest vectors, twice each
    lengths = np.linalg.norm([flat.cell[0], flat.cell[1], flat.cell[0] - flat.cell[1]], axis=1)
    np.testing.assert_allclose(one[:6] * unit, np.repeat(np.sort(lengths), 2), atol=1e-9)
