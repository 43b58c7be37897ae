"""Curves of elements, of some atoms, of one spin or orbital: cells are made of them, or one line says why not."""

import numpy as np
import pytest

from aiida_dosmatgen.core.curve_files import compare_files, read_content
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target.files import target_from_text

from .test_read import CURVE, ENERGIES, rows

A, B = 0.6 * CURVE, 0.4 * CURVE
S, P, D = 0.3 * CURVE, 0.5 * CURVE, 0.2 * CURVE


def on(target, curve):
    return np.interp(target.grid.points, ENERGIES, curve)


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("energy,Fe,O", (A, B)),
        ("E,total,Fe,O", (CURVE, A, B)),
        ("E;Fe;O;Total", (A, B, CURVE)),
        ("E,Fe_up,Fe_down,O_up,O_down", (0.7 * A, -0.3 * A, 0.6 * B, -0.4 * B)),
        ("E,Fe dos,O dos,Fe idos,O idos", (A, B, np.cumsum(A), np.cumsum(B))),
        ("E,Fe s,Fe p,O s,O p", (0.3 * A, 0.7 * A, 0.3 * B, 0.7 * B)),
        ("E,In,N", (A, B)),
        ("E,PDOS(Si),PDOS(O)", (A, B)),
        ("E,Total Si,Total O", (A, B)),
    ],
)
def test_curves_of_elements_are_sites_or_sums(heading, columns):
    text = f"{heading}\n" + rows(ENERGIES, *columns, separator=";" if ";" in heading else ",")
    with pytest.raises(ContentError, match=r"a\.csv: a curve of an element may be that of one atom, .*\(2 if it is one each\)"):
        target_from_text(text, "a.csv")
    sums = target_from_text(text, "a.csv", n_atoms=5)
    assert (sums.target.kind, sums.target.n_atoms) == ("total", 5) and "curves of elements added to the total" in sums.said
    np.testing.assert_allclose(5 * sums.target.total, on(sums.target, CURVE), atol=2e-3)
    sites = target_from_text(text, "a.csv", n_atoms=2).target
    assert sites.kind == "sites"
    np.testing.assert_allclose(sites.curves, [on(sites, A), on(sites, B)], atol=2e-3)
    chosen = target_from_text(text, "a.csv", n_atoms=6, site_indices=[0, 4]).target
    assert chosen.sites == (0, 4)
    with pytest.raises(ContentError, match="curves of 2 elements, but 1 atoms"):
        target_from_text(text, "a.csv", n_atoms=1)


def test_the_number_of_atoms_may_be_in_the_file():
    made = target_from_text("# number of atoms: 5\nE,Fe,O\n" + rows(ENERGIES, A, B), "a.csv")
    assert (made.target.kind, made.target.n_atoms) == ("total", 5)


def test_columns_of_one_element_are_sites():
    for heading in ("E,Si,Si", "E,Si1,Si2", "E,Si(1),Si(2)", "E,Si0,Si1", "E,Ga1,As1", "E,atom 1,atom 2"):
        assert target_from_text(f"{heading}\n" + rows(ENERGIES, A, B), "a.csv").target.n_atoms == 2, heading


def test_elements_are_compared_with_the_atoms_of_the_cell():
    whole = read_content("E-E_F,total\n" + rows(ENERGIES, CURVE), "whole.csv")
    elements = read_content("E-E_F,Fe,O\n" + rows(ENERGIES, A, B), "elements.csv")
    distance, _ = compare_files(whole, elements, (5, 5))
    assert distance.mae == pytest.approx(0, abs=1e-6)
    with pytest.raises(ContentError, match="elements.csv: a curve of an element may be"):
        compare_files(whole, elements, (5, None))


@pytest.mark.parametrize("heading", ["E,Ga1,As5", "E,Fe2,O3", "E,Fe3,Fe4"])
def test_some_atoms_are_no_cell(heading):
    text = f"{heading}\n" + rows(ENERGIES, A, B)
    with pytest.raises(ContentError, match="not of all atoms of a cell; say which .* --sites 0,4 --n-atoms N"):
        target_from_text(text, "a.csv", n_atoms=2)
    chosen = target_from_text(text, "a.csv", n_atoms=8, site_indices=[0, 4]).target
    assert chosen.sites == (0, 4) and chosen.n_atoms == 8
    total = heading.replace("E,", "E,total,")
    made = target_from_text(f"{total}\n" + rows(ENERGIES, CURVE, A, B), "a.csv", n_atoms=8)
    assert made.target.kind == "total" and f"{heading[2:].replace(',', ', ')} left out" in made.said


def test_single_orbitals_of_atoms_are_pieces():
    text = "E,Ti t2g,Ti eg,O 2p\n" + rows(ENERGIES, A / 2, A / 2, B)
    with pytest.raises(ContentError, match="Ti t2g, Ti eg, O 2p are orbitals, not all of an atom"):
        target_from_text(text, "a.csv", n_atoms=3)
    made = target_from_text("Energy,TDOS,Ti_d,O_p\n" + rows(ENERGIES, CURVE, A, B), "a.csv", n_atoms=3)
    assert "Ti_d, O_p left out" in made.said and made.target.dos.zero is None
    np.testing.assert_allclose(3 * made.target.total, on(made.target, CURVE), atol=2e-3)


ELEMENTS = "E-E_F,total,Fe up,Fe down,O1_s,O1_p\n" + rows(ENERGIES, CURVE, 0.7 * A, 0.3 * A, B, 0 * B)
ORBITALS = "#Energy           s           p           d         tot\n" + rows(ENERGIES, S, P, D, CURVE, separator="  ")
AIMS = "# Energy (eV)  total dos  l=0  l=1\n" + rows(ENERGIES, CURVE, S, P + D, separator="  ")


@pytest.mark.parametrize(
    ("name", "text"), [("PDOS_A1.dat", ORBITALS), ("atom_projected_dos_Ga0001.dat", AIMS), ("PDOS_A12_SOC.dat", ORBITALS)]
)
def test_files_of_one_atom(name, text):
    with pytest.raises(ContentError, match="not of all atoms of a cell"):
        target_from_text(text, name, n_atoms=2)
    target = target_from_text(text, name, n_atoms=2, site_indices=[1]).target
    assert target.sites == (1,)
    np.testing.assert_allclose(target.curves[0], on(target, CURVE), atol=2e-3)


@pytest.mark.parametrize(("name", "text"), [("PDOS_Ga.dat", ORBITALS), ("Ga_l_proj_dos.dat", AIMS), ("Ga_dos.dat", AIMS)])
def test_files_of_one_element_are_warned_of(name, text):
    made = target_from_text(text, name, n_atoms=2)
    assert any(warning.startswith("of Ga alone, by its name") for warning in made.warnings)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Ga_l_proj_dos_spin_up.dat", AIMS, "is of one spin, by its name"),
        ("case.dos1evup", "#ENERGY total-DOS 1:total\n" + rows(ENERGIES, CURVE, A, separator=" "), "is of one spin"),
        ("a.csv", "E (eV),DOS (states/eV/spin)\n" + rows(ENERGIES, CURVE), r"'DOS \(states/eV/spin\)' is per spin"),
        ("swapped.csv", rows(CURVE, ENERGIES), "the second column seems to hold the energies"),
    ],
)
def test_what_is_half_or_turned_round(name, text, message):
    with pytest.raises(ContentError, match=message):
        target_from_text(text, name, n_atoms=2)


def test_one_column_that_is_the_sum_of_two_is_the_total():
    for columns in ((CURVE, A, B), (A, B, CURVE)):
        made = target_from_text(rows(ENERGIES, *columns), "a.csv", n_atoms=4)
        assert made.target.kind == "total" and "the others left out: two sites, or two spins" in made.said
        np.testing.assert_allclose(4 * made.target.total, on(made.target, CURVE), atol=2e-3)
    sites = target_from_text(rows(ENERGIES, CURVE, A, B / 2, B / 2), "a.csv").target
    assert sites.n_atoms == 3


@pytest.mark.parametrize(
    "heading", [r"$E - E_\mathrm{F}$ (eV)", "E - E$_F$ (eV)", "Energy (eV) vs Fermi level", "E-E_{Fermi}", "E_minus_Ef"]
)
def test_ways_to_write_the_fermi_energy(heading):
    assert read_content(f"{heading},DOS\n" + rows(ENERGIES, CURVE), "a.csv").curves.zero == "fermi"


def test_words_that_say_nothing_of_the_zero():
    for heading in ("Energy,TDOS", "energy,s,px,x2-y2"):
        columns = [CURVE] if "TDOS" in heading else [S, P, D]
        assert read_content(f"{heading}\n" + rows(ENERGIES, *columns), "a.csv").curves.zero is None


def test_empty_cells_behind_columns_with_names():
    text = "E-E_F (eV),DOS,remark\n" + rows(ENERGIES, CURVE).replace("\n", ",\n")
    assert read_content(text, "a.csv").curves.zero == "fermi"


def test_energies_that_are_the_index_of_pandas():
    read = read_content(",DOS\n" + rows(ENERGIES, CURVE), "a.csv")
    np.testing.assert_allclose(read.curves.energies, ENERGIES)
    assert "the first column, without a name, taken for the energies" in read.said


@pytest.mark.parametrize(
    ("line", "zero", "shift"),
    [
        ("# Fermi level (5.6 eV) set to zero", "fermi", 0.0),
        ("# Fermi energy 5.6 eV subtracted", "fermi", 0.0),
        ("# energies shifted by E_F=5.6 eV", "fermi", 0.0),
        ("# E_F = 0.25", "fermi", 0.25),
        ("Fermi energy (eV),0.25", "fermi", 0.25),
        ("# VBM = 0.25, CBM = 1.5", "vbm", 0.25),
        ("# HOMO: 0.25 eV", "vbm", 0.25),
        ("# VBM (eV) = 250 meV", "vbm", 0.25),
    ],
)
def test_lines_that_state_the_zero(line, zero, shift):
    for heading in ("E (eV),DOS\n", ""):
        read = read_content(f"{line}\n{heading}" + rows(ENERGIES, CURVE), "a.csv")
        assert read.curves.zero == zero, (line, heading)
        assert read.curves.energies[0] == pytest.approx(ENERGIES[0] - shift)


def test_a_stated_band_edge_outside_of_the_energies_is_refused():
    with pytest.raises(ContentError, match="the valence band maximum of 50 eV is outside of the energies, -10 to 10 eV"):
        read_content("# VBM = 50\nE,DOS\n" + rows(ENERGIES, CURVE), "a.csv")


def test_atomic_units_beside_electronvolts_are_arbitrary():
    for unit in ("a.u.", "a. u.", "arb. units"):
        made = target_from_text(f"Energy (eV),DOS ({unit})\n" + rows(ENERGIES, CURVE), "a.csv", n_atoms=2)
        np.testing.assert_allclose(2 * made.target.total, on(made.target, CURVE), atol=2e-3)
        assert any("in units that are not states/eV" in warning for warning in made.warnings)
    both = read_content("Energy (a.u.),DOS (a.u.)\n" + rows(ENERGIES / 27.211386, CURVE * 27.211386, form="{:.9f}"), "a.csv")
    np.testing.assert_allclose(both.curves.energies, ENERGIES, atol=1e-4)
    np.testing.assert_allclose(both.curves.total, CURVE, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("E,DOS\n" + rows(ENERGIES, CURVE, form="{:.3f}").replace(".", ","), "commas seem to be decimal"),
        ("x,y\n" + rows(CURVE, ENERGIES), "the second column seems to hold the energies"),
        ("E_F - E (eV),DOS\n" + rows(ENERGIES, CURVE), "does not hold energies that grow upwards"),
        ("E_bind,DOS\n" + rows(ENERGIES, CURVE), "does not hold energies that grow upwards"),
        ("E,col1,col2\n" + rows(ENERGIES, A, B), "'col1' cannot be understood"),
        (
            "81 # number of points\n# energy elec_states sum_states\n" + rows(ENERGIES, A, B, separator=" "),
            "'elec_states' cannot",
        ),
    ],
)
def test_dialects_that_are_refused(text, message):
    with pytest.raises(ContentError, match=message):
        target_from_text(text, "a.csv", n_atoms=2)


def test_names_that_look_like_others():
    for heading, elements in {"E,K,I": ("K", "I"), "E,In,N": ("In", "N")}.items():
        assert read_content(f"{heading}\n" + rows(ENERGIES, A, B), "a.csv").elements == elements
    assert read_content("E/eV,D/eV^-1\n" + rows(ENERGIES, CURVE), "a.csv").curves.channels == ("all",)
    assert read_content("E,2s,2p\n" + rows(ENERGIES, A, B), "a.csv").curves.channels == ("s", "p", "d", "f")
    assert read_content("E,α,β\n" + rows(ENERGIES, A, B), "a.csv").curves.values.shape[1] == 2


def test_siesta_files_have_absolute_energies_with_one_spin_and_with_four_columns():
    for columns in ((CURVE,), (A, B, 0 * A, -0.1 * B)):
        text = rows(ENERGIES + 5, *columns, separator=" ")
        with pytest.raises(ContentError, match="is a SIESTA DOS: its energies are absolute"):
            target_from_text(text, "si.DOS", n_atoms=2)
        made = target_from_text(text, "si.DOS", n_atoms=2, zero=5.0)
        np.testing.assert_allclose(2 * made.target.total, on(made.target, CURVE), atol=2e-3)


def test_a_doscar_whose_number_of_energies_runs_into_the_word_before():
    energies = np.linspace(-10, 10, 10_001)
    total = np.interp(energies, ENERGIES, CURVE)
    head = "1 1 1 0\n1 1 1 1 1\n1e-4\n CAR\n Si\n"
    text = f"{head}     10.00000000    -10.0000000010001      0.00000000      1.00000000\n"
    read = read_content(text + rows(energies, total, np.cumsum(total) * 0.002, separator=" "), "DOSCAR")
    np.testing.assert_allclose(read.curves.total, total, atol=1e-5)


@pytest.mark.parametrize("heading", ["DOS per atom", "DOS/atom", "DOS (states/eV/atom)", "dos_per_atom", "DOS (per atom)"])
def test_a_density_for_each_atom(heading):
    made = target_from_text(f"E,{heading}\n" + rows(ENERGIES, CURVE), "a.csv")
    assert made.target.n_atoms is None
    np.testing.assert_allclose(made.target.total, on(made.target, CURVE), atol=2e-3)


def test_angular_momenta_beyond_f_are_left_out():
    text = "# Energy (eV)  total dos  l=0  l=1  l=2  l=3  l=4\n" + rows(
        ENERGIES, CURVE, S, P, D, 0 * D, 1e-4 * D, separator="  "
    )
    made = target_from_text(text, "aims.dat", n_atoms=2)
    assert "l=4 left out" in made.said and "total with s p d" in made.said
