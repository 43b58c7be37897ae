"""The name of a structure: the same for other elements, cells, origins, volumes; for a displaced crystal that of its parent."""

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal as spacegroup_crystal

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.labelled.prototypes import UNKNOWN, prototype_of, prototypes_of

ZINCBLENDE = "AB-216-2"


def named(atoms):
    return prototype_of(CrystalSet.from_ase(atoms))


def half_heusler(symbols, sites=("000", "111", "222"), a=6.0):
    positions = {"000": (0, 0, 0), "111": (0.25,) * 3, "222": (0.5,) * 3, "333": (0.75,) * 3}
    return spacegroup_crystal(
        symbols, [positions[s] for s in sites], spacegroup=216, cellpar=[a, a, a, 90, 90, 90], primitive_cell=True
    )


def test_elements_cells_origins_and_volumes_do_not_matter():
    name = named(bulk("SiC", "zincblende", a=4.36))
    assert name.startswith(ZINCBLENDE)
    moved = bulk("GaAs", "zincblende", a=5.65, cubic=True).repeat((2, 1, 1))
    moved.positions += [0.3, 0.1, 0.7]
    moved.rotate(20, "x", rotate_cell=True)
    assert named(moved) == named(bulk("BN", "zincblende", a=9.0)) == name
    assert named(bulk("AsGa", "zincblende", a=5.65)) == name
    other = {named(bulk("NaCl", kind, a=5.0)) for kind in ("rocksalt", "cesiumchloride")}
    assert len(other) == 2 and name not in other
    assert named(bulk("Si")) not in {name, named(bulk("Cu")), named(bulk("Fe"))}


def test_elements_may_change_places():
    """In F-43m the four cubic sublattices are alike up to the choice of the origin."""
    ours = {named(half_heusler(symbols)) for symbols in (["Li", "Al", "Si"], ["Al", "Li", "Si"], ["Zr", "Ni", "Sn"])}
    ours |= {named(half_heusler(["Li", "Al", "Si"], sites)) for sites in (("111", "333", "000"), ("222", "333", "111"))}
    assert len(ours) == 1
    assert named(half_heusler(["Li", "Al", "Si", "Si"], ("000", "111", "222", "333"))) == named(
        half_heusler(["Li", "Al", "Si", "Li"], ("000", "222", "111", "333")[::-1])
    )


def test_a_displaced_crystal_goes_with_its_parent():
    ideal = CrystalSet.from_ase(
        [bulk("SiC", "zincblende", a=4.36), bulk("SiC", "rocksalt", a=4.0), bulk("GaN", "wurtzite", a=3.2)]
    )
    ideal = ideal.with_columns(crystal={"source": np.full(3, "here"), "id": np.array(["here", "here", "3"])})
    shaken = ideal.to_ase()
    for i, atoms in enumerate(shaken):
        atoms.rattle(0.03, seed=i)
    ids = np.array(["here displaced 0.05", "here displaced 0.10", "3 displaced 0.20"])
    displaced = CrystalSet.from_ase(shaken).with_columns(crystal={"source": np.full(3, "here"), "id": ids})
    assert prototypes_of(displaced, [ideal]) == prototypes_of(ideal)
    assert prototypes_of(displaced, [ideal.with_columns(crystal={"prototype": np.array(["a", "b", "c"])})]) == ["a", "b", "c"]
    assert prototypes_of(displaced) == [UNKNOWN] * 3  # nobody knows what they were made from
    assert prototypes_of(displaced.with_columns(crystal={"prototype": np.array(["x", "y", "z"])})) == ["x", "y", "z"]


@pytest.mark.parametrize("symprec", [0.0, 0.02])
def test_crystals_relaxed_by_others_are_symmetric_within_a_tenth(symprec):
    atoms = bulk("SiC", "zincblende", a=4.36)
    atoms.positions[1] += [symprec, 0, 0]
    assert named(atoms).startswith(ZINCBLENDE)
