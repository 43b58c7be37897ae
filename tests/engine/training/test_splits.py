"""What is held out: whole systems and whole prototypes, the same ones when the set grows, and leaks are found."""

import numpy as np
import pytest

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled import splits
from aiida_dosmatgen.core.labelled.leak import leak
from aiida_dosmatgen.engine.labelling.prototypes import generate

from ..labelled import labelled


@pytest.fixture(scope="module")
def crystals():
    made = generate(["B", "C", "N", "Si", "Ge"], 200, seed=3)
    return made.with_columns(crystal={"split": splits.assign(made, 0.3, 0.15, seed=1)})


def test_systems_are_named_by_atomic_number():
    assert splits.system_of([7, 5, 7, 5]) == "B-N"
    assert splits.system_of([14]) == "Si"


def test_whole_systems_and_prototypes_are_held_out(crystals):
    column = crystals.crystal_columns["split"]
    systems = np.array(splits.systems_of(crystals))
    prototypes = crystals.crystal_columns["prototype"]
    assert set(column) == set(splits.SPLIT_NAMES) - {"test-final"}
    assert not set(systems[column == "test-system"]) & set(systems[column != "test-system"])
    of_compounds = (column == "train") & (np.char.find(systems, "-") > 0)
    assert not set(prototypes[column == "test-prototype"]) & set(prototypes[of_compounds])
    assert all("-" in s for s in systems[column != "train"])


def test_a_growing_set_keeps_its_split(crystals):
    few = crystals[::2]
    np.testing.assert_array_equal(splits.assign(few, 0.3, 0.15, seed=1), crystals.crystal_columns["split"][::2])
    assert (splits.assign(crystals, 0.3, 0.15, seed=2) != crystals.crystal_columns["split"]).any()
    assert set(splits.assign(crystals, 0.0, 0.0, seed=1)) == {"train"}
    with pytest.raises(ContentError, match="system_fraction is 2"):
        splits.assign(crystals, 2, 0, seed=1)


def test_a_vacancy_goes_where_its_prototype_goes(crystals):
    whole = np.array([splits.base_prototype(name) for name in crystals.crystal_columns["prototype"].tolist()])
    names, compounds = np.char.add(whole, splits.VACANCY), whole != "elemental"
    moved = crystals.with_columns(crystal={"prototype": np.where(compounds, names, "elemental")})
    np.testing.assert_array_equal(splits.assign(moved, 0.3, 0.15, seed=1), crystals.crystal_columns["split"])


def test_test_crystals_are_left_out(crystals):
    kept, n = splits.without_test(crystals)
    assert n + len(kept) == len(crystals) and n > 0
    assert set(kept.crystal_columns["split"]) == {"train"}
    bare = crystals.replace(crystal_columns={})
    assert splits.without_test(bare) == (bare, 0)
    with pytest.raises(ContentError, match="unknown value 'tset'"):
        splits.without_test(crystals.with_columns(crystal={"split": np.full(len(crystals), "tset")}))
    with pytest.raises(ContentError, match="none is left"):
        splits.without_test(crystals.with_columns(crystal={"split": np.full(len(crystals), "test-system")}))


def test_no_system_on_both_sides_of_the_validation(crystals):
    training, held = splits.split_by_system(crystals, 0.2, seed=1)
    assert sorted([*training, *held]) == list(range(len(crystals)))
    systems = np.array(splits.systems_of(crystals))
    assert not set(systems[training]) & set(systems[held])
    assert len(held) >= 0.2 * len(crystals)
    assert not len(splits.split_by_system(crystals, 0.0, seed=1)[1])


def test_a_planted_leak_is_found():
    made = labelled(40)
    compounds = [i for i, s in enumerate(splits.systems_of(made)) if "-" in s][:3]
    pair = made[[compounds[0], compounds[0]]]
    pair = pair.with_columns(crystal={"split": np.array(["train", "test-prototype"])})
    measured = leak(pair)["test-prototype"]
    assert measured["n_crystals"] == measured["system_in_training"] == measured["same_structure"] == 1
    assert measured["same_structure_other_elements"] == 1
    assert measured["nearest_curve"]["median"] == 0
    other = pair.replace(numbers=np.concatenate([pair[0].numbers, (pair[0].numbers + 1)]))
    measured = leak(other)["test-prototype"]
    assert (measured["system_in_training"], measured["same_structure"], measured["same_structure_other_elements"]) == (0, 0, 1)
