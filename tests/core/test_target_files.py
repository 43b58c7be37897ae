"""Files that people have, as targets: each gives the curve that was written into it, or one line that says what to do."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.files import read_target, target_from_text

from .curve_files.test_dialects import dialects
from .curve_files.test_read import CURVE, ENERGIES, HARTREE, STRUCTURE, complete_dos, doscar, rows, write_projwfc
from .curve_files.test_vasprun import vasprun

PLAIN = rows(ENERGIES, CURVE)
INTEGRAL = np.concatenate([[0], np.cumsum(0.125 * (CURVE[1:] + CURVE[:-1]))])
SPACED = rows(ENERGIES, CURVE, separator=" ")
UP, DOWN = 0.7 * CURVE, 0.3 * CURVE
S, P, D = 0.3 * CURVE, 0.5 * CURVE, 0.2 * CURVE
ATOMS = 2
EV = f"{5.728 / HARTREE:.4f}"


def on_the_grid(curve):
    return np.interp(DEFAULT_GRID.points, ENERGIES, curve)


TOTALS = {
    "tot_and_integrated.csv": "E,DOS,Integrated DOS\n" + rows(ENERGIES, CURVE, INTEGRAL),
    "hartree.csv": "E (Ha),DOS (1/Ha)\n" + rows(ENERGIES / HARTREE, CURVE * HARTREE, form="{:.8f}"),
    "unicode_minus.csv": "E,DOS\n" + PLAIN.replace("-", "\u2212"),
    "utf16.csv": ("Energy,DOS\n" + PLAIN).encode("utf-16"),
    "total_s_p_d.csv": "E-Ef,total,s,p,d\n" + rows(ENERGIES, CURVE, S, P, D),
    "Si_dos_sumo.dat": "# energy s p\n" + rows(ENERGIES, S, P + D, separator="  "),
    "sumo_spin.dat": "# energy s(up) s(down) p(up) p(down)\n"
    + rows(ENERGIES, 0.7 * S, -0.3 * S, 0.7 * (P + D), -0.3 * (P + D), separator=" "),
    "bom_no_header.csv": "\ufeff" + PLAIN,
    "PDOS_Si_vaspkit.dat": "#Energy  s  py  pz  px  dxy  dyz  dz2  dxz  x2-y2  tot\n"
    + rows(ENERGIES, S, *([P / 3] * 3), *([D / 5] * 5), CURVE, form="{:12.6f}", separator=" "),
    "index_column.csv": ",energy,dos\n" + "".join(f"{i},{line}\n" for i, line in enumerate(PLAIN.splitlines())),
    "xmgrace.agr": '@    title "DOS"\n@type xy\n' + SPACED + "&\n",
    "atom_proj_dos_aims.dat": "# Partial DOS, Fermi level at zero\n# Energy (eV) total dos, l=0, l=1\n"
    + rows(ENERGIES, CURVE, S, P + D, separator=" "),
    "fortran_exponents.dat": "# E DOS\n" + SPACED.replace(" 0.000000", "  0.1234-100").replace(" 0.0", " 0.0D+00"[:4]),
    "spin_up_minus_down.csv": "E,up,down\n" + rows(ENERGIES, UP, -DOWN),
    "spin_up_down_positive.csv": "E (eV),spin up,spin down\n" + rows(ENERGIES, UP, DOWN),
    "de_semicolon_decimal_comma.csv": "Energie (eV);DOS (1/eV)\n" + rows(ENERGIES, CURVE, separator=";").replace(".", ","),
    "digitised.csv": rows(ENERGIES[::-1], CURVE[::-1], separator="\t").replace(".", ","),
    "abinit_DOS": f"# ABINIT package : DOS file\n# nsppol = 1\n# Fermi energy : {EV}\n# energy(Ha)  DOS  integrated DOS\n"
    + rows(ENERGIES / HARTREE + float(EV), CURVE * HARTREE, INTEGRAL, form="{:14.9f}", separator=" "),
    "descending.csv": "E,DOS\n" + rows(ENERGIES[::-1], CURVE[::-1]),
    "comment_percent.dat": "% energy dos\n" + SPACED,
    "bom.json": "\ufeff" + json.dumps({"energies": ENERGIES.tolist(), "total": CURVE.tolist()}),
    "si.dos": "#  E (eV)   dos(E)     Int dos(E) EFermi =    6.313 eV\n"
    + rows(ENERGIES + 6.313, CURVE, INTEGRAL, form="{:.8f}", separator=" "),
    "si.pdos_tot": "# E (eV)  dos(E)    pdos(E)\n" + rows(ENERGIES, CURVE, 0.9 * CURVE, separator=" "),
    "lobster_DOSCAR": "2 2 1 0\n0.2E+02 0 0 0 0\n1.0E-4\nLOBSTER\nSi\n10.0 -10.0 81 0.0; 1.0\n"
    + rows(ENERGIES, CURVE, INTEGRAL, separator=" "),
    "pipes.md": "| energy / eV | DOS |\n" + "".join(f"| {line.replace(',', ' | ')} |\n" for line in PLAIN.splitlines()),
    "compound.csv": "Energy (eV),GaAs\n" + PLAIN,
    "shuffled.csv": rows(*np.random.default_rng(0).permutation(np.stack([ENERGIES, CURVE], 1)).T),
    "transposed.csv": ",".join(map(str, ENERGIES)) + "\n" + ",".join(map(str, CURVE)),
    "of_pandas.csv": "0,1\n" + PLAIN,
    "german.txt": "Energie in eV\tDOS in 1/eV\n" + rows(ENERGIES, CURVE, separator="\t").replace(".", ","),
    "of_excel.csv": "sep=;\nE;DOS\n" + rows(ENERGIES, CURVE, separator=";") + ";\n;\n",
    "latex.csv": "$E-E_F$ (eV),$g(E)$\n" + PLAIN,
    "case.dos1": "# Si\n#  EF=  0.35000\n# ENERGY  total-DOS  1:total\n"
    + rows(ENERGIES / (HARTREE / 2) + 0.35, CURVE * HARTREE / 2, CURVE, form="{:.8f}", separator=" "),
    "case.dos1ev": "# Si\n#  EF=  0.00000\n# ENERGY  total-DOS  1:total 1:s\n" + rows(ENERGIES, CURVE, S, P, separator=" "),
    "optados.dat": "#  Column        Data\n#     1        Energy (eV)\n#     2        DOS (electrons per eV)\n"
    "#     3        Integrated DOS (electrons)\n" + rows(ENERGIES, CURVE, INTEGRAL, separator=" "),
    "TDOS.dat": "#Energy   TDOS-UP  TDOS-DOWN\n" + rows(ENERGIES, UP, -DOWN, separator=" "),
    "json_in_json.json": json.dumps(json.dumps({"energies": ENERGIES.tolist(), "total": CURVE.tolist()})),
    "table.csv.gz": gzip.compress(("E,DOS\n" + PLAIN).encode()),
}


@pytest.mark.parametrize("name", TOTALS)
def test_a_total(name):
    options = {"zero": 0.0} if name == "si.pdos_tot" else {}  # whose energies are absolute
    made = target_from_text(TOTALS[name], name, n_atoms=ATOMS, **options)
    target = made.target
    assert (target.kind, target.n_atoms, target.grid) == ("total", ATOMS, DEFAULT_GRID)
    np.testing.assert_allclose(ATOMS * target.total, on_the_grid(CURVE), atol=2e-3)
    assert target.dos.meaning == "partition" and target.sigma is None
    assert "2.51 electrons below" in made.said and "\n" not in made.said
    channels = " with s p" in made.said
    assert (target.dos.channels == ("s", "p", "d", "f")) == channels
    assert (
        (target.dos.values.shape[1] == 2)
        == ("both spins (added)" in made.said)
        == any(w in name for w in ("spin", "up", "TDOS"))
    )
    if channels:
        np.testing.assert_allclose(target.dos.values[0, :, 0].sum(0), 0.3 * target.total, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "zero", "words"),
    [
        ("tot_and_integrated.csv", None, "Integrated DOS left out"),
        ("hartree.csv", None, "energies converted from hartree"),
        ("total_s_p_d.csv", "fermi", "energies relative to the Fermi energy, which is zero"),
        ("PDOS_Si_vaspkit.dat", "fermi", "VASPKIT"),
        ("atom_proj_dos_aims.dat", "fermi", "energies relative to the Fermi energy"),
        ("abinit_DOS", "fermi", "Fermi energy 5.728 eV"),
        ("si.dos", "fermi", "Int dos(E) left out; Fermi energy 6.313 eV"),
        ("descending.csv", None, "energies fall, turned round"),
        ("utf16.csv", None, "0 eV taken for the highest occupied level (--zero)"),
        ("compound.csv", None, "GaAs, the one curve, taken for the total"),
        ("shuffled.csv", None, "energies put in order"),
        ("transposed.csv", None, "rows turned into columns"),
        ("of_pandas.csv", None, "a first row of column numbers left out"),
        ("case.dos1", "fermi", "DOS of WIEN2k"),
        ("case.dos1ev", "fermi", "1:total, 1:s left out"),
        ("optados.dat", None, "Integrated DOS (electrons) left out"),
    ],
)
def test_what_was_made_of_it_is_said(name, zero, words):
    made = target_from_text(TOTALS[name], name, n_atoms=ATOMS)
    assert words in made.said and made.target.dos.zero == zero
    assert made.said.startswith(f"{name}: ")


def test_sites():
    """Per-site files: the curve of each site, the sum of which is the total."""
    sites = np.stack([0.6 * CURVE, 0.4 * CURVE])
    for text, elements in (
        (rows(ENERGIES, *sites, 0.1 * CURVE), None),
        ("energy,Ga1,As2\n" + rows(ENERGIES, *sites), "Ga As"),
        ("energy,Ga1 s,Ga1 p,As2 s,As2 p\n" + rows(ENERGIES, *(x * s for s in sites for x in (0.3, 0.7))), "Ga As"),
        ("E,Fe1 up,Fe1 down,O2 up,O2 down\n" + rows(ENERGIES, *(x * s for s in sites for x in (0.7, -0.3))), "Fe O"),
    ):
        made = target_from_text(text, "sites.csv")
        n = 3 if elements is None else 2
        assert (made.target.kind, made.target.n_atoms, len(made.target.curves)) == ("sites", n, n)
        np.testing.assert_allclose(
            made.target.curves[:2], [np.interp(DEFAULT_GRID.points, ENERGIES, s) for s in sites], atol=2e-3
        )
        assert elements is None or f"2 sites ({elements})" in made.said


# --- codes ----------------------------------------------------------------------------------------------------------------


def test_doscar():
    made = target_from_text(doscar(), "DOSCAR")
    assert made.target.n_atoms == 2 and made.target.dos.zero == "fermi"
    np.testing.assert_allclose(2 * made.target.total, on_the_grid(CURVE), atol=2e-3)


def test_a_doscar_of_blank_lines_is_refused():
    for text in (TOTALS["lobster_DOSCAR"].replace("Si\n", "Si\n\n", 1), "2 2 1 0\n\n\n\n\n 10 -10 81 0.0 1.0\n0 0 0\n"):
        with pytest.raises(ContentError, match="DOSCAR"):
            target_from_text(text.replace("10.0 -10.0 81 0.0; 1.0\n", "\n"), "DOSCAR", n_atoms=2)


def noncollinear_doscar(orbitals, magnetic):
    """Columns of each orbital: density, and magnetization along x, y and z."""
    lines = [" 2 2 1 0", " 0.2E+02 0 0 0 0", " 1E-4", " CAR", " Fe2", " 16.0 -4.0 81 6.0 1.0"]
    text = "\n".join(lines) + "\n" + rows(ENERGIES + 6, CURVE, INTEGRAL, form="{:.8f}", separator=" ")
    share = 0.4 * CURVE / orbitals
    columns = [c for _ in range(orbitals) for c in (share, 0 * share, 0 * share, -0.6 * share if magnetic else 0 * share)]
    for _ in range(2):
        text += lines[-1] + "\n" + rows(ENERGIES + 6, *columns, form="{:.8f}", separator=" ")
    return text


@pytest.mark.parametrize("magnetic", [False, True])
@pytest.mark.parametrize("orbitals", [3, 4, 9, 16])
def test_doscar_with_spin_orbit_coupling(orbitals, magnetic):
    target = target_from_text(noncollinear_doscar(orbitals, magnetic), "DOSCAR").target
    assert target.dos.projected == pytest.approx(0.8, abs=1e-3) and target.dos.values.shape[1] == 1
    np.testing.assert_allclose(2 * target.total, on_the_grid(CURVE), atol=2e-3)
    of_s = target.dos.values[:, 0, 0].sum() / target.dos.values.sum()
    assert of_s == pytest.approx(1 / orbitals, abs=1e-3)


def test_vasprun_with_spin_orbit_coupling():
    text = vasprun()
    start = '<set comment="ion 1"><set comment="spin 1">'
    block = text[text.index(start) + len(start) : text.index("</set></set>", text.index(start))]
    others = "".join(f'<set comment="spin {spin}">{block}</set>' for spin in (2, 3, 4))
    text = text.replace(f"{block}</set></set>", f"{block}</set>{others}</set>")
    assert text.count('comment="spin 4"') == 2
    made, plain = target_from_text(text, "vasprun.xml"), target_from_text(vasprun(), "vasprun.xml")
    np.testing.assert_allclose(made.target.dos.values, plain.target.dos.values)
    assert plain.target.dos.gap == pytest.approx(1.5) and "8.00 electrons below zero of 8.00" in plain.said
    assert "broadening 0.141421 eV" in plain.said and plain.target.dos.zero == "vbm"


def test_a_folder_of_projwfc(tmp_path):
    write_projwfc(tmp_path)
    for path in (tmp_path, tmp_path / "si.pdos_tot"):
        made = read_target(path)
        assert made.target.n_atoms == 2 and "2 sites (Si2)" in made.said and "Fermi energy from si.dos" in made.said
        np.testing.assert_allclose(2 * made.target.total, on_the_grid(CURVE), atol=2e-3)
    with pytest.raises(ContentError, match="it is not a whole site; give the folder"):
        read_target(tmp_path / "si.pdos_atm#1(Si)_wfc#2(p)")
    (tmp_path / "si.dos").unlink()
    with pytest.raises(ContentError, match="its energies are absolute; give --zero with the Fermi energy"):
        read_target(tmp_path)
    assert read_target(tmp_path, zero=6.0).target.dos.zero == "fermi"


def test_a_folder_of_projwfc_with_spin(tmp_path):
    for atom, share in ((1, 0.6), (2, 0.4)):
        text = "# E (eV)  ldosup(E)  ldosdw(E) pdosup(E)  pdosdw(E)\n"
        values = [share * part * CURVE for part in (0.7, 0.3, 0.7, 0.3)]
        path = tmp_path / f"x.pdos_atm#{atom}(Fe{atom})_wfc#1(d)"
        path.write_text(text + rows(ENERGIES + 9, *values, form="{:.6E}", separator=" "))
    total = "# E (eV)  dosup(E)   dosdw(E)  pdosup(E)  pdosdw(E)\n"
    (tmp_path / "x.pdos_tot").write_text(total + rows(ENERGIES + 9, UP, DOWN, UP, DOWN, form="{:.6E}", separator=" "))
    made = read_target(tmp_path, zero=9.0)
    np.testing.assert_allclose(made.target.curves[0] * (2 / 3), made.target.curves[1], atol=1e-3)
    assert made.target.dos.values.shape == (2, 2, 4, 400) and "Fe2" in made.said
    np.testing.assert_allclose(made.target.dos.values[:, 0].sum((0, 1)), on_the_grid(UP), atol=2e-3)


def test_siesta_has_absolute_energies():
    text = rows(ENERGIES - 4.1, UP, DOWN, separator=" ")
    with pytest.raises(ContentError, match="is a SIESTA DOS: its energies are absolute; give --zero .* first line"):
        target_from_text(text, "siesta.DOS", n_atoms=2)
    made = target_from_text(text, "siesta.DOS", n_atoms=2, zero=-4.1)
    np.testing.assert_allclose(2 * made.target.total, on_the_grid(CURVE), atol=2e-3)
    assert made.target.dos.values.shape[1] == 2


# --- JSON -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_complete_dos_of_spheres(old):
    """Sites that hold 43 % of the electrons are scaled to the total, and the factor is said and kept."""
    made = target_from_text(json.dumps(complete_dos(old=old)), "completedos_spheres.json")
    assert "sites held 43.0 % of the occupied states, scaled to the total" in made.said
    target = made.target
    assert target.dos.projected == pytest.approx(0.43, abs=1e-3) and target.dos.electrons == pytest.approx(8, abs=0.1)
    assert target.sigma == 0 and target.dos.zero == "vbm" and target.dos.gap == pytest.approx(1.1, abs=0.06)
    assert target.for_model(DEFAULT_GRID, 0.3).sigma == 0.3


def test_a_plain_dos_and_a_record_without_sites():
    record = complete_dos()
    plain = {"@class": "Dos", **{key: record[key] for key in ("efermi", "energies", "densities")}}
    with pytest.raises(ContentError, match="a total DOS needs n_atoms"):
        target_from_text(json.dumps(plain), "si_total_Dos.json")
    total = target_from_text(json.dumps(plain), "si_total_Dos.json", n_atoms=2).target
    flat = {"spin_up_densities": record["densities"]["1"], "spin_down_densities": None, "structure": STRUCTURE}
    made = target_from_text(
        json.dumps({**flat, "efermi": 5.9, "energies": record["energies"], "projected_densities": None}), "emmet.json"
    )
    assert made.target.n_atoms == 2  # of the structure
    np.testing.assert_allclose(made.target.total, total.total)
    assert total.dos.electrons == pytest.approx(4, abs=0.05)


def test_arrays_of_numpy_in_json():
    record = complete_dos()

    def array(values):
        return {"@module": "numpy", "@class": "array", "dtype": "float64", "data": values}

    plain = target_from_text(json.dumps(record), "dos.json").target
    record |= {"energies": array(record["energies"]), "densities": {"1": array(record["densities"]["1"])}}
    np.testing.assert_array_equal(target_from_text(json.dumps(record), "dos.json").target.curves, plain.curves)


def test_a_coarse_mesh_is_warned_of_by_number():
    record, step = complete_dos(), slice(None, None, 8)
    for part in [record, *(o for site in record["pdos"] for o in site.values())]:
        part["densities"] = {"1": part["densities"]["1"][step]}
    record["energies"] = record["energies"][step]
    made = target_from_text(json.dumps(record), "completedos_coarse.json")
    assert made.warnings == (
        "energies 0.4 eV apart: the zero may be off by as much; compute 513 energies or more (NEDOS in VASP)",
    )
    assert f"warning: {made.warnings[0]}" in made.said
    assert made.target.for_model(DEFAULT_GRID, 0.3).sigma == 0.3  # its own energies are too coarse for that


# --- what looks wrong -----------------------------------------------------------------------------------------------------


def test_electrons_that_no_atom_has_are_warned_of():
    def warnings(factor, **options):
        return target_from_text("E-E_F,DOS\n" + rows(ENERGIES, factor * (CURVE + 0.1)), "a.csv", **options).warnings

    assert warnings(1.0, n_atoms=2) == ()
    assert any("more than any element has" in w for w in warnings(60, n_atoms=2))
    assert any("fewer than any element has" in w for w in warnings(1, n_atoms=8))
    assert any(
        "only -2.0 to 2.0 eV" in w for w in target_from_text(rows(ENERGIES / 5, CURVE), "narrow.csv", n_atoms=2).warnings
    )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "E,Si1,Si2\n" + rows(ENERGIES, UP, DOWN),
            {"per_atom": True},
            "per_atom is for a total, and there are",
        ),
        ("E,Si1,Si2\n" + rows(ENERGIES, UP, DOWN), {"n_atoms": 3}, "2 site curves but 3 atoms"),
        ("E,DOS,bogus\n" + rows(ENERGIES, UP, DOWN), {}, "'bogus' cannot be understood"),
        ("Binding energy (eV),Intensity\n" + PLAIN, {}, "does not hold energies that grow upwards"),
        ("frequency,DOS\n" + PLAIN, {}, "is a density of states of phonons"),
        ("Curve1,,Curve2,\nX,Y,X,Y\n" + rows(ENERGIES, UP, ENERGIES, DOWN), {}, "'X' seems to hold energies, too"),
        ('{"frequencies": [0, 1], "densities": [1, 2], "@class": "PhononDos"}', {}, "a density of states of phonons"),
        (rows(ENERGIES + 20, CURVE), {"n_atoms": 1}, "there are no states below 0 eV"),
        ("\u22121 2\n" * 1 + "\u221210.5\u22120.1\n" + SPACED, {}, "line 2: .* run into each other"),
        ("E,DOS\n" + PLAIN, {"zero": "top"}, "zero must be an energy in eV, or one of vbm, fermi"),
        ("E,DOS\n" + PLAIN, {"sigma": -0.1}, "sigma must be a broadening"),
        ("E,DOS\n" + PLAIN, {"sigma": "wide"}, "sigma must be a number in eV"),
        ("E,DOS\n" + PLAIN, {"low": 3.0, "high": 2.0, "n_atoms": 1}, "known from"),
        ('{"energies": [0, 1], "total": [1, 2], "sigma": -1}', {}, "sigma must be a broadening"),
        ('{"energies": [0, 1], "total": [1, 2], "meaning": "all"}', {}, "meaning must be one of"),
    ],
)
def test_refusals(text, options, message):
    with pytest.raises(ContentError, match=message) as caught:
        target_from_text(text, "a.csv", **options)
    assert "\n" not in str(caught.value) and ("a.csv" in str(caught.value) or options)


def test_options_take_precedence_over_the_file(tmp_path):
    total = CURVE + 0.1  # of a metal
    record = {"energies": ENERGIES.tolist(), "total": total.tolist(), "n_atoms": 2, "sigma": 0.5, "zero": "fermi", "high": 6.0}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(record))
    plain, other = read_target(path).target, read_target(path, n_atoms=4, sigma=0.4, high=3.0, zero="vbm", gap=1.0)
    assert (plain.n_atoms, plain.sigma, plain.high, plain.dos.zero) == (2, 0.5, 6.0, "fermi")
    target = other.target
    assert (target.n_atoms, target.sigma, target.high, target.dos.zero, target.dos.gap) == (4, 0.4, 3.0, "vbm", 1.0)
    assert any("the file is of 2 atoms, and 4 are taken" in warning for warning in other.warnings)
    moved = read_target(path, zero=-1.0).target
    assert moved.low == pytest.approx(-9) and moved.dos.zero == "fermi"
    plain.save(tmp_path / "whole.npz")
    assert "target, total per atom of 2 atoms" in read_target(tmp_path / "whole.npz").said
    with pytest.raises(ContentError, match="is a whole target; leave out sigma"):
        read_target(tmp_path / "whole.npz", sigma=0.2)


def test_lines_that_state_something_of_the_curve():
    head = "# low: -8\n# high: 5.5 eV\n# gap = 1.2\n# sigma: 0.25\n# zero: vbm\n# meaning: projections\nenergy,Si,Si\n"
    dos = DosTarget.from_text(head + rows(ENERGIES, UP, DOWN)).dos
    assert (dos.low, dos.high, dos.gap, dos.sigma, dos.zero, dos.meaning) == (-8, 5.5, 1.2, 0.25, "vbm", "projections")


# --- any dialect ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dialects(), st.integers(1, 5))
def test_a_curve_in_a_random_dialect_is_the_same_target(dialect, n_atoms):
    """Whatever dialect it is written in, the target has the values of the curve at its energies."""
    content, energies, sites, n_sites, fermi = dialect
    options = {} if n_sites else {"n_atoms": n_atoms}
    below = energies <= (fermi or 0.0)
    assume(np.diff(energies)[0] * sites[:, below].sum() > len(sites) * (1 if n_sites else n_atoms))  # else it is refused
    made = target_from_text(content, "curve", zero=0.0 if fermi is None else fermi, **options)
    target = made.target
    assert target.kind == ("sites" if n_sites else "total") and target.n_atoms == (n_sites or n_atoms)
    ends = np.clip(energies[[0, -1]] - (fermi or 0), -20, 20)  # no model looks beyond
    assert (target.low, target.high) == pytest.approx(tuple(ends), abs=0.06)
    there = energies - (fermi or 0.0)
    inside = (there > target.low + 0.06) & (there < target.high - 0.06)
    for curve, site in zip(target.curves, sites, strict=True):
        got = np.interp(there[inside], target.grid.points, curve * (1 if n_sites else n_atoms))
        np.testing.assert_allclose(got, site[inside], atol=0.02 * float(sites.max()))


def test_a_sharp_target_looks_beside_others_as_it_is_compared():
    sharp = target_from_text(json.dumps(complete_dos()), "dos.json").target
    shown = sharp.beside()
    assert (sharp.sigma, shown.sigma) == (0, 0.3) and shown.grid.spacing == pytest.approx(DEFAULT_GRID.spacing)
    assert shown.dos.electrons == pytest.approx(sharp.dos.electrons, abs=0.2)
    assert shown.compared(sharp.dos).mae < 0.005
    broad = target_from_text("E,DOS\n" + PLAIN, "a.csv", n_atoms=1, sigma=0.4).target
    assert broad.beside() is broad
    with pytest.raises(ContentError, match="only 1.8 eV are known, too few for a broadening by 0.3 eV"):
        target_from_text(rows(ENERGIES, CURVE), "a.csv", n_atoms=1, sigma=0.0, low=-1.0, high=0.8)


def test_columns_headed_by_elements_are_of_sites_where_the_file_says_so():
    text = "# {}\nE-E_F,Ga,As\n" + rows(ENERGIES, UP + 0.1, DOWN + 0.1)
    target = target_from_text(text.format("PBE per-site DOS"), "a.csv").target
    assert (target.kind, target.n_atoms) == ("sites", 2)
    with pytest.raises(ContentError, match="--n-atoms N"):
        target_from_text(text.format("PBE"), "a.csv")


EXAMPLES = Path(__file__).parents[2] / "examples" / "targets"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.csv")), ids=lambda path: path.stem)
def test_the_examples_are_targets_as_they_are(path):
    target = read_target(path).target
    sites = 3 if "half_heusler" in path.stem else 2
    assert (target.kind, target.n_atoms, target.sigma, target.dos.meaning) == ("sites", sites, 0.3, "partition")
