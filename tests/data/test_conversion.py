"""Between crystals and ``StructureData``."""

import numpy as np
import pytest

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.data.conversion import StructureData, crystal_of, structure_of

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_there_and_back(crystals):
    for crystal in crystals:
        structure = structure_of(crystal)
        back = crystal_of(structure)
        np.testing.assert_array_equal(back.numbers, crystal.numbers)
        np.testing.assert_allclose(back.lattices, crystal.lattices)
        np.testing.assert_allclose(back.fractional, crystal.fractional, atol=1e-12)
        assert structure.label == crystal.formulas[0]


def test_atoms_are_wrapped_into_the_cell(crystals):
    moved = crystals[0].replace(fractional=crystals[0].fractional + np.array([[3, -2, 1], [0, 0, -1]]))
    np.testing.assert_allclose(crystal_of(structure_of(moved)).fractional, crystals[0].fractional, atol=1e-12)


def test_what_is_not_one_crystal(crystals):
    with pytest.raises(ContentError, match="3 crystals where one is needed"):
        structure_of(crystals)
    with pytest.raises(ContentError, match="lie in a plane"):
        structure_of(crystals[0].replace(lattices=np.ones((1, 3, 3))))


def test_structures_that_are_no_ordered_crystals():
    alloy = StructureData(cell=np.eye(3) * 3)
    alloy.append_atom(position=(0, 0, 0), symbols=["Si", "C"], weights=[0.5, 0.5])
    with pytest.raises(ContentError, match="alloy"):
        crystal_of(alloy)
    slab = StructureData(cell=np.eye(3) * 3, pbc=(True, True, False))
    slab.append_atom(position=(0, 0, 0), symbols="Si")
    with pytest.raises(ContentError, match="not periodic"):
        crystal_of(slab)


def test_structures_that_are_no_crystals_are_refused_before_anything_runs():
    from aiida_dosmatgen.workflows.dos import validate_structure

    slab = StructureData(cell=np.eye(3) * 3, pbc=(True, True, False))
    slab.append_atom(position=(0, 0, 0), symbols="Si")
    alloy = StructureData(cell=np.eye(3) * 3)
    alloy.append_atom(position=(0, 0, 0), symbols=["Si", "Ge"], weights=[0.5, 0.5])
    assert validate_structure(slab, None) == "the structure cannot be used: the structure is not periodic in three dimensions"
    assert "is an alloy or has vacancies" in validate_structure(alloy, None)
    crystal = StructureData(cell=np.eye(3) * 3)
    crystal.append_atom(position=(0, 0, 0), symbols="Si")
    assert validate_structure(crystal, None) is None
