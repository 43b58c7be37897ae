"""What entered joins a set in the set's own form, and a round trains on it and on what was known."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.learning.extending import FOUND, extended, rehearsed
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData, check_labels

from .test_gate import ELEMENTS, ENERGIES, result, zincblende

PASSED = {"entered": True, "hash": "abc", "off_equilibrium": False}


def with_projections(crystal):
    sums = 0.9 * crystal.atom_columns["dos"].astype(float).sum((1, 2))
    return crystal.with_columns(atom={"projections": sums.astype(np.float32)})


def small_set():
    """A set as the shipped one is: sums of projections on the grid of the models, energies, forces, stresses, splits."""
    atoms = [bulk("Si"), bulk("C"), zincblende("Si", "C", 4.36), zincblende("Ge", "Si", 5.6)]
    bare = CrystalSet.from_ase(atoms)
    n, total = len(bare), len(bare.numbers)
    return bare.with_columns(
        crystal={
            "energy": np.array([sum(ELEMENTS[s] for s in one.get_chemical_symbols()) for one in atoms]),
            "stress": np.zeros((n, 3, 3)),
            "complete_below": np.full(n, 5.0),
            "split": np.array(["train", "train", "train", "test-system"]),
        },
        atom={"forces": np.zeros((total, 3)), "dos": np.ones((total, DEFAULT_GRID.n), np.float16)},
    )


@pytest.fixture
def shipped_form():
    """A set as the shipped one is."""
    return small_set()


def test_curves_take_the_form_of_the_set(shipped_form):
    entry = with_projections(result(zincblende("Ge", "C", 4.6), high=8.0))
    both = extended(shipped_form, DEFAULT_GRID, {"a_1": entry}, {"a_1": PASSED})
    check_labels(both, DEFAULT_GRID)
    columns, last = both.crystal_columns, both[len(both) - 1]
    assert both.atom_columns["dos"].dtype == np.float16 and "stress" not in columns
    assert columns["source"].tolist() == ["given"] * 4 + [FOUND] and columns["id"][-1] == "abc"
    assert columns["split"][-1] == "train" and columns["kind"][-1] == "found" and columns["complete_below"][-1] == 8.0
    wanted = curves_of(entry, column="projections").on(DEFAULT_GRID.points).sites
    np.testing.assert_allclose(last.atom_columns["dos"], wanted, atol=2e-3)
    np.testing.assert_array_equal(both[range(4)].atom_columns["dos"], shipped_form.atom_columns["dos"])


def test_resolved_curves_stay_resolved():
    dataset = CrystalSet.concatenate([result(bulk("Si"), 0.0), result(bulk("C"), 0.0)])
    entry = result(zincblende("Si", "C", 4.6))
    grid = EnergyGrid(float(ENERGIES[0]), float(ENERGIES[-1]), len(ENERGIES))
    both = extended(dataset, grid, {"a_1": entry}, {"a_1": {**PASSED, "off_equilibrium": True}})
    assert LabelledCrystalSetData.describe_crystals(both)["n_crystals"] == 3
    np.testing.assert_allclose(both[2].atom_columns["dos"], entry.atom_columns["dos"], atol=1e-6)
    assert both.crystal_columns["kind"].tolist() == ["given", "given", "off-equilibrium"]


def test_nothing_enters_unseen(shipped_form):
    entry = with_projections(result(zincblende("Ge", "C", 4.6)))
    for said in ({}, {"a_1": {**PASSED, "entered": False}}):
        with pytest.raises(ContentError, match="a_1 did not pass the gate"):
            extended(shipped_form, DEFAULT_GRID, {"a_1": entry}, said)
    with pytest.raises(ContentError, match="no column 'projections'"):
        extended(shipped_form, DEFAULT_GRID, {"a_1": result(zincblende("Ge", "C", 4.6))}, {"a_1": PASSED})


def test_what_was_found_is_trained_on_with_a_sample_of_what_was_known(shipped_form):
    many = CrystalSet.concatenate([shipped_form, *[shipped_form[2]] * 20])
    entry = with_projections(result(zincblende("Ge", "C", 4.6)))
    both = extended(many, DEFAULT_GRID, {"a_1": entry}, {"a_1": PASSED})
    chosen = rehearsed(both, 5, seed=1)
    assert len(chosen) == 1 + 5 + 2  # found, sample, elements
    assert set(chosen.crystal_columns["split"].tolist()) == {"train"}
    assert {"Si", "C", "GeC"} <= set(chosen.formulas)
    assert rehearsed(both, 5, seed=1) == chosen and len(rehearsed(both, 1000, seed=1)) == len(both) - 1
    with pytest.raises(ContentError, match="nothing to learn"):
        rehearsed(many, 5, seed=1)
