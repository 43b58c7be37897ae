"""The nodes of crystals and labelled crystals."""

import json

import ase.io
import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.core.labelled.importing.mpdos import read_records
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_stored_and_loaded(labelled):
    node = load_node(CrystalSetData(labelled).store().pk)
    assert node.crystals == labelled
    get = node.base.attributes.get
    assert (get("n_crystals"), get("total_atoms"), get("elements")) == (3, 7, ["B", "C", "N", "Si"])
    assert (get("sizes"), get("formulas")) == ([2, 3], ["BN2", "Si", "SiC"])
    assert get("columns") == {"crystal": ["complete_below", "energy", "stress"], "atom": ["dos", "forces"]}


def test_fields_can_be_queried(crystals):
    node = CrystalSetData(crystals).store()
    query = QueryBuilder().append(
        CrystalSetData,
        filters=(CrystalSetData.fields.n_crystals == 3) & (CrystalSetData.fields.sha256 == node.sha256),
        project="uuid",
    )
    assert node.uuid in query.all(flat=True)


def test_sets_are_found_by_elements_formula_and_number_of_atoms(crystals):
    silicon, all_three = CrystalSetData(crystals[:1]).store(), CrystalSetData(crystals).store()
    fields = CrystalSetData.fields

    def found(filters):
        return set(QueryBuilder().append(CrystalSetData, filters=filters, project="uuid").all(flat=True))

    assert found(fields.formulas.contains(["SiC"])) >= {all_three.uuid} and silicon.uuid not in found(
        fields.formulas.contains(["SiC"])
    )
    assert found({"attributes.sizes": {"contains": [2]}}) >= {silicon.uuid, all_three.uuid}
    assert silicon.uuid not in found({"attributes.sizes": {"contains": [3]}})
    assert silicon.uuid not in found({"attributes.elements": {"contains": ["Si", "C"]}})


def test_a_set_of_before_these_attributes_is_read(crystals):
    node = CrystalSetData(crystals)
    for name in ("total_atoms", "sizes", "formulas"):
        node.base.attributes.delete(name)
    node.base.attributes.set("n_atoms", 7)
    again = load_node(node.store().pk)
    assert again.crystals == crystals
    assert again.serialize()["attributes"]["n_crystals"] == 3


def test_npz_is_taken_over_byte_by_byte(crystals, tmp_path):
    crystals.save(tmp_path / "some.npz", remark="a header of its own")
    node = CrystalSetData.from_file(tmp_path / "some.npz").store()
    assert node.sha256 == sha256_of(tmp_path / "some.npz")
    assert node.get_content("rb") == (tmp_path / "some.npz").read_bytes()


@pytest.mark.parametrize("name, count", [("c.extxyz", 3), ("c.cif", 3), ("POSCAR", 1)])
def test_files_that_ase_reads(crystals, tmp_path, name, count):
    frames = crystals.to_ase()[:count]
    ase.io.write(tmp_path / name, frames)
    got = CrystalSetData.from_file(tmp_path / name).crystals
    assert got.formulas == crystals.formulas[:count]
    np.testing.assert_allclose(got.volumes, crystals.volumes[:count], rtol=1e-6)


def bad(crystals, **changes):
    arrays = {name: getattr(crystals, name).copy() for name in ("numbers", "fractional", "lattices")}
    for name, (where, value) in changes.items():
        arrays[name][where] = value
    return crystals.replace(**arrays)


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"fractional": (2, np.nan)}, "crystal 1: the coordinates have NaN or infinite entries"),
        ({"lattices": ((0, 0, 0), np.inf)}, "crystal 0: the lattice has NaN or infinite entries"),
        ({"lattices": (2, 1.0)}, "crystal 2: the cell has volume 0 Å^3; its lattice vectors lie in a plane"),
        ({"numbers": (0, 0)}, "crystal 0: atomic number 0 is not an element"),
        ({"numbers": (6, 200)}, "crystal 2: atomic number 200 is not an element"),
    ],
)
def test_what_is_no_crystal_is_refused(crystals, tmp_path, changes, line):
    content = bad(crystals, **changes)
    content.save(tmp_path / "bad.npz")
    for make in (lambda: CrystalSetData(content), lambda: CrystalSetData.from_file(tmp_path / "bad.npz")):
        with pytest.raises(ValidationError) as error:
            make()
        assert str(error.value) == line


def test_a_hundred_thousand_atoms_are_refused(tmp_path):
    n = 10**5
    huge = CrystalSet([n], np.full(n, 14), np.random.default_rng(0).random((n, 3)), 300 * np.eye(3)[None])
    huge.save(tmp_path / "huge.npz")
    with open(tmp_path / "huge.vasp", "w") as stream:
        stream.write("Si\n1.0\n300 0 0\n0 300 0\n0 0 300\nSi\n100000\nDirect\n")
        np.savetxt(stream, huge.fractional, fmt="%.4f")
    for make in (
        lambda: CrystalSetData(huge),
        *(lambda s=s: CrystalSetData.from_file(tmp_path / f"huge.{s}") for s in ("npz", "vasp")),
    ):
        with pytest.raises(ValidationError, match="crystal 0: it has 100000 atoms; crystals of up to 1000 are dealt with"):
            make()


def test_exploded_candidates_can_be_kept_as_results(crystals):
    content = bad(crystals, fractional=(2, np.nan), numbers=(6, 200))
    node = CrystalSetData(content, check=False).store()
    assert node.crystals == content
    assert node.base.attributes.get("elements") == ["B", "C", "N", "Si"]


def test_missing_foreign_and_truncated_files(crystals, target, tmp_path):
    crystals.save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    np.savez(tmp_path / "foreign.npz", positions=np.zeros(3))
    target.save(tmp_path / "target.npz")
    (tmp_path / "notes.cif").write_text("nothing here\n")
    (tmp_path / "broken.extxyz").write_text('2\nLattice="1 0 0 0 1 0 0 0 1"\nSi 0 0\n')
    for name, words in [
        ("none.npz", "does not exist"),
        ("none.cif", "does not exist"),
        ("cut.npz", "not a whole dosmatgen-crystals file"),
        ("foreign.npz", "was not written by this package"),
        ("target.npz", "holds 'dosmatgen-target', not 'dosmatgen-crystals'"),
        ("notes.cif", "holds no structures|cannot be read as a file of structures"),
        ("broken.extxyz", "broken.extxyz is truncated: line 1 says 2 atoms"),
    ]:
        with pytest.raises(ValidationError, match=words) as error:
            CrystalSetData.from_file(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_molecule_is_no_crystal(tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    with pytest.raises(ValidationError, match=r"structure 0 is not periodic in three dimensions \(pbc FFF\)"):
        CrystalSetData.from_file(tmp_path / "water.xyz")


# --- labelled ---------------------------------------------------------------------------------------------------------


def test_labelled_stored_and_loaded(labelled):
    node = load_node(LabelledCrystalSetData(labelled, card={"code": "pw.x 6.7"}).store().pk)
    assert isinstance(node, LabelledCrystalSetData) and node.crystals == labelled
    assert node.base.attributes.get("card") == {"code": "pw.x 6.7"}
    assert node.base.attributes.get("has_energies") is True
    assert node.grid == EnergyGrid()


def test_card_and_grid_travel_in_the_file(labelled, tmp_path):
    node = LabelledCrystalSetData(labelled, card={"code": "pw.x 6.7"})
    (tmp_path / "copy.npz").write_bytes(node.get_content("rb"))
    copy = LabelledCrystalSetData.from_file(tmp_path / "copy.npz")
    assert copy.sha256 == node.sha256
    assert copy.base.attributes.get("card") == {"code": "pw.x 6.7"}


def test_another_grid(crystals):
    grid = EnergyGrid(-5, 5, 50)
    content = crystals.with_columns({"complete_below": np.full(3, np.inf)}, {"dos": np.ones((7, 50), np.float32)})
    node = LabelledCrystalSetData(content, grid=grid).store()
    assert node.grid == grid and node.base.attributes.get("has_energies") is False
    with pytest.raises(ValidationError, match=r"column 'dos' has shape \(7, 50\), expected \(7, 400\)"):
        LabelledCrystalSetData(content)


@pytest.mark.parametrize("column", ["dos", "complete_below", "energy", "forces"])
def test_missing_labels(labelled, column):
    crystal = {k: v for k, v in labelled.crystal_columns.items() if k != column}
    atom = {k: v for k, v in labelled.atom_columns.items() if k != column}
    with pytest.raises(ValidationError, match=f"lack the column '{column}'"):
        LabelledCrystalSetData(labelled.replace(crystal_columns=crystal, atom_columns=atom))


@pytest.mark.parametrize(
    "column, where, value, line",
    [
        ("dos", (5, 7), np.nan, "crystal 2 (BN2): dos is negative or not finite"),
        ("dos", (3, 7), -0.1, "crystal 1 (SiC): dos is negative or not finite"),
        ("energy", 1, np.nan, "crystal 1 (SiC): energy is not finite"),
        ("complete_below", 0, np.nan, "crystal 0 (Si): complete_below is not finite"),
        ("forces", (6, 2), np.inf, "crystal 2 (BN2): forces is not finite"),
        ("stress", (0, 1, 1), np.nan, "crystal 0 (Si): stress is not finite"),
    ],
)
def test_bad_labels(labelled, column, where, value, line):
    columns = labelled.crystal_columns if column in labelled.crystal_columns else labelled.atom_columns
    values = columns[column].copy()
    values[where] = value
    changed = labelled.with_columns(**{"crystal" if columns is labelled.crystal_columns else "atom": {column: values}})
    with pytest.raises(ValidationError) as error:
        LabelledCrystalSetData(changed)
    assert str(error.value) == f"{line}; leave out crystals without labels"


def test_no_crystals_are_no_data_set(labelled):
    with pytest.raises(ValidationError, match="there are no crystals in the set"):
        LabelledCrystalSetData(labelled[[]])


def test_plain_crystals_are_not_labelled(crystals, tmp_path):
    crystals.save(tmp_path / "c.npz")
    with pytest.raises(ValidationError, match="lack the column 'dos'; labelled crystals have dos, complete_below"):
        LabelledCrystalSetData.from_file(tmp_path / "c.npz")


def test_labelled_extxyz(labelled, tmp_path):
    frames = labelled.to_ase()
    for i, frame in enumerate(frames):
        one = labelled[i]
        frame.arrays["dos"] = one.atom_columns["dos"]
        frame.info["complete_below"] = 6.0
        frame.calc = SinglePointCalculator(
            frame, energy=float(one.crystal_columns["energy"][0]), forces=one.atom_columns["forces"]
        )
    ase.io.write(tmp_path / "l.extxyz", frames)
    got = LabelledCrystalSetData.from_file(tmp_path / "l.extxyz").crystals
    np.testing.assert_allclose(got.atom_columns["dos"], labelled.atom_columns["dos"], atol=1e-6)
    np.testing.assert_allclose(got.atom_columns["forces"], labelled.atom_columns["forces"], atol=1e-6)
    np.testing.assert_allclose(got.crystal_columns["energy"], labelled.crystal_columns["energy"])
    np.testing.assert_allclose(got.crystal_columns["complete_below"], 6.0)


def test_extxyz_without_a_dos(crystals, tmp_path):
    ase.io.write(tmp_path / "l.extxyz", crystals.to_ase())
    with pytest.raises(ValidationError, match="crystal 0: no array 'dos'"):
        LabelledCrystalSetData.from_file(tmp_path / "l.extxyz")


def record(labelled, i):
    one = labelled[i]
    return {
        "structure_id": f"mp-{i}",
        "positions": one.positions.tolist(),
        "cell": one.lattices[0].tolist(),
        "atomic_numbers": one.numbers.tolist(),
        "y": one.atom_columns["dos"].tolist(),
    }


def test_mp_dos_records(labelled, tmp_path):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(json.dumps(record(labelled, 0)))
    paths[1].write_text(json.dumps([record(labelled, 1), record(labelled, 2)]))
    node = LabelledCrystalSetData(read_records(paths)).store()
    assert node.base.attributes.get("has_energies") is False
    np.testing.assert_allclose(node.crystals.fractional, labelled.fractional, atol=1e-9)
    np.testing.assert_array_equal(node.crystals.atom_columns["dos"], labelled.atom_columns["dos"])


def test_concatenated_sets_differ_in_hash(labelled):
    twice = CrystalSet.concatenate([labelled, labelled])
    assert LabelledCrystalSetData(twice).sha256 != LabelledCrystalSetData(labelled).sha256


def test_what_of_a_file_of_labels_was_left_out_is_kept_and_said(labelled, tmp_path):
    frames = labelled.to_ase()
    for i, atoms in enumerate(frames):
        atoms.arrays["dos"] = labelled[i].atom_columns["dos"]
        atoms.info |= {"complete_below": 6.0, "REF_energy": -1.0} if i else {"complete_below": 6.0}
    ase.io.write(tmp_path / "l.extxyz", frames)
    node = LabelledCrystalSetData.from_file(tmp_path / "l.extxyz")
    words = "l.extxyz: 3 crystals; energies left out of all crystals, because some have none: crystal 0 of 3"
    assert node.reading == words and not node.base.attributes.get("has_energies")
    frames[1].arrays["dos"] = 0 * frames[1].arrays["dos"]
    ase.io.write(tmp_path / "l.extxyz", frames)
    node = LabelledCrystalSetData.from_file(tmp_path / "l.extxyz")
    assert len(node.crystals) == 2 and "left out: crystal 1 (its DOS is zero everywhere) of 3" in node.reading
