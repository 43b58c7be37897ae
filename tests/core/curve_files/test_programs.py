"""Files as programs write them, and as figures and notebooks leave them: the right curve, or one line that helps."""

import io
import json
import tarfile

import numpy as np
import pytest
from scipy.stats import beta

from aiida_dosmatgen.core.curve_files import read_content, read_curves
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target.files import read_target, target_from_text

from .test_read import HARTREE, rows

ENERGIES = np.arange(-14, 10.001, 0.05).round(6)  # relative to the valence band maximum
FERMI = 0.6  # eV above it, in a gap of 1.2 eV
TOP = 5.0  # the valence band maximum where energies are absolute


def _band(low, high, electrons, sigma=0.1):
    levels = low + (high - low) * beta.ppf((np.arange(1000) + 0.5) / 1000, 1.5, 1.5)  # edges as of parabolic bands
    shapes = np.exp(-0.5 * ((ENERGIES[:, None] - levels) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return electrons * shapes.mean(1)


UP, DOWN = _band(-11, 0, 5) + _band(1.2, 8, 4), _band(-10, -0.5, 3) + _band(1.6, 8, 4)
TOTAL = UP + DOWN
BELOW, BELOW_UP, BELOW_DOWN = (np.cumsum(curve) * 0.05 for curve in (TOTAL, UP, DOWN))
AT_FERMI, ABSOLUTE = ENERGIES - FERMI, ENERGIES + TOP


def table(*columns):
    return rows(*columns, form="{:14.8f}", separator=" ")


def abinit(spins=1, smeared=False):
    text = f"#\n# ABINIT package : DOS file\n#\n# nsppol = {spins}, nkpt =   28, nband(1)=   8\n"
    technique = "# Smearing technique, occopt = 7, tsmear= 0.010 Hartree, tphysel= 0.000 Hartree\n"
    text += technique if smeared else "# Tetrahedron method\n"
    text += f"# Fermi energy : {(TOP + FERMI) / HARTREE:16.8f}\n"
    text += "# The DOS (in electrons/Hartree/cell) and integrated DOS (in electrons/cell) are computed.\n"
    text += "# at   481 energies (in Hartree) covering the interval\n"
    return text + "# between -0.3307 and 0.5512 Hartree by steps of 0.00184 Hartree.\n"


def siesta(spins, fermi=True):
    stated = f'<fermi_energy units="eV">{TOP + FERMI}</fermi_energy>' if fermi else ""
    text = f'<pdos>\n<nspin>{spins}</nspin>\n<norbitals>4</norbitals>\n{stated}\n<energy_values units="eV">\n'
    text += "".join(f"{energy:.5f}\n" for energy in ABSOLUTE) + "</energy_values>\n"
    for atom, share in ((1, 0.55), (2, 0.45)):
        for momentum, part in ((0, 0.4), (1, 0.6)):
            text += f'<orbital\n index="  {2 * atom + momentum}"\n atom_index=" {atom}"\n'
            text += f' species="Si_1"\n l="  {momentum}"\n m="0"\n>'
            curves = [share * part * curve for curve in ((UP, DOWN, 0 * UP, 0 * UP)[:spins] if spins > 1 else (TOTAL,))]
            text += "<data>\n" + table(*curves) + "</data>\n</orbital>\n"
    return text + "</pdos>\n"


PROJECTORS = "#| Partial Density of States -- Projectors |\n" + "".join(
    f"#| Column:    {i} contains:      |\n#|    Atom   AngM Channel   |\n#|      Si  {atom}      {channel}        |\n#+-----+\n"
    for i, (atom, channel) in enumerate(((1, "s"), (1, "p"), (2, "s"), (2, "p")), 1)
)
COLUMNS = " #    1     Energy (eV)\n #    2        Up-spin DOS (electrons per eV)\n"
COLUMNS += " #    3        Down-spin DOS (electrons per eV)\n"
COLUMNS += " #    4        Up-spin Integrated DOS (electrons)\n #    5        Down-spin Integrated DOS (electrons)\n #\n"
PAIRS = list(zip(ENERGIES.tolist(), TOTAL.tolist(), strict=True))
POINTS = [{"x": 100.0, "y": 200.0, "value": list(pair)} for pair in PAIRS]

KNOWN = {  # with the Fermi energy in the file, and hence the valence band maximum
    "TDOS.dat": "    #Energy     TDOS-UP     TDOS-DOWN\n" + table(AT_FERMI, UP, -DOWN),
    "KS_DOS_total.dat": "# total density of states output by FHI-aims, for a spin polarized system\n"
    "# The energy reference for this output is the chemical potential, mu =    -5.123456 eV\n# A1B2-C3\n"
    "#    Energy (eV)      DOS(spin up)   DOS(spin down)\n" + table(AT_FERMI, UP, DOWN),
    "tetrahedra_DOS": abinit() + "# energy(Ha)     DOS  integrated DOS\n" + table(ABSOLUTE / HARTREE, TOTAL * HARTREE, BELOW),
    "spins_DOS": abinit(2)
    + "# energy(Ha)     DOS  integrated DOS\n#\n# Spin-up DOS\n#\n"
    + table(ABSOLUTE / HARTREE, UP * HARTREE, BELOW_UP)
    + "#\n# Spin-down DOS\n#\n"
    + table(ABSOLUTE / HARTREE, DOWN * HARTREE, BELOW_DOWN),
    "smeared_DOS": abinit(smeared=True)
    + "#       energy        DOS       Integr. DOS        DOS           DOS    \n"
    + "#                                              (tsmear/2)    (tsmear*2) \n"
    + table(ABSOLUTE / HARTREE, TOTAL * HARTREE, BELOW, 0.9 * TOTAL * HARTREE, 1.1 * TOTAL * HARTREE),
    "TDOS.OUT": table(AT_FERMI / HARTREE, UP * HARTREE) + "     \n" + table(AT_FERMI / HARTREE, -DOWN * HARTREE),
    "si.PDOS": siesta(1),
    "spins.PDOS": '<?xml version="1.0"?>\n' + siesta(2),
    "spin_orbit.PDOS": siesta(4),
    "record.json": json.dumps(
        {"energy": ABSOLUTE.tolist(), "dos_up": UP.tolist(), "dos_down": DOWN.tolist(), "efermi": TOP + FERMI}
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_programs_that_state_the_fermi_energy(name):
    read = read_content(KNOWN[name], name)
    assert read.curves.zero == "vbm" and read.curves.gap == pytest.approx(1.2, abs=0.08)
    assert abs(read.curves.energies[0] - ENERGIES[0]) < 0.04  # the valence band maximum is found
    got = np.interp(ENERGIES, read.curves.energies + ENERGIES[0] - read.curves.energies[0], read.curves.total)
    np.testing.assert_allclose(got, TOTAL, atol=0.02)
    assert read.curves.sigma == 0.0 and "sigma" in read.unknown and not read.warnings


UNKNOWN = {  # which do not say what zero is
    "Si2.adaptive.dat": COLUMNS + rows(ENERGIES, UP, -DOWN, BELOW_UP, -BELOW_DOWN, form="{:21.13E}", separator=" "),
    "Si2.pdos.dat": PROJECTORS + table(ENERGIES, *(part * TOTAL for part in (0.2, 0.3, 0.2, 0.3))),
    "si.DOS.Gaussian": table(ENERGIES, UP, -DOWN, BELOW_UP, -BELOW_DOWN),
    "DOS0": table(ENERGIES, UP, DOWN, BELOW_UP, BELOW_DOWN),
    "sets.agr": "@target G0.S0\n@type xy\n" + table(ENERGIES, UP) + "&\n@target G0.S1\n" + table(ENERGIES, -DOWN) + "&\n",
    "excel.csv": "Figure 3a: silicon;;;\n;;;\nEnergie;Zustandsdichte;;\neV;Zustände/eV;;\n"
    + rows(ENERGIES, TOTAL, separator=";").replace(".", ",").replace("\n", ";;\n")
    + ";;;\n",
    "origin.txt": "A\tB\nEnergy\tDOS\neV\tstates/eV\nComments\tTotal\n" + rows(ENERGIES, TOTAL, separator="\t"),
    "units_last.txt": "Energy\tDOS\neV\tarb. u.\n\tTotal\n" + rows(ENERGIES, TOTAL, separator="\t"),
    "table.md": "| E (eV) | DOS |\n|---|---|\n" + "".join(f"| {e:.4f} | {y:.6f} |\n" for e, y in PAIRS),
    "xy.json": json.dumps({"x": ENERGIES.tolist(), "y": TOTAL.tolist()}),
    "ase.json": json.dumps({"energies": ENERGIES.tolist(), "weights": TOTAL.tolist()}),
    "rows.json": json.dumps([{"energy": energy, "dos": value} for energy, value in PAIRS]),
    "pairs.json": json.dumps(PAIRS),
    "frame.json": json.dumps(
        {"energy": {str(i): e for i, (e, _) in enumerate(PAIRS)}, "dos": {str(i): y for i, (_, y) in enumerate(PAIRS)}}
    ),
    "split.json": json.dumps({"columns": ["energy", "dos"], "index": list(range(len(PAIRS))), "data": PAIRS}),
    "plot.json": json.dumps(
        {"version": [4, 2], "datasetColl": [{"name": "Total", "data": POINTS}, {"name": "empty", "data": []}]}
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_programs_that_do_not(name):
    read = read_content(UNKNOWN[name], name)
    assert read.curves.zero is None and "zero" in read.unknown
    np.testing.assert_allclose(read.curves.energies, ENERGIES, atol=1e-3)
    np.testing.assert_allclose(read.curves.total, TOTAL, atol=2e-3)


def test_sites_and_channels_of_projectors():
    for name, shares in (("Si2.pdos.dat", (0.5, 0.5)), ("spins.PDOS", (0.55, 0.45))):
        read = read_content({**KNOWN, **UNKNOWN}[name], name)
        assert read.elements == ("Si", "Si") and read.curves.channels == ("s", "p", "d", "f")
        held = read.curves.values.sum((1, 2, 3)) / read.curves.values.sum()
        np.testing.assert_allclose(held, shares, atol=1e-6)
        np.testing.assert_allclose(read.curves.values.sum((0, 1, 3))[:2] / read.curves.values.sum(), (0.4, 0.6), atol=1e-6)
    assert read.curves.values.shape[1] == 2


def test_local_orbitals_without_a_fermi_energy_need_one():
    with pytest.raises(ContentError, match="its energies are absolute; give --zero"):
        target_from_text(siesta(1, fermi=False), "PDOS")
    made = target_from_text(siesta(1, fermi=False), "PDOS", zero=TOP)
    assert made.target.dos.electrons == pytest.approx(8, abs=0.1) and made.target.n_atoms == 2


REFUSED = {
    "PDOS_Si_UP.dat": ("#Energy  s  p  tot\n" + table(AT_FERMI, 0.4 * UP, 0.6 * UP, UP), "is of one spin, by its name"),
    "raw.dat": (
        "# The energy reference for this output is the vacuum level\n# Energy (eV)  DOS\n" + table(ENERGIES, TOTAL),
        "vacuum level",
    ),
    "total_dos.dat": ("# Sigma = 0.053\n" + table(np.linspace(0, 16, 201), np.linspace(0, 2, 201)), "no states below 0 eV"),
    "projected_dos.dat": ("# phonopy\n" + table(np.linspace(0, 16, 81), *[np.linspace(1, 2, 81)] * 2), "of phonons"),
    "si.phdos": ("# Frequency[cm^-1] DOS PDOS\n" + table(np.linspace(0, 530, 81), np.ones(81), np.ones(81)), "of phonons"),
    "vdos.txt": ("# omega(cm-1)   VDOS\n" + table(np.linspace(0, 530, 81), np.ones(81)), "of phonons"),
    "spectrum.txt": ("E (1/cm),DOS\n" + rows(ENERGIES, TOTAL), "unit that is not known"),
    "two_sets.agr": (table(ENERGIES, UP) + "&\n" + table(ENERGIES, DOWN) + "&\n", "line 483: a second set of curves begins"),
    "lines.jsonl": ('{"energies": [0, 1], "total": [1, 1]}\n' * 2, "several records, one a line"),
    "two.json": (
        json.dumps({"datasetColl": [{"name": n, "data": POINTS} for n in ("up", "down")]}),
        r"2 curves of a figure \(up, down\)",
    ),
    "unnamed.json": (json.dumps({"x1": ENERGIES.tolist(), "y1": TOTAL.tolist(), "y2": TOTAL.tolist()}), "'x1'"),
    "orbital.PDOS": (siesta(1).replace('l="  1"', 'l="  4"', 1), "orbital 3 is of atom 1 and l = 4"),
    "cut.PDOS": (siesta(1)[:-400], "truncated or damaged XML"),
    "hartree.dos": (
        '"Energy"\t"Total"\n' + rows(ENERGIES / HARTREE, TOTAL * HARTREE, separator="\t"),
        "write the unit into their heading",
    ),
    "long.csv": ("E,DOS\n" + 300_000 * "1", "line 2 has more than 200000 letters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(name):
    text, message = REFUSED[name]
    with pytest.raises(ContentError, match=message) as caught:
        target_from_text(text, name, n_atoms=2)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_smearing_technique_is_no_broadening():
    for line, sigma in {
        "# Smearing technique, occopt = 7, tsmear= 0.010 Hartree": None,
        "# smearing 300 K": None,
        "# Gaussian smearing of 0.1 eV": 0.1,
        "# broadening (eV): 0.2": 0.2,
    }.items():
        read = read_content(f"{line}\nE,DOS\n" + rows(ENERGIES, TOTAL))
        assert ("sigma" in read.unknown) == (sigma is None) and read.curves.sigma == (sigma or 0.0)


def test_a_zero_in_a_gap_is_the_fermi_energy():
    text = "E,DOS\n" + rows(AT_FERMI, TOTAL)
    made = target_from_text(text, "figure.csv", n_atoms=2)
    assert made.target.dos.zero is None and any("no states from -0.57" in warning for warning in made.warnings)
    for zero in (0.0, -FERMI):
        made = target_from_text(text, "figure.csv", n_atoms=2, zero=zero)
        assert made.target.dos.zero == "vbm" and not made.warnings
        assert made.target.low == pytest.approx(ENERGIES[0], abs=0.06)
    assert "as asked for" in made.said


def test_an_integral_is_warned_of():
    read = read_content("# only\n" + rows(ENERGIES, BELOW))
    assert read.warnings[0].startswith("the curve never falls, as an integral does") and "warning: the curve never" in read.said


def test_energies_are_counted_as_in_the_file():
    some = np.sort(np.random.default_rng(1).choice(ENERGIES, 100, replace=False))
    text = "E,DOS\n" + rows(some, np.interp(some, ENERGIES, TOTAL))
    assert ", 100 energies from" in read_content(text).said


def test_names_and_packings_that_are_none(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("vasprun.xml"))
    for name, content, message in (
        ("run.tar.gz", packed.getvalue(), "is an archive of tar; unpack it"),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(range(200)), "packed by zstd"),
        ("new\nline.csv", b"E,DOS,bogus\n0,1,2\n1,2,3\n", "^new line.csv: the column 'bogus' cannot"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ContentError, match=message) as caught:
            read_target(tmp_path / name)
        assert "\n" not in str(caught.value)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ContentError, match="Too many levels"):
        read_curves(tmp_path / "loop")
    for name in ("a\0b", 5000 * "a"):
        with pytest.raises(ContentError, match="cannot be the name of a file"):
            read_curves(name)
