import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.screening.geometries import join_geometries

NUMBERS = np.array([14, 6, 14, 14, 32])


@pytest.fixture
def unrelaxed() -> CrystalSet:
    """Candidates 7, 3 and 5 of two, two and one atoms, with predictions."""
    rng = np.random.default_rng(1)
    return CrystalSet(
        [2, 2, 1], NUMBERS, rng.random((5, 3)), rng.random((3, 3, 3)) + 4 * np.eye(3),
        {"candidate": np.array([7, 3, 5]), "seed": np.full(3, 2)},
        {"predicted_dos": np.arange(10.0).reshape(5, 2)},
    )  # fmt: skip


@pytest.fixture
def relaxed(unrelaxed) -> CrystalSet:
    """The same in another order, relaxed."""
    order = [1, 2, 0]
    columns = {
        "energy": np.array([-3.0, -2.0, -1.0]),
        "start_energy": np.array([-2.5, -1.9, np.nan]),
        "stress": np.zeros((3, 3, 3)),
        "steps": np.array([9, 8, 0]),
        "status": np.array(["converged", "max steps", "exploded"]),
    }
    moved = unrelaxed[order].replace(fractional=np.zeros((5, 3)))
    return moved.with_columns(columns, {"forces": np.ones((5, 3)), "predicted_dos": np.full((5, 2), 0.5)})


def test_both_geometries_in_one_set(relaxed, unrelaxed):
    both = join_geometries(relaxed, unrelaxed)
    columns = both.crystal_columns
    assert columns["geometry"].tolist() == ["relaxed"] * 3 + ["unrelaxed"] * 3
    assert columns["candidate"].tolist() == [3, 5, 7] * 2
    assert columns["seed"].tolist() == [2] * 6
    assert both[[0, 1, 2]].numbers.tolist() == both[[3, 4, 5]].numbers.tolist()
    np.testing.assert_array_equal(both[[3, 4, 5]].fractional, unrelaxed[[1, 2, 0]].fractional)
    np.testing.assert_array_equal(
        both[[3, 4, 5]].atom_columns["predicted_dos"], unrelaxed[[1, 2, 0]].atom_columns["predicted_dos"]
    )


def test_values_belong_to_their_geometry(relaxed, unrelaxed):
    columns = join_geometries(relaxed, unrelaxed).crystal_columns
    np.testing.assert_array_equal(columns["energy"], [-3.0, -2.0, -1.0, -2.5, -1.9, np.nan])
    assert columns["status"].tolist() == ["converged", "max steps", "exploded"] + ["unrelaxed"] * 3
    assert columns["steps"].tolist() == [9, 8, 0, 0, 0, 0]
    assert np.isnan(columns["stress"][3:]).all() and not columns["stress"][:3].any()
    assert np.isnan(join_geometries(relaxed, unrelaxed).atom_columns["forces"][5:]).all()


def test_a_geometry_without_predictions_has_none(relaxed, unrelaxed):
    bare = relaxed.replace(atom_columns={"forces": np.ones((5, 3))})
    found = join_geometries(bare, unrelaxed).atom_columns["predicted_dos"]
    assert np.isnan(found[:5]).all() and np.isfinite(found[5:]).all()


def test_candidates_that_were_not_relaxed_are_left_out(relaxed, unrelaxed):
    assert join_geometries(relaxed[[2, 0]], unrelaxed).crystal_columns["candidate"].tolist() == [7, 3, 7, 3]
    assert join_geometries(relaxed, unrelaxed[[2]]).crystal_columns["candidate"].tolist() == [3, 5, 7, 5]


def test_an_older_relaxation_does_not_know_where_it_began(relaxed, unrelaxed):
    columns = {name: column for name, column in relaxed.crystal_columns.items() if name != "start_energy"}
    found = join_geometries(relaxed.replace(crystal_columns=columns), unrelaxed).crystal_columns
    assert np.isnan(found["energy"][3:]).all() and found["energy"][:3].tolist() == [-3.0, -2.0, -1.0]


def test_what_does_not_belong_together_is_refused(relaxed, unrelaxed):
    other = unrelaxed.replace(numbers=NUMBERS[::-1])
    with pytest.raises(ContentError, match="different atoms"):
        join_geometries(relaxed, other)
    with pytest.raises(ContentError, match="the unrelaxed crystals hold a candidate twice"):
        join_geometries(relaxed, unrelaxed[[0, 0]])
    with pytest.raises(ContentError, match="the relaxed crystals have no column 'candidate'"):
        join_geometries(relaxed.replace(crystal_columns={}), unrelaxed)
