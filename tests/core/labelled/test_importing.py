"""Sets of others: one crystal with its curves from each record, and what is left out is named with the reason."""

import bz2
import gzip
import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.importing import read_set
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.training.dataset import load_labelled


def band(energies, low, high, states):
    """A band of constant height that holds some states."""
    inside = (energies >= low) & (energies <= high)
    return np.where(inside, states / (high - low), 0.0)


def curves(energies, atoms):
    """Four states below −1 eV and four above 1 eV for each atom."""
    one = band(energies, -5, -1, 4.0) + band(energies, 1, 4, 4.0)
    return np.stack([one * (1 + 0.1 * i) for i in range(len(atoms))])


def silicon_carbide():
    return bulk("SiC", "zincblende", a=4.36)


def mp_dos(atoms, name="mp-1", **changes):
    record = {
        "structure_id": name,
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "atomic_numbers": atoms.numbers.tolist(),
        "y": curves(DEFAULT_GRID.points, atoms).tolist(),
    }
    return {**record, **changes}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def check(found, atoms, shift):
    """The crystals are these, and their zero is the valence band maximum."""
    assert len(found.crystals) == len(atoms)
    expected = CrystalSet.from_ase(atoms)
    np.testing.assert_array_equal(found.crystals.numbers, expected.numbers)
    apart = found.crystals.fractional - expected.fractional
    np.testing.assert_allclose(apart, np.rint(apart), atol=1e-6)
    for row in range(len(atoms)):
        read = curves_of(found.crystals, row)
        assert read.zero == "vbm" and read.gap == pytest.approx(2.0, abs=0.11)
        occupied = read.sites[:, (read.energies > -3.5) & (read.energies < -0.2)]
        np.testing.assert_allclose(occupied.mean(1), [1 + 0.1 * i for i in range(len(read))], rtol=0.02)
        assert read.low == pytest.approx(shift[0], abs=0.06) and read.high == pytest.approx(shift[1], abs=0.06)


def test_mp_dos_as_a_list_by_lines_and_packed(tmp_path):
    atoms = [silicon_carbide(), bulk("GaAs", "zincblende", a=5.65)]
    records = [mp_dos(a, f"mp-{i}") for i, a in enumerate(atoms)]
    write(tmp_path / "list.json", records)
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    with gzip.open(tmp_path / "list.json.gz", "wt") as stream:
        json.dump(records, stream)
    with bz2.open(tmp_path / "by-name.json.bz2", "wt") as stream:
        json.dump({"first": records[0], "second": records[1]}, stream)
    for name in ("list.json", "lines.jsonl", "list.json.gz", "by-name.json.bz2"):
        found = read_set(tmp_path / name)
        check(found, atoms, (-9, 10))
        assert found.dropped == []
        assert found.crystals.crystal_columns["id"].tolist() == ["mp-0", "mp-1"]
        assert set(found.crystals.crystal_columns["source"]) == {"MP-DOS"}
    assert len(read_set(tmp_path).crystals) == 8  # all files of the folder
    assert found.crystals.atom_columns["dos"].dtype == np.float16


def test_what_is_left_out_is_named_with_the_reason(tmp_path):
    good, bad = silicon_carbide(), {}
    fractional = good.get_scaled_positions().tolist()
    bad["atomic_numbers must be whole numbers"] = mp_dos(good, atomic_numbers=[14.6, 6])
    bad["zero everywhere"] = mp_dos(good, y=np.zeros((2, 400)).tolist())
    bad["positions fractional ones where Cartesian"] = mp_dos(good, positions=fractional)
    bad["negative or not finite"] = mp_dos(good, y=(-curves(DEFAULT_GRID.points, good)).tolist())
    bad["y has shape (2, 399)"] = mp_dos(good, y=np.ones((2, 399)).tolist())
    bad["it lacks y"] = {k: v for k, v in mp_dos(good).items() if k != "y"}
    bad["reaches"] = mp_dos(good, y=(1e6 * curves(DEFAULT_GRID.points, good)).tolist())
    bad["'Xx' is not a chemical symbol"] = mp_dos(good, atomic_numbers=["Xx", "C"])
    bad["it is no record of a crystal"] = [1, 2]
    found = read_set(write(tmp_path / "mixed.json", [mp_dos(good), *bad.values(), mp_dos(good)]))
    assert len(found.crystals) == 2 and len(found.dropped) == len(bad)
    for number, (lost, reason) in enumerate(zip(found.dropped, bad, strict=True), 1):
        assert lost.record == f"mixed.json, record {number}" and reason in lost.reason
    card = found.card(most=2)
    assert card["dropped"] == len(bad) and len(card["dropped_records"]) == 2 and card["sources"] == {"MP-DOS": 2}
    with pytest.raises(ContentError, match="no labelled crystal among 1 records; bad.json, record 0: atomic_numbers must"):
        read_set(write(tmp_path / "bad.json", [bad["atomic_numbers must be whole numbers"]]))


@pytest.mark.parametrize(
    "content, message",
    [
        ("[]", "among 0 records"),
        ("[{}, {", "record 1 is not valid JSON"),
        ("", "among 0"),
        ('[{"a": ' + 5000 * "1", "Exceeds the limit"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(ContentError, match=message):
        read_set(tmp_path / "broken.json")
    (tmp_path / "notes.txt").write_text("no set")
    with pytest.raises(ContentError, match="is no parquet, extxyz or JSON file"):
        read_set(tmp_path / "notes.txt")
    with pytest.raises(ContentError, match="does not exist"):
        read_set(tmp_path / "nothing.json")


def complete_dos(atoms, energies, efermi=3.0):
    """A ``CompleteDos`` as pymatgen writes it: energies not shifted, both spins, orbitals of each site."""
    from pymatgen.core import Structure
    from pymatgen.electronic_structure.core import Orbital, Spin
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    structure = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
    half = curves(energies, atoms) / 2
    total = Dos(efermi, energies + efermi, {spin: half.sum(0) for spin in (Spin.up, Spin.down)})
    share = {Orbital.s: 0.3, Orbital.px: 0.2, Orbital.dz2: 0.4}
    pdos = {
        site: {orbital: {spin: part * half[i] for spin in (Spin.up, Spin.down)} for orbital, part in share.items()}
        for i, site in enumerate(structure)
    }
    return CompleteDos(structure, total, pdos).as_dict()


def test_complete_dos_with_their_structures(tmp_path):
    atoms = [silicon_carbide(), bulk("GaAs", "zincblende", a=5.65)]
    energies = np.linspace(-15, 8, 1151)
    records = [complete_dos(a, energies) for a in atoms]
    found = read_set(write(tmp_path / "sets.json", records))
    check(found, atoms, (-10, 9))
    assert set(found.crystals.crystal_columns["meaning"]) == {"partition"}  # sites add up to the total
    wrapped = [{"material_id": f"mp-{i}", "dos": record} for i, record in enumerate(records)]
    found = read_set(write(tmp_path / "wrapped.json", wrapped), EnergyGrid(-14, 8, 441))
    assert found.crystals.crystal_columns["id"].tolist() == ["mp-0", "mp-1"]
    check(found, atoms, (-14, 8))
    without = {k: v for k, v in records[0].items() if k != "structure"}
    alone = {k: v for k, v in records[1].items() if k not in ("pdos", "atom_dos", "spd_dos")}
    found = read_set(write(tmp_path / "half.json", [without, records[1], alone]))
    assert [lost.reason[:24] for lost in found.dropped] == ["it has no structure, wit", "the density of states is"]


def frame(atoms, **changes):
    made = atoms.copy()
    made.arrays["dos"] = curves(DEFAULT_GRID.points + 1.0, atoms)
    made.info.update(complete_below=6.0, **changes)
    return made


def test_extxyz_with_the_energies_of_any_habit(tmp_path):
    by_ase, by_mace = frame(silicon_carbide()), frame(silicon_carbide(), source="own", id="7")
    forces, stress = np.full((2, 3), 0.1), 0.01 * np.eye(3)
    by_ase.calc = SinglePointCalculator(by_ase, energy=-10.0, forces=forces, stress=stress)
    by_mace.info.update(REF_energy=-11.0, REF_stress=stress)
    by_mace.arrays["REF_forces"] = 2 * forces
    ase.io.write(tmp_path / "both.extxyz", [by_ase, by_mace], format="extxyz")
    found = read_set(tmp_path / "both.extxyz")
    columns = found.crystals.crystal_columns
    assert columns["energy"].tolist() == [-10, -11] and found.dropped == [] and found.notes == []
    np.testing.assert_allclose(columns["stress"], [stress, stress])
    np.testing.assert_allclose(found.crystals.atom_columns["forces"], np.concatenate([forces, 2 * forces]))
    assert columns["high"].tolist() == [6, 6] and columns["id"].tolist() == ["", "7"]
    np.testing.assert_allclose(found.crystals.atom_columns["dos"][:2], by_ase.arrays["dos"], atol=1e-3)
    bare = [frame(silicon_carbide()) for _ in range(3)]
    ase.io.write(tmp_path / "few.extxyz", [by_ase, *bare], format="extxyz")
    found = read_set(tmp_path / "few.extxyz")
    assert len(found.crystals) == 4 and "energy" not in found.crystals.crystal_columns
    assert found.notes == ["energies and forces left out: 1 records have them, 3 have none"]
    ase.io.write(tmp_path / "one.extxyz", [by_ase, bare[0], by_mace], format="extxyz")
    found = read_set(tmp_path / "one.extxyz")
    assert found.dropped == [("one.extxyz, frame 1", "it has no energy and forces, which 2 other records have")]


def test_frames_with_nonsense_are_left_out(tmp_path):
    good = frame(silicon_carbide())
    misplaced, empty, other, none = (frame(silicon_carbide()) for _ in range(4))
    misplaced.positions = misplaced.get_scaled_positions()
    empty.arrays["dos"] = np.zeros((2, 400))
    other.arrays["dos"] = np.ones((2, 30))
    del none.arrays["dos"]
    with open(tmp_path / "mixed.extxyz", "w") as stream:
        for one in (good, misplaced, empty, other, none):
            ase.io.write(stream, one, format="extxyz")
    found = read_set(tmp_path / "mixed.extxyz")
    assert len(found.crystals) == 1
    assert [lost.record[-7:] for lost in found.dropped] == ["frame 1", "frame 2", "frame 3", "frame 4"]
    for lost, reason in zip(found.dropped, ("fractional", "zero everywhere", "30 energies", "no array 'dos'"), strict=True):
        assert reason in lost.reason
    stated = frame(silicon_carbide(), dos_low=-15.0, dos_high=15.0, sigma=0.2)
    stated.arrays["dos"] = curves(np.linspace(-14, 16, 601), stated)
    ase.io.write(tmp_path / "stated.extxyz", stated, format="extxyz")
    read = curves_of(read_set(tmp_path / "stated.extxyz").crystals)
    assert (read.sigma, read.high) == (0.2, 6.0)
    assert read.sites[0, np.abs(read.energies + 3) < 1].min() > 0.9


def parquet_table(atoms, energies, **names):
    """Columns as in the data set of MatterGen-e⁻: structures, and one list of 512 values for each atom."""
    columns = {
        "material_id": "material_id",
        "atomic_numbers": "atomic_numbers",
        "cell": "cell",
        "pos": "pos",
        "dos": "atomic_dos",
    }
    columns |= names
    rows = {
        "material_id": [f"mp-{i}" for i in range(len(atoms))],
        "atomic_numbers": [a.numbers.tolist() for a in atoms],
        "cell": [a.cell.array.tolist() for a in atoms],
        "pos": [(a.positions if names.get("pos") == "positions" else a.get_scaled_positions()).tolist() for a in atoms],
        "dos": [curves(energies, a).tolist() for a in atoms],
    }
    return {columns[name]: values for name, values in rows.items()}


def test_parquet_of_mattergen_e(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    atoms = [silicon_carbide(), bulk("GaAs", "zincblende", a=5.65), bulk("NaCl", "rocksalt", a=5.6)]
    energies = np.linspace(-15, 5, 512)
    parquet.write_table(pyarrow.table(parquet_table(atoms, energies)), tmp_path / "a.parquet")
    found = read_set(tmp_path / "a.parquet")
    check(found, atoms, (-10, 6))
    assert found.crystals.crystal_columns["id"].tolist() == ["mp-0", "mp-1", "mp-2"]
    assert set(found.crystals.crystal_columns["source"]) == {"MatterGen-e"}
    cartesian = parquet_table(atoms, energies, pos="positions", dos="ados", material_id="mp_id")
    parquet.write_table(pyarrow.table(cartesian), tmp_path / "b.parquet")
    check(read_set(tmp_path / "b.parquet"), atoms, (-10, 6))
    structures = [complete_dos(a, energies)["structure"] for a in atoms]
    table = {"structure": [json.dumps(s) for s in structures], "dos": cartesian["ados"]}
    table |= {"energies": [(energies + 2.0).tolist()] * 3, "efermi": [2.0] * 3}
    parquet.write_table(pyarrow.table(table), tmp_path / "c.parquet")
    check(read_set(tmp_path / "c.parquet"), atoms, (-10, 6))
    wrong = {"material_id": ["a"], "dos": cartesian["ados"][:1]}
    parquet.write_table(pyarrow.table(wrong), tmp_path / "d.parquet")
    with pytest.raises(ContentError, match="has no columns with crystals"):
        read_set(tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-50])
    with pytest.raises(ContentError, match="is damaged"):
        read_set(tmp_path / "e.parquet")


def test_a_set_of_others_is_one_command_away_from_a_training(tmp_path, capsys):
    good = mp_dos(silicon_carbide())
    path = write(tmp_path / "sets.json", [good, {**good, "atomic_numbers": [14.6, 6]}, good])
    assert main(["import", str(path), "-o", str(tmp_path / "labelled.npz")]) == 0
    said = capsys.readouterr()
    assert "left out sets.json, record 1: atomic_numbers must be whole numbers" in said.err
    assert "2 crystals" in said.out and "1 records left out" in said.out
    learnt = load_labelled(tmp_path / "labelled.npz")
    assert len(learnt) == 2 and learnt.atom_columns["dos"].shape == (4, DEFAULT_GRID.n)
    assert main(["import", str(path), "-o", str(tmp_path / "labelled.txt")]) == 2
