"""``dosmatgen inspect`` and ``dosmatgen compare``: a crystal against itself in all the ways in which people write it."""

import json

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import beta

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.cli import main

from .small_denoiser import save_small_denoiser

ENERGIES = np.linspace(-14, 10, 961)
FERMI = 6.31
BAND = beta.ppf((np.arange(300) + 0.5) / 300, 1.5, 1.5)  # with edges as of parabolic bands
PEAKS = np.random.default_rng(3).uniform([[-11], [-9]], [[-1.5], [-2]], (2, 12)).repeat(20, axis=1)
LEVELS = np.concatenate([np.stack([7 * BAND - 12.5, 4 * BAND - 11]), np.stack([8 * BAND - 8, 6 * BAND - 6]), PEAKS], axis=1)
EMPTY = np.stack([5 * BAND + 4, 4 * BAND + 4.5])


def crystal(sigma=0.3, energies=ENERGIES, gap=True):
    """Two sites with two filled bands with peaks and an empty one each, eight electrons, a gap of 4 eV; two spins."""
    levels = np.concatenate([LEVELS, EMPTY if gap else EMPTY - 4.5], axis=1)
    shape = np.exp(-0.5 * ((energies - levels[..., None]) / sigma) ** 2).sum(1) / (sigma * np.sqrt(2 * np.pi))
    sites = shape * 8 / LEVELS.size
    spins = np.stack([0.55 * sites, 0.45 * sites], axis=1)
    return Curves(spins[:, :, None], energies, sigma, energies[0], energies[-1], "vbm", 4.0)


def table(path, energies, columns, first="E-E_VBM (eV)", above="# sigma = 0.3 eV"):
    lines = [above, ",".join([first, *(f"{name} (states/eV)" for name in columns)])]
    lines += [",".join(f"{value:.6f}" for value in row) for row in np.column_stack([energies, *columns.values()])]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def sites(curves, scale=1.0):
    return {f"Si{i + 1}": scale * curve for i, curve in enumerate(curves.sites)}


@pytest.fixture
def reference(tmp_path):
    return table(tmp_path / "reference.csv", ENERGIES, sites(crystal()))


def compare(capsys, *arguments):
    status = main(["compare", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def refused(capsys, *arguments):
    assert main(["compare", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


def assert_same(distance):
    assert distance["mae"] <= 0.005 and distance["mae_total"] <= 0.005


def test_cut_at_minus_5(tmp_path, reference, capsys):
    some = ENERGIES >= -5
    cut = table(tmp_path / "cut.csv", ENERGIES[some], {k: v[some] for k, v in sites(crystal()).items()})
    distance = compare(capsys, cut, reference)
    assert_same(distance)
    assert distance["low"] == pytest.approx(-5)


def test_another_grid(tmp_path, reference, capsys):
    energies = np.linspace(-8, 8, 401)
    assert_same(compare(capsys, table(tmp_path / "grid.csv", energies, sites(crystal(energies=energies))), reference))


def test_another_broadening_that_is_said(tmp_path, reference, capsys):
    sharp = table(tmp_path / "sharp.csv", ENERGIES, sites(crystal(0.1)), above="# gaussian smearing of 0.1 eV")
    distance = compare(capsys, sharp, reference)
    assert_same(distance)
    assert distance["sigma"] == pytest.approx(0.3)


def test_another_broadening_that_is_not_said_is_refused(tmp_path, capsys):
    sharp = table(tmp_path / "sharp.csv", ENERGIES, sites(crystal(0.1)), above="# of silicon")
    broad = table(tmp_path / "broad.csv", ENERGIES, sites(crystal(0.3)), above="# of silicon")
    line = refused(capsys, sharp, broad)
    assert "broaden" in line and "--sigma-a" in line
    assert_same(compare(capsys, sharp, broad, "--sigma-a", 0.1, "--sigma-b", 0.3))
    known = table(tmp_path / "known.csv", ENERGIES, sites(crystal(0.3)))
    assert "--sigma-a" in refused(capsys, table(tmp_path / "half.csv", ENERGIES, sites(crystal(0.2)), above="# x"), known)


def test_spins_apart(tmp_path, reference, capsys):
    columns = {}
    for i, (up, down) in enumerate(crystal().values[:, :, 0]):
        columns |= {f"Si{i + 1} up": up, f"Si{i + 1} down": -down}
    assert_same(compare(capsys, table(tmp_path / "spins.csv", ENERGIES, columns), reference))


def test_one_spin_alone_is_refused(tmp_path, reference, capsys):
    one = {f"Si{i + 1} up": up for i, up in enumerate(crystal().values[:, 0, 0])}
    assert "'Si1 up (states/eV)' is of one spin" in refused(capsys, table(tmp_path / "up.csv", ENERGIES, one), reference)


def test_sites_scaled_with_the_total(tmp_path, reference, capsys):
    columns = {"total": crystal().total, **sites(crystal(), 0.43)}
    distance = compare(capsys, table(tmp_path / "scaled.csv", ENERGIES, columns), reference)
    assert_same(distance)
    assert "held 43.0 %" in distance["a"]


def test_sites_scaled_without_the_total_are_refused(tmp_path, reference, capsys):
    scaled = table(tmp_path / "scaled.csv", ENERGIES, sites(crystal(), 0.43))
    assert "multiplied by 2.33" in refused(capsys, scaled, reference)


@pytest.mark.parametrize(
    ("first", "above"),
    [("energy (eV)", f"# sigma = 0.3 eV\n# EFermi = {FERMI} eV"), ("E (eV)", f"# E_VBM\n# Fermi energy: {FERMI}, sigma: 0.3")],
)
def test_absolute_energies_with_the_fermi_energy(tmp_path, reference, capsys, first, above):
    absolute = table(tmp_path / "absolute.csv", ENERGIES + FERMI, sites(crystal()), first, above)
    assert_same(compare(capsys, absolute, reference))


def test_a_fermi_energy_within_the_gap(tmp_path, reference, capsys):
    """The valence band maximum is found below it, behind the tail of the broadening."""
    absolute = table(
        tmp_path / "a.csv", ENERGIES + FERMI, sites(crystal()), "energy (eV)", f"# sigma = 0.3 eV, E_F = {FERMI + 1.9}"
    )
    distance = compare(capsys, absolute, reference)
    assert "gap" in distance["a"]
    assert distance["mae"] < 0.02


def test_absolute_energies_alone_are_refused(tmp_path, reference, capsys):
    absolute = table(tmp_path / "absolute.csv", ENERGIES + FERMI, sites(crystal()), "energy (eV)")
    assert "zero of energy not sure; give --zero-a" in refused(capsys, absolute, reference)
    assert_same(compare(capsys, absolute, reference, "--zero-a", FERMI))
    bare = tmp_path / "bare.dat"
    np.savetxt(bare, np.column_stack([ENERGIES + FERMI, crystal().total]))
    also = tmp_path / "also.dat"
    np.savetxt(also, np.column_stack([ENERGIES, crystal().total]))
    assert "zero of energy" in refused(capsys, bare, also, "--n-atoms", 2)


def test_bare_numbers_are_compared_as_they_are(tmp_path, capsys):
    for name in ("a.dat", "b.dat"):
        np.savetxt(tmp_path / name, np.column_stack([ENERGIES, crystal().total]))
    distance = compare(capsys, tmp_path / "a.dat", tmp_path / "b.dat", "--n-atoms", 2)
    assert_same(distance)
    assert any("zero of energy" in note for note in distance["notes"])


def test_another_crystal_is_far(tmp_path, reference, capsys):
    other = table(tmp_path / "metal.csv", ENERGIES, sites(crystal(gap=False)))
    distance = compare(capsys, other, reference)
    expected = np.abs(crystal(gap=False).sites - crystal().sites).mean()
    assert distance["mae"] == pytest.approx(expected, rel=0.02)
    near = compare(capsys, other, reference, "--window", -2, 3)
    assert (near["low"], near["high"]) == (-2, 3)


def test_a_total_needs_its_atoms(tmp_path, reference, capsys):
    total = table(tmp_path / "total.csv", ENERGIES, {"total": crystal().total})
    assert "--n-atoms" in refused(capsys, total, reference)
    assert_same(compare(capsys, total, reference, "--n-atoms", 2))
    double = table(tmp_path / "double.csv", ENERGIES, {"total": 2 * crystal().total})
    assert_same(compare(capsys, double, total, "--n-atoms", "4,2"))
    per_atom = tmp_path / "per_atom.csv"
    table(per_atom, ENERGIES, {"total": crystal().total / 2})
    per_atom.write_text(per_atom.read_text().replace("states/eV)", "states/eV/atom)"))
    assert_same(compare(capsys, per_atom, reference))


@pytest.fixture
def data_set(tmp_path):
    """Two crystals of silicon, the second with the curves of :func:`crystal`."""
    one = with_curves(CrystalSet.from_ase(bulk("Si")), crystal(gap=False).summed())
    two = with_curves(CrystalSet.from_ase(bulk("Si")), crystal().summed())
    CrystalSet.concatenate([one, two]).save(tmp_path / "set.npz")
    return tmp_path / "set.npz"


def test_crystals_of_a_set(data_set, reference, capsys):
    assert_same(compare(capsys, f"{data_set}#1", reference))
    assert compare(capsys, f"{data_set}#0", f"{data_set}#1")["mae"] > 0.02
    assert "say which" in refused(capsys, data_set, reference)
    assert "not 2" in refused(capsys, f"{data_set}#2", reference)


def test_text_says_what_was_read_and_the_distances(reference, capsys):
    assert main(["compare", reference, reference]) == 0
    out = capsys.readouterr().out
    assert "2 sites (Si2)" in out and "mean absolute difference  0.0000 states/eV/atom" in out


# --- inspect --------------------------------------------------------------------------------------------------------------


def inspect(capsys, path):
    status = main(["inspect", str(path), "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def test_inspect_curves(reference, capsys):
    record = inspect(capsys, reference)
    assert (record["kind"], record["sites"], record["zero"], record["sigma"]) == ("density of states", 2, "vbm", 0.3)
    assert record["elements"] == ["Si"]
    energies = record["energies"]
    assert (energies["first"], energies["last"], energies["number"], energies["unit"]) == (-14, 10, 961, "eV")
    assert record["electrons_below_zero"] == pytest.approx(crystal().electrons, abs=0.01)


def test_inspect_a_data_set_and_one_crystal_of_it(data_set, capsys):
    record = inspect(capsys, data_set)
    assert (record["kind"], record["crystals"], record["sites"], record["elements"]) == ("data set", 2, 4, ["Si"])
    curves = record["densities_of_states"]
    assert (curves["crystals"], curves["sigma"], curves["with_a_gap"], curves["meaning"]) == (2, 0.3, 2, ["partition"])
    assert inspect(capsys, f"{data_set}#1")["gap"] == 4.0
    assert main(["inspect", str(data_set)]) == 0
    assert "961 every 0.025 eV" in capsys.readouterr().out


def test_inspect_structures(tmp_path, capsys):
    for name, form in (("a.cif", "cif"), ("POSCAR", "vasp"), ("a.extxyz", "extxyz")):
        bulk("GaAs", "zincblende", a=5.65).write(tmp_path / name, format=form)
        record = inspect(capsys, tmp_path / name)
        assert (record["kind"], record["crystals"], record["sites"], record["elements"]) == ("structures", 1, 2, ["Ga", "As"])
    structure = CrystalSet.from_ase(bulk("Si")).to_pymatgen()[0]
    (tmp_path / "a.json").write_text(json.dumps(structure.as_dict()))
    assert inspect(capsys, tmp_path / "a.json")["elements"] == ["Si"]


def test_structures_that_are_no_ordered_crystals_are_refused(tmp_path, capsys):
    from pymatgen.core import Lattice, Structure

    mixed = Structure(Lattice.cubic(5.5), [{"Si": 0.5, "Ge": 0.5}], [[0, 0, 0]])
    mixed.to(str(tmp_path / "mixed.cif"))
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    slab.write(tmp_path / "slab.extxyz")
    (tmp_path / "POSCAR").write_text("C Ni\n5.43\n0 .5 .5\n.5 0 .5\n.5 .5 0\n2\nDirect\n0 0 0\n.25 .25 .25\n")
    for name, words in (("mixed.cif", "Si:0.5, Ge:0.5"), ("slab.extxyz", "not periodic"), ("POSCAR", "names no elements")):
        assert main(["inspect", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_inspect_target_checkpoint_and_force_field(tmp_path, capsys):
    DosTarget(np.exp(-((DEFAULT_GRID.points[None] + 3) ** 2)), n_atoms=1).save(tmp_path / "target.npz")
    assert inspect(capsys, tmp_path / "target.npz")["kind"] == "target"
    save_small_denoiser(tmp_path / "model.safetensors")
    record = inspect(capsys, tmp_path / "model.safetensors")
    assert (record["kind"], record["model"], record["energies"]["number"]) == ("checkpoint", "denoiser", DEFAULT_GRID.n)
    import torch

    torch.save({"a": 1}, tmp_path / "forces.model")
    assert inspect(capsys, tmp_path / "forces.model")["kind"] == "force field"
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-10])
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 2
    assert "truncated" in capsys.readouterr().err


def test_records_of_mp_dos(tmp_path, capsys):
    silicon = bulk("Si")
    record = {
        "structure_id": "a",
        "positions": silicon.positions.tolist(),
        "cell": silicon.cell.array.tolist(),
        "atomic_numbers": [14, 14],
        "y": np.ones((2, 400)).tolist(),
    }
    (tmp_path / "mp.json").write_text(json.dumps([record]))
    found = inspect(capsys, tmp_path / "mp.json")
    assert (found["kind"], found["crystals"]) == ("data set", 1)
    assert compare(capsys, tmp_path / "mp.json", f"{tmp_path / 'mp.json'}#0")["mae"] == 0


@pytest.mark.parametrize(
    "content", [b"", b"hello world\n", b"\x89PNG\r\n", b"PK\x03\x04 and no more", b"{", b'{"a": 1}', b"1 2\n"]
)
def test_what_is_none_of_these_is_refused_in_one_line(tmp_path, capsys, content):
    (tmp_path / "file").write_bytes(content)
    for command in (["inspect"], ["compare", str(tmp_path / "file")]):
        assert main([*command, str(tmp_path / "file")]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and "file" in line
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
