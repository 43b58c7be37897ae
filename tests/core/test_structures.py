"""Structures that people have: read by the library that understands them, or refused in one line; and labelled ones."""

import gzip
import io
import json
import os

import ase.io
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Structure
from pymatgen.core.surface import SlabGenerator

from aiida_dosmatgen.core.crystal_files.labels import read_labels
from aiida_dosmatgen.core.crystal_files.structures import read_structures
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError

GAAS = Structure.from_spacegroup("F-43m", Lattice.cubic(5.65), ["Ga", "As"], [[0, 0, 0], [0.25, 0.25, 0.25]])
POSCAR = "Ga As\n5.65\n0 .5 .5\n.5 0 .5\n.5 .5 0\nGa As\n1 1\n{}Direct\n0 0 0 {}\n.25 .25 .25 {}\n"


def cif(sites):
    head = "data_x\n" + "".join(f"_cell_length_{x} 5.65\n" for x in "abc")
    head += "".join(f"_cell_angle_{x} 90\n" for x in ("alpha", "beta", "gamma"))
    head += (
        "_symmetry_space_group_name_H-M 'P 1'\n_symmetry_Int_Tables_number 1\nloop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
    )
    head += "loop_\n" + "".join(
        f"_atom_site_{x}\n" for x in ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    )
    return head + "".join(
        f"{symbol.strip('+-0123456789')}{i} {symbol} {place} {share}\n" for i, (symbol, place, share) in enumerate(sites)
    )


OPTIMADE = {
    "lattice_vectors": (5.65 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])).tolist(),
    "cartesian_site_positions": [[0, 0, 0], [1.4125, 1.4125, 1.4125]],
    "species_at_sites": ["gallium", "As"],
    "species": [{"name": "gallium", "chemical_symbols": ["Ga"]}, {"name": "As", "chemical_symbols": ["As"]}],
    "dimension_types": [1, 1, 1],
}
JARVIS = {
    "lattice_mat": OPTIMADE["lattice_vectors"],
    "coords": [[0, 0, 0], [0.25, 0.25, 0.25]],
    "elements": ["Ga", "As"],
    "cartesian": False,
}
_stream = io.StringIO()
ase.io.write(_stream, bulk("GaAs", "zincblende", 5.65), format="json")
AS_JSON = _stream.getvalue()


def frame(symbols, positions, pbc="T T T", cell="4.2 0 0 0 4.2 0 0 0 4.2"):
    rows = "".join(f"{s} {p}\n" for s, p in zip(symbols, positions, strict=True))
    return f'{len(symbols)}\nLattice="{cell}" Properties=species:S:1:pos:R:3 pbc="{pbc}"\n{rows}'


READ = {
    "POSCAR_selective": (POSCAR.format("Selective dynamics\n", "T T T", "F F F"), "GaAs"),
    "oxidation.cif": (cif([("Ga3+", "0 0 0", 1), ("As3-", "0.25 0.25 0.25", 1)]), "GaAs"),
    "deuterium.cif": (cif([("C", "0 0 0", 1), ("D", "0.2 0.2 0.2", 1)]), "HC"),
    "pymatgen_structure.json": (json.dumps(GAAS.as_dict()), "GaAs"),
    "entry.json": (json.dumps({"structure": GAAS.as_dict(), "energy": -1.0}), "GaAs"),
    "several.json": (json.dumps([GAAS.as_dict(), GAAS.as_dict()]), "GaAs"),
    "no_ending": (cif([("Ga", "0 0 0", 1), ("As", "0.25 0.25 0.25", 1)]), "GaAs"),
    "packed.cif.gz": (gzip.compress(cif([("Ga", "0 0 0", 1), ("As", "0.25 0.25 0.25", 1)]).encode()), "GaAs"),
    "CHGCAR": (POSCAR.format("", "", "") + "\n  2 2 2\n 1.0 1.0 1.0 1.0 1.0\n 1.0 1.0 1.0\n", "GaAs"),
    "utf16.cif": (cif([("Ga", "0 0 0", 1), ("As", "0.25 0.25 0.25", 1)]).encode("utf-16"), "GaAs"),
    "document.json": (json.dumps({"data": [{"material_id": "mp-1", "structure": GAAS.as_dict()}]}), "GaAs"),
    "optimade.json": (json.dumps({"data": [{"type": "structures", "attributes": OPTIMADE}]}), "GaAs"),
    "jarvis.json": (json.dumps({"jid": "JVASP-1", "atoms": JARVIS}), "GaAs"),
    "ase.json": (AS_JSON, "GaAs"),
    "POSCAR_of_vasp4": (POSCAR.replace("Ga As\n1 1", "1 1").format("", "", ""), "GaAs"),
    "formula.vasp": (POSCAR.replace("Ga As\n1 1", "1 1").replace("Ga As", "Ga1 As1").format("", "", ""), "GaAs"),
    "POSCAR_symbols_behind": (
        POSCAR.replace("Ga As\n1 1", "1 1")
        .replace("Ga As", "my crystal")
        .format("Selective dynamics\n", "T T F Ga", "T T T As"),
        "GaAs",
    ),
    "plain.extxyz": (frame(["Si"], ["0 0 0"]), "Si"),
}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", READ)
def test_read(name, tmp_path):
    content, formula = READ[name]
    crystals = read_structures(write(tmp_path / name, content))
    assert set(crystals.formulas) == {formula}
    if formula == "GaAs":
        lengths = np.linalg.norm(crystals.positions[0] - crystals.positions[1:], axis=1)
        assert lengths.min() == pytest.approx(5.65 * np.sqrt(3) / 4) or len(crystals.numbers) > 2


PARTIAL = cif([("Si", "0 0 0", 0.5), ("Ge", "0 0 0", 0.5), ("Si", "0.25 0.25 0.25", 1)])
SLAB = SlabGenerator(GAAS, (1, 0, 0), 6, 15, primitive=True).get_slab()
REFUSED = {
    "partial_SiGe.cif": (PARTIAL, r"site 1 is Si:0\.5, Ge:0\.5 \(at 0 0 0\); sites that elements share"),
    "partial.cif.gz": (gzip.compress(PARTIAL.encode()), "site 1 is Si:0.5, Ge:0.5"),
    "vacancy.cif": (cif([("Si", "0 0 0", 0.7), ("C", "0.25 0.25 0.25", 1)]), "site 0 is Si:0.7"),
    "partial.json": (json.dumps(Structure(Lattice.cubic(4), [{"Fe": 0.9}], [[0, 0, 0]]).as_dict()), "site 0 is Fe:0.9"),
    "POSCAR_vasp4": (
        POSCAR.replace("Ga As\n1 1", "1 1").replace("Ga As", "C Ni N run 3").format("", "", ""),
        "names no elements",
    ),
    "POSCAR_counts": (POSCAR.replace("Ga As\n1 1", "1 1").replace("Ga As", "Ga2 As2").format("", "", ""), "names no elements"),
    "POSCAR_one_name": (POSCAR.replace("Ga As\n1 1", "1 1").replace("Ga As", "Ga").format("", "", ""), "names no elements"),
    "POSCAR_two_ways": (
        POSCAR.replace("Ga As\n1 1", "1 1").format("", "Al", "P"),
        "names its elements in two ways, Al P and Ga As",
    ),
    "data-file-schema.xml": (
        '<qes:espresso xmlns:qes="x"></qes:espresso>',
        "the XML of pw.x, which is not read here; give what pw.x",
    ),
    "deuterium.extxyz": (frame("CD", ["0 0 0", ".6 .6 .6"]), "'D' is not a chemical element"),
    "kinds.extxyz": (frame(["Fe1", "Fe2"], ["0 0 0", "2 2 2"]), "'Fe1' is not a chemical element"),
    "molecule.extxyz": (frame("OH", ["1 1 1", "2 1 1"], "F F F"), r"structure 0 is not periodic .* \(pbc FFF\)"),
    "slab.extxyz": (frame(["Si", "Si"], ["0 0 9", "1.9 1.9 10"], "T T F", "3.9 0 0 0 3.9 0 0 0 20"), r"\(pbc TTF\)"),
    "slab.json": (json.dumps(SLAB.as_dict()), "it is a Slab"),
    "vacuum.json": (json.dumps(Structure.from_sites(SLAB.sites).as_dict()), r"1\d\.\d Å of vacuum"),
    "box.extxyz": (frame("OH", ["5 5 5", "6 5 5"], cell="15 0 0 0 15 0 0 0 15"), "Å of vacuum"),
    "water.xyz": ("3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n", r"structure 0 is not periodic .* \(pbc FFF\)"),
    "nothing.cif": ("nothing here\n", "holds no structures|cannot be read as a file of structures"),
    "truncated.cif": (cif([("Ga", "0 0 0", 1)])[:200], "cannot be read|holds no structures"),
    "broken.extxyz": (
        '2\nLattice="1 0 0 0 1 0 0 0 1"\nSi 0 0\n',
        "is truncated: line 1 says 2 atoms, and the file ends 1 lines too early",
    ),
    "empty.vasp": ("", "is empty"),
    "record.json": ('{"a": 1}', "a record with the keys a is no structure of pymatgen, OPTIMADE or JARVIS"),
    "shared.json": (
        json.dumps({**OPTIMADE, "species": [{"name": "gallium", "chemical_symbols": ["Ga", "Al"]}]}),
        "its sites of gallium are shared by elements",
    ),
    "layer.json": (json.dumps({**OPTIMADE, "dimension_types": [1, 1, 0]}), "not periodic in three dimensions"),
    "dummy.cif": (cif([("X", "0 0 0", 1), ("As", "0.25 0.25 0.25", 1)]), "X0?[+]? is no element"),
    "twice.cif": (cif([("Ga", "0 0 0", 1), ("As", "0.25 0.25 0.25", 1)]).replace("0.25 0.25 0.25", "0.01 0 0"), "at one place"),
    "POSCAR_short": (
        POSCAR.format("", "", "").replace("1 1\n", "1 2\n"),
        "something that belongs there is missing .* is it whole",
    ),
    "claims.extxyz": (frame(["Si"], ["0 0 0"]).replace("1", "99999999", 1), "line 1 says 99999999 atoms, and the file ends"),
    "underscores.xyz": ("99999991_0\n\nO 0 0 0\n", "line 1 says 999999910 atoms, and the file ends"),
    "columns.extxyz": (frame(["Si"], ["0 0 0"]).replace("S:1", "S:99999999"), "line 2: Properties names more columns"),
    "infinite.extxyz": (frame(["O"], ["0 0 0"], cell="4 -1e3080 0 0 4 0 0 0 4"), "NaN or infinite entries"),
    "spaced.extxyz": (
        frame(["Si"], ["0 0 0"]).replace("S:1", "S:99999999").replace("Properties=", "Properties ="),
        "line 2: Properties names more columns",
    ),
    "digits.extxyz": (frame(["Si"], ["0 0 0"]).replace("S:1", "S:1_00099999999"), "Properties names more columns"),
    "many_POSCAR": (POSCAR.format("", "", "").replace("1 1\n", "1 99999999\n"), "is truncated: 100000000 atoms, and 10 lines"),
    "long.cif": (cif([("Ga", "0 0 0", 1)]) + 30_000 * "a", "a line has more than 20000 letters"),
    "tag.res": ("TITL x\nCELL 1 3 3 3 90 90 90\nLATT -1\n[1.4, 2.4]\nSFAC Al\nAl 1 0 0 0 1\nEND\n", "cannot be read as a file"),
    "flat.extxyz": (frame(["Si"], ["0 0 0"], cell="1 0 0 1 0 0 0 0 1"), "volume"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path):
    content, message = REFUSED[name]
    with pytest.raises(ContentError, match=message) as caught:
        read_structures(write(tmp_path / name, content))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(ContentError, match="does not exist"):
        read_structures(tmp_path / "gone.cif")
    with pytest.raises(ContentError, match="is a folder"):
        read_structures(tmp_path)
    os.mkfifo(tmp_path / "pipe.cif")
    with pytest.raises(ContentError, match="is a pipe"):
        read_structures(tmp_path / "pipe.cif")


def test_slabs_of_ase_are_no_crystals():
    with pytest.raises(ContentError, match="slabs are no crystals"):
        CrystalSet.from_ase(fcc111("Al", (1, 1, 3), vacuum=8))
    assert len(CrystalSet.from_ase(bulk("Al"))) == 1
    assert molecule("H2O").pbc.any() == np.False_


# --- labelled crystals ----------------------------------------------------------------------------------------------------

DOS = np.exp(-0.5 * (np.linspace(-10, 10, 400) + 3) ** 2)


def silicon(energy=-10.8, names=("energy", "forces"), dos=DOS, **info):
    atoms = bulk("Si")
    atoms.arrays["dos"] = np.stack([dos, dos])
    atoms.info |= {"complete_below": 5.0, **info}
    if energy is not None and names == ("energy", "forces"):
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((2, 3), 0.1))
    elif energy is not None:
        atoms.info[names[0]], atoms.arrays[names[1]] = energy, np.full((2, 3), 0.1)
    return atoms


def labels(tmp_path, *frames):
    ase.io.write(tmp_path / "set.extxyz", list(frames), format="extxyz")
    return read_labels(tmp_path / "set.extxyz")


@pytest.mark.parametrize("names", [("energy", "forces"), ("REF_energy", "REF_forces"), ("dft_energy", "dft_force")])
def test_energies_by_any_of_their_names(names, tmp_path):
    crystals, notes = labels(tmp_path, silicon(names=names), silicon(-10.5, names=names))
    np.testing.assert_allclose(crystals.crystal_columns["energy"], [-10.8, -10.5])
    np.testing.assert_allclose(crystals.atom_columns["forces"], 0.1)
    np.testing.assert_allclose(crystals.atom_columns["dos"], [DOS] * 4, atol=1e-6)
    assert notes == ([] if names[0] == "energy" else [f"energies from {names[0]}", f"forces from {names[1]}"])


def test_what_is_left_out_is_said_by_crystal(tmp_path):
    frames = [silicon(charge=1.0), silicon(None), silicon(), silicon(None)]
    del frames[2].info["complete_below"]
    crystals, notes = labels(tmp_path, *frames)
    assert "energy" not in crystals.crystal_columns and "forces" not in crystals.atom_columns
    assert notes == [
        "no complete_below, taken as known up to the last energy: crystal 2 of 4",
        "energies left out of all crystals, because some have none: crystals 1, 3 of 4",
        "forces left out of all crystals, because some have none: crystals 1, 3 of 4",
        "not taken: charge",
    ]
    assert crystals.crystal_columns["complete_below"].tolist() == [5.0, 5.0, np.inf, 5.0]


def test_frames_without_labels_are_left_out_and_named(tmp_path):
    misplaced, slab, charged = silicon(), silicon(), silicon(None, charge=1.0)
    misplaced.positions = misplaced.get_scaled_positions()
    slab.pbc = (True, True, False)
    bad = [
        silicon(dos=DOS[:300]),
        bulk("Si"),
        silicon(complete_below="high"),
        silicon(dos=0 * DOS),
        silicon(dos=-DOS),
        misplaced,
    ]
    crystals, notes = labels(tmp_path, slab, silicon(), charged, silicon(), *bad[:4])
    assert len(crystals) == 3 and "energy" not in crystals.crystal_columns
    assert notes == [
        "left out: crystal 0 (is not periodic in three dimensions (pbc TTF); "
        "crystals are needed, periodic in three dimensions), "
        "crystal 4 (its DOS has 300 values for each atom, that of others 400), crystal 5 (no array 'dos'), "
        "crystal 6 (complete_below must be an energy in eV, not 'high'), crystal 7 (its DOS is zero everywhere) of 8",
        "energies left out of all crystals, because some have none: crystal 2 of 8",
        "forces left out of all crystals, because some have none: crystal 2 of 8",
        "not taken: charge",
    ]
    _, notes = labels(tmp_path, silicon(), *bad[4:])
    assert "crystal 1 (its DOS is negative or not finite), crystal 2 (atoms as near as 0.2" in notes[0]
    with pytest.raises(ContentError, match="no labelled crystal among 2; crystal 0: its DOS is zero everywhere"):
        labels(tmp_path, bad[3], bad[4])
