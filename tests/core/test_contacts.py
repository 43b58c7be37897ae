import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from aiida_dosmatgen.core.contacts import closest_contacts, reduce_lattices, valid_crystals
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import COVALENT_RADII


def test_radii_are_those_of_ase():
    from ase.data import covalent_radii

    np.testing.assert_allclose(COVALENT_RADII, covalent_radii[: len(COVALENT_RADII)])


def test_known_contacts(crystals):
    found = closest_contacts(crystals[:2])
    assert found == pytest.approx([5.43 * np.sqrt(3) / 4 / 2.22, 4.36 * np.sqrt(3) / 4 / (1.11 + 0.76)])


def test_an_atom_meets_its_own_images():
    assert closest_contacts(CrystalSet([1], [14], [[0.3, 0.9, 0.1]], [np.diag([9.0, 2.22, 9.0])])) == pytest.approx([1.0])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_contacts_do_not_depend_on_the_basis(seed):
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(2, 6, 3)) + rng.normal(0, 1, (3, 3))
    if abs(np.linalg.det(lattice)) < 5:
        lattice = np.diag([3.0, 4.0, 5.0])
    fractional, numbers = rng.random((5, 3)), rng.choice([6, 14, 31], 5)
    turn = np.array([[1, 0, 0], [int(rng.integers(-9, 9)), 1, 0], [int(rng.integers(-9, 9)), int(rng.integers(-9, 9)), 1]])
    skew = turn @ lattice
    moved = fractional @ lattice @ np.linalg.inv(skew) + rng.integers(-3, 3, (5, 3))
    pair = CrystalSet([5, 5], np.tile(numbers, 2), np.concatenate([fractional, moved]), np.stack([lattice, skew]))
    a, b = closest_contacts(pair)
    assert a == pytest.approx(b, rel=1e-8)
    assert abs(np.linalg.det(reduce_lattices(skew[None])[0])) == pytest.approx(abs(np.linalg.det(lattice)))


def test_garbage_has_no_contacts(crystals):
    fractional = crystals.fractional.copy()
    fractional[0] = np.nan
    numbers = crystals.numbers.copy()
    numbers[2] = 0
    bad = crystals.replace(fractional=fractional, numbers=numbers)
    assert valid_crystals(bad).tolist() == [False, False, True]
    assert np.isnan(closest_contacts(bad)).tolist() == [True, True, False]
    assert not valid_crystals(crystals.replace(lattices=crystals.lattices * np.array([1, 1, 0])[None, :, None])).any()
    assert not valid_crystals(crystals.replace(lattices=np.full((3, 3, 3), np.inf))).any()
