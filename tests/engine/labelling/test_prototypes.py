"""Crystals made from prototypes."""

import numpy as np
import pytest
import spglib

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.splits import VACANCY
from aiida_dosmatgen.engine.labelling.prototypes import PROTOTYPES, build, closest_contact, elemental, generate

FILLING = ["Si", "C", "O", "N"]


@pytest.mark.parametrize("prototype", PROTOTYPES, ids=lambda prototype: prototype.name)
def test_each_prototype_has_its_space_group_and_touching_atoms(prototype):
    atoms = build(prototype, FILLING[: len(set(prototype.sites))])
    assert closest_contact(atoms) == pytest.approx(prototype.contact)
    dataset = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4)
    assert dataset.number == prototype.spacegroup
    assert len(dataset.std_types) % len(atoms) == 0


def test_the_diamond_of_silicon():
    diamond = next(p for p in PROTOTYPES if p.name == "diamond")
    atoms = build(diamond, ["Si"])
    assert len(atoms) == 2
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(2 * 1.11)


def test_crystals_are_valid_and_reasonable():
    crystals = generate(["B", "C", "N", "Si"], 150, seed=7).check()
    assert len(crystals) == 150
    assert set(crystals.numbers) == {5, 6, 7, 14}
    assert len(set(crystals.crystal_columns["prototype"])) > 20
    strained = crystals[crystals.crystal_columns["prototype"] != "elemental"]
    assert strained.n_atoms.max() <= 8
    assert (strained.volumes / strained.n_atoms).max() < 60
    assert min(closest_contact(atoms) for atoms in strained.to_ase()) > 0.75
    assert len({c.fractional.tobytes() + c.lattices.tobytes() for c in strained}) == len(strained)


def test_a_crystal_depends_on_elements_seed_and_index_alone():
    few, many = (generate(["Si", "C"], n, seed=1) for n in (30, 40))
    assert many[:30] == few
    assert generate(["Si", "C"], 40, seed=2)[-5:] != many[-5:]


def test_some_crystals_have_a_vacancy_and_some_keep_symmetry_off_equilibrium():
    crystals = generate(["B", "C", "N", "Si"], 400, seed=7, max_atoms=12)
    names = crystals.crystal_columns["prototype"]
    vacancies = crystals[np.char.endswith(names, VACANCY)]
    assert 5 < len(vacancies) < 60
    sizes = {p.name: len(build(p, FILLING[: len(set(p.sites))])) for p in PROTOTYPES}
    for crystal in vacancies:
        size = sizes[crystal.crystal_columns["prototype"][0].removesuffix(VACANCY)]
        assert crystal.n_atoms[0] in (size - 1, 2 * size - 1)


def test_one_element_is_enough():
    crystals = generate(["Si"], 25, seed=1)
    assert set(crystals.numbers) == {14}


def test_ground_states_of_molecular_elements_and_boron():
    (molecule,) = (a for a in elemental("N") if np.allclose(a.cell.lengths(), 6.0))
    assert molecule.get_distance(0, 1, mic=True) == pytest.approx(1.10)
    assert 12 in [len(a) for a in elemental("B")]


def test_an_unknown_element_is_refused():
    with pytest.raises(ContentError, match="'Xx' is not a chemical element"):
        generate(["Si", "Xx"], 3, seed=1)
