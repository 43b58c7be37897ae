"""The crystals that a model learnt from, as a checkpoint keeps them."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.engine.labelling.prototypes import generate

SILICON, CARBIDE = bulk("Si"), bulk("SiC", "zincblende", a=4.36)


def made(*atoms) -> CrystalSet:
    return CrystalSet.from_ase(list(atoms))


def test_a_crystal_is_known_whatever_its_cell_origin_and_volume():
    known = TrainingCrystals.of(made(SILICON, CARBIDE))
    moved = SILICON.repeat((2, 1, 1))
    moved.positions += 0.7
    swollen = CARBIDE.copy()
    swollen.set_cell(1.1 * swollen.cell, scale_atoms=True)
    other = made(bulk("SiC", "rocksalt", a=4.36), bulk("Ge"), bulk("Si", "sc", a=2.5))
    assert known.has(made(moved, swollen)).tolist() == [True, True]
    assert known.has(other).tolist() == [False, False, False]
    assert known.has(CrystalSet.concatenate([other, made(SILICON)]), [3, 0]).tolist() == [True, False]
    squeezed = made(SILICON)
    squeezed = squeezed.replace(lattices=np.zeros_like(squeezed.lattices))
    assert known.has(squeezed).tolist() == [False]


def test_bytes_are_those_that_are_stated_and_come_back():
    ternary = bulk("Si", cubic=True)
    ternary.symbols[:4] = "CCGe2"
    known = TrainingCrystals.of(made(SILICON, CARBIDE, CARBIDE.repeat(2), ternary))
    assert len(known) == 3
    content = known.to_bytes()
    assert len(content) == 1 + 2 + 6 + 29 + 61
    again = TrainingCrystals.from_bytes(content)
    assert again.to_bytes() == content and again.has(made(ternary, bulk("Ge"))).tolist() == [True, False]
    assert len(again | TrainingCrystals.of(made(bulk("Ge"), SILICON))) == 4
    with pytest.raises(ValueError, match="cut off"):
        TrainingCrystals.from_bytes(content[:-1])
    assert len(TrainingCrystals.from_bytes(b"")) == 0


def test_crystals_that_are_moved_a_little_are_known_and_others_are_not():
    crystals = generate(["Si", "C", "Ge"], 80, 3, max_atoms=6)
    one, other = crystals[np.arange(0, 80, 2)], crystals[np.arange(1, 80, 2)]
    known = TrainingCrystals.of(one)
    rng = np.random.default_rng(0)
    moved = one.replace(fractional=one.fractional + rng.normal(0, 0.001, one.fractional.shape))
    assert known.has(moved).all()
    foreign = other.replace(numbers=np.where(other.numbers == 14, 50, other.numbers))
    tin = [i for i in range(len(foreign)) if 50 in foreign[i].numbers]
    assert len(tin) > 10 and not known.has(foreign, tin).any()
