import numpy as np
from ase.build import bulk, make_supercell

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.matching import composition_of, duplicates, known_as, reduced_composition


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
