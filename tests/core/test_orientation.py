"""Crystals are turned and shifted so that pw.x sees their symmetry, and nothing else about them changes."""

import numpy as np
import pytest
import spglib
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.orientation import oriented

BULK = {
    "diamond": bulk("Si"),
    "hexagonal": bulk("Mg"),
    "tetragonal": bulk("In", "bct", a=3.2, c=4.9),
    "rhombohedral": bulk("As", "rhombohedral", a=4.1, alpha=54),
}


def turned(atoms, angle, axis):
    atoms = atoms.copy()
    atoms.rotate(angle, axis, rotate_cell=True)
    return CrystalSet.from_ase([atoms])


@pytest.mark.parametrize("name", BULK)
@settings(max_examples=20, deadline=None)
@given(angle=st.floats(1, 179), axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_axes_are_those_of_the_standard_setting(name, angle, axis):
    given_ = turned(BULK[name], angle, axis)
    crystal = oriented(given_)
    np.testing.assert_allclose(crystal.lattices @ crystal.lattices.mT, given_.lattices @ given_.lattices.mT, atol=1e-9)
    np.testing.assert_array_equal(crystal.fractional, given_.fractional)
    assert np.linalg.det(crystal.lattices[0]) == pytest.approx(np.linalg.det(given_.lattices[0]))
    rotations = spglib.get_symmetry((crystal.lattices[0], crystal.fractional, crystal.numbers), symprec=1e-3)["rotations"]
    cartesian = crystal.lattices[0].T @ rotations @ np.linalg.inv(crystal.lattices[0].T)
    known = np.array([0, 0.5, np.sqrt(0.75), 1])
    assert np.abs(np.abs(cartesian)[..., None] - known).min(-1).max() < 1e-6  # of cubes and hexagons along the axes
    assert oriented(crystal) is crystal


@pytest.mark.parametrize("name", BULK)
def test_the_origin_is_that_of_the_standard_setting(name):
    """Whatever translations are left are parts of the cell that a grid of points can have."""
    given_ = turned(BULK[name], 0, (1, 0, 0))
    moved = given_.replace(fractional=given_.fractional + np.array([0.123, 0.456, 0.789]))
    crystal = oriented(moved)
    differences = crystal.fractional[1:] - crystal.fractional[:1]
    np.testing.assert_allclose(differences, given_.fractional[1:] - given_.fractional[:1], atol=1e-9)
    translations = {}
    for which in (moved, crystal):
        found = spglib.get_symmetry((which.lattices[0], which.fractional, which.numbers), symprec=1e-3)
        parts = found["translations"] * 24
        translations[which is crystal] = np.abs(parts - np.round(parts)).max()
    assert translations[True] < 1e-6 < 0.01 < translations[False]
    assert oriented(crystal) is crystal


def test_rounded_positions_are_shifted_once():
    atoms = bulk("Mg")
    atoms.set_scaled_positions(np.round(atoms.get_scaled_positions(), 5))
    crystal = oriented(CrystalSet.from_ase([atoms]))
    assert oriented(crystal) is crystal


def test_a_crystal_without_rotations_stays():
    atoms = bulk("Si").repeat((2, 1, 1))
    atoms.rattle(0.1, seed=1)
    crystal = turned(atoms, 20, (1, 1, 0))
    assert oriented(crystal) is crystal
    assert oriented(CrystalSet.from_ase([bulk("Si")])).lattices[0] == pytest.approx(bulk("Si").cell.array)
