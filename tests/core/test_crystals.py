"""Many crystals in flat arrays."""

import io

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure

from aiida_dosmatgen.core.crystals import MOST_ATOMS, CrystalSet
from aiida_dosmatgen.core.errors import ContentError

from .strategies import crystal_sets


def si2() -> CrystalSet:
    return CrystalSet.from_ase(bulk("Si"))


# --- round trips ----------------------------------------------------------------------------------------------------------


@given(crystal_sets())
def test_file_round_trip(crystals):
    stream = io.BytesIO()
    crystals.save(stream)
    stream.seek(0)
    assert CrystalSet.load(stream) == crystals


@given(crystal_sets())
def test_equal_content_has_equal_bytes(crystals):
    first, second = io.BytesIO(), io.BytesIO()
    crystals.save(first)
    crystals[:].save(second)
    assert first.getvalue() == second.getvalue()


@given(crystal_sets(min_size=1))
def test_ase_round_trip(crystals):
    back = CrystalSet.from_ase(crystals.to_ase())
    np.testing.assert_array_equal(back.numbers, crystals.numbers)
    np.testing.assert_allclose(back.fractional, crystals.fractional, atol=1e-9)
    np.testing.assert_allclose(back.lattices, crystals.lattices, atol=1e-12)


@given(crystal_sets(min_size=1, max_size=3))
def test_pymatgen_round_trip(crystals):
    back = CrystalSet.from_pymatgen(crystals.to_pymatgen())
    np.testing.assert_array_equal(back.numbers, crystals.numbers)
    np.testing.assert_allclose(back.fractional, crystals.fractional, atol=1e-9)
    np.testing.assert_allclose(back.lattices, crystals.lattices, atol=1e-9)


# --- selecting and joining ------------------------------------------------------------------------------------------------


@given(crystal_sets(), st.slices(5))
def test_a_slice_selects_like_a_list(crystals, selection):
    assert list(crystals[selection]) == list(crystals)[selection]


@given(crystal_sets(), st.data())
def test_a_split_set_joins_to_itself(crystals, data):
    cut = data.draw(st.integers(0, len(crystals)))
    assert CrystalSet.concatenate([crystals[:cut], crystals[cut:]]) == crystals


@given(crystal_sets(min_size=1), st.data())
def test_a_permutation_can_be_undone(crystals, data):
    order = np.array(data.draw(st.permutations(range(len(crystals)))))
    assert crystals[order][np.argsort(order)] == crystals


@given(crystal_sets(min_size=1))
def test_integer_and_mask_select(crystals):
    assert crystals[len(crystals) - 1] == crystals[-1]
    mask = crystals.n_atoms > 2
    assert list(crystals[mask].n_atoms) == [n for n in crystals.n_atoms if n > 2]


def test_joining_keeps_common_columns_only():
    with_energy = si2().with_columns(crystal={"energy": [1.0], "seed": [3]})
    joined = CrystalSet.concatenate([with_energy, si2().with_columns(crystal={"energy": [2.0]})])
    assert set(joined.crystal_columns) == {"energy"}
    np.testing.assert_array_equal(joined.crystal_columns["energy"], [1, 2])


def test_nothing_joins_to_an_empty_set():
    empty = CrystalSet.concatenate([])
    assert len(empty) == 0
    assert empty.formulas == []
    assert empty.positions.shape == (0, 3)


@given(crystal_sets(min_size=1))
def test_derived_quantities(crystals):
    assert crystals.offsets[-1] == len(crystals.numbers)
    for atoms, volume, formula in zip(crystals.to_ase(), crystals.volumes, crystals.formulas, strict=True):
        assert atoms.cell.volume == pytest.approx(volume)
        assert formula == Composition(atoms.get_chemical_formula()).reduced_formula
    np.testing.assert_allclose(crystals.positions, np.concatenate([a.positions for a in crystals.to_ase()]), atol=1e-9)


def test_equality_sees_values_columns_and_nan():
    crystals = si2().with_columns(crystal={"energy": [np.nan]})
    assert crystals == crystals[:]
    assert crystals != si2()
    assert crystals != crystals.replace(fractional=crystals.fractional + 1e-9)
    assert crystals != crystals.with_columns(crystal={"energy": [0.0]})
    assert crystals != "Si2"


# --- refusals -------------------------------------------------------------------------------------------------------------


def large(n: int) -> CrystalSet:
    return CrystalSet([n], np.full(n, 14), np.random.default_rng(0).random((n, 3)), 300 * np.eye(3)[None])


def test_a_large_crystal_is_one():
    assert large(MOST_ATOMS).check().defect() is None


def broken(**changes) -> CrystalSet:
    return si2().replace(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: broken(numbers=[14]), r"numbers has shape \(1,\), expected \(2,\)"),
        (lambda: broken(fractional=np.zeros((2, 2))), "fractional has shape"),
        (lambda: broken(lattices=np.eye(3)), "lattices has shape"),
        (lambda: CrystalSet([2, 0], [14, 14], np.zeros((2, 3)), np.ones((2, 3, 3))), "crystal 1 has no atoms"),
        (lambda: si2().with_columns(crystal={"energy": [1.0, 2.0]}), "'energy' has shape .* each of the crystals"),
        (lambda: si2().with_columns(atom={"forces": np.zeros((3, 3))}), "'forces' has shape .* each of the atoms"),
        (lambda: si2().with_columns(crystal={"energy": 1.0}), "'energy' has shape"),
        (lambda: si2().with_columns(crystal={"status": np.array([None])}), "'status' holds Python objects"),
        (lambda: broken(fractional=[[0, 0, np.nan], [0, 0, 0]]).check(), "crystal 0: the coordinates have NaN"),
        (lambda: broken(lattices=[np.full((3, 3), np.inf)]).check(), "crystal 0: the lattice has NaN"),
        (lambda: broken(numbers=[14, 0]).check(), "crystal 0: atomic number 0 is not an element"),
        (lambda: broken(numbers=[14, 119]).check(), "crystal 0: atomic number 119 is not an element"),
        (lambda: broken(lattices=np.ones((1, 3, 3))).check(), "crystal 0: the cell has volume 0"),
        (lambda: large(MOST_ATOMS + 1).check(), "crystal 0: it has 1001 atoms; crystals of up to 1000 are dealt with"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ContentError, match=message) as info:
        make()
    assert "\n" not in str(info.value)


def test_a_flat_cell_is_refused_from_ase():
    atoms = bulk("Si")
    atoms.cell[2] = 0
    with pytest.raises(ContentError, match="crystal 1: the cell has volume 0"):
        CrystalSet.from_ase([bulk("Si"), atoms])


def test_a_disordered_structure_is_refused():
    alloy = Structure(Lattice.cubic(3), [{"Si": 0.5, "Ge": 0.5}], [[0, 0, 0]])
    with pytest.raises(ContentError, match="crystal 0: .* partial occupancies"):
        CrystalSet.from_pymatgen(alloy)


def test_a_set_without_its_arrays_is_refused(tmp_path):
    from aiida_dosmatgen.core.files.archive import save_arrays

    path = tmp_path / "crystals.npz"
    save_arrays(path, {"format": "dosmatgen-crystals", "version": 1}, {"n_atoms": np.ones(1)})
    with pytest.raises(ContentError, match="lacks the array 'numbers'"):
        CrystalSet.load(path)
