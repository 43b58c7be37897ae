"""Files of curves in the forms in which people have them, written here."""

import bz2
import gzip
import json
import lzma

import numpy as np
import pytest

from aiida_dosmatgen.core.curve_files import read_content, read_curves
from aiida_dosmatgen.core.errors import ContentError

ENERGIES = np.linspace(-10, 10, 81)
CURVE = np.exp(-0.5 * (ENERGIES + 4) ** 2) + 0.7 * np.exp(-0.5 * (ENERGIES - 4) ** 2)
HARTREE = 27.211386245988


def rows(*columns, form="{:.6f}", separator=","):
    return "".join(separator.join(form.format(value) for value in row) + "\n" for row in zip(*columns, strict=True))


def assert_curve(read, total=CURVE, energies=ENERGIES, tolerance=1e-5):
    np.testing.assert_allclose(read.curves.energies, energies, atol=1e-4)
    np.testing.assert_allclose(read.curves.total, total, atol=tolerance)


PLAIN = rows(ENERGIES, CURVE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PLAIN, id="no heading"),
        pytest.param("E,DOS\n" + PLAIN, id="heading"),
        pytest.param("\ufeffE,DOS\n" + PLAIN, id="byte order mark"),
        pytest.param("\ufeff" + PLAIN, id="byte order mark without a heading"),
        pytest.param("Energie (eV);DOS (1/eV)\n" + PLAIN.replace(",", ";").replace(".", ","), id="decimal comma"),
        pytest.param(PLAIN.replace(",", " ").replace(".", ","), id="decimal comma and blanks"),
        pytest.param("".join(f'"{line.replace(",", chr(34) + "," + chr(34))}"\n' for line in PLAIN.split()), id="quoted"),
        pytest.param("E,DOS\n" + rows(ENERGIES[::-1], CURVE[::-1]), id="descending"),
        pytest.param("E,DOS\n" + PLAIN.replace("-", "\u2212"), id="minus sign"),
        pytest.param(",energy,dos\n" + rows(range(81), ENERGIES, CURVE), id="index column"),
        pytest.param(rows(range(81), ENERGIES, CURVE), id="index column without a heading"),
        pytest.param("% energy dos\n" + PLAIN.replace(",", " "), id="comment %"),
        pytest.param('@    title "DOS"\n@type xy\n' + PLAIN.replace(",", "\t") + "&\n", id="xmgrace"),
        pytest.param("# E DOS\n" + rows(ENERGIES, CURVE, form="{:.9E}", separator="  ").replace("E", "D"), id="D exponents"),
        pytest.param("E (Ha),DOS (1/Ha)\n" + rows(ENERGIES / HARTREE, CURVE * HARTREE, form="{:.9f}"), id="Hartree"),
        pytest.param("E (meV)\tDOS (states/eV)\n" + rows(ENERGIES * 1000, CURVE, separator="\t"), id="meV"),
        pytest.param("energy,dos\neV,states/eV\n" + PLAIN, id="a line of units"),
        pytest.param("E,DOS,Integrated DOS\n" + rows(ENERGIES, CURVE, np.cumsum(CURVE) / 4), id="integrated"),
        pytest.param(rows(ENERGIES, CURVE, np.cumsum(CURVE) / 4), id="integrated without a heading"),
        pytest.param("E (eV),spin up,spin down\n" + rows(ENERGIES, 0.6 * CURVE, 0.4 * CURVE), id="spins"),
        pytest.param("E,up,down\n" + rows(ENERGIES, 0.6 * CURVE, -0.4 * CURVE), id="negative spin down"),
        pytest.param(rows(ENERGIES, 0.6 * CURVE, -0.4 * CURVE), id="negative spin down without a heading"),
        pytest.param("# energy s p\n" + rows(ENERGIES, 0.6 * CURVE, 0.4 * CURVE, separator=" "), id="sumo"),
        pytest.param("E-Ef,total,s,p,d\n" + rows(ENERGIES, CURVE, *(CURVE * x for x in (0.2, 0.5, 0.3))), id="total s p d"),
    ],
)
def test_dialects(text):
    assert_curve(read_content(text, "a.csv"))


def test_packed_files_and_encodings(tmp_path):
    for name, content in {
        "a.csv.gz": gzip.compress(PLAIN.encode()),
        "a.bz2": bz2.compress(PLAIN.encode()),
        "a.xz": lzma.compress(PLAIN.encode()),
        "utf16.csv": ("Energy,DOS\n" + PLAIN).encode("utf-16"),
        "bare16.csv": PLAIN.encode("utf-16-le"),
        "latin.csv": ("Énergie (eV),densité d'états\n" + PLAIN).encode("latin-1"),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert_curve(read_curves(tmp_path / name))


def test_fortran_leaves_the_letter_of_an_exponent_out():
    text = PLAIN.replace(",", " ").replace(" 0.000000", " 0.1234-100")
    assert "0.1234-100" in text
    assert_curve(read_content(text))


def test_columns_without_a_heading_are_sites():
    read = read_content(rows(ENERGIES, 0.6 * CURVE, 0.3 * CURVE, 0.1 * CURVE))
    assert read.curves.resolved and len(read.curves) == 3
    assert "scale" in read.unknown and "zero" in read.unknown and "sites" in read.said


def test_orbitals_are_channels_and_scaled_to_the_total():
    heading = "#Energy  s  py  pz  px  dxy  dyz  dz2  dxz  x2-y2  tot\n"
    parts = [0.1 * CURVE] + 3 * [0.2 * CURVE] + 5 * [0.0 * CURVE]
    read = read_content(heading + rows(ENERGIES, *parts, CURVE, separator="  "), "PDOS_Si.dat")
    assert_curve(read)
    assert read.curves.channels == ("s", "p", "d", "f") and not read.curves.resolved
    np.testing.assert_allclose(read.curves.values[0, 0, 1], CURVE * 6 / 7, atol=1e-3)
    assert read.curves.projected == pytest.approx(0.7, abs=1e-3) and "70.0 %" in read.said
    assert read.curves.zero == "fermi" and "VASPKIT" in read.kind


def test_fhi_aims_names_the_angular_momenta():
    text = "# Partial DOS, Fermi level at zero\n# Energy (eV) total dos, l=0, l=1\n"
    read = read_content(text + rows(ENERGIES, CURVE, 0.25 * CURVE, 0.75 * CURVE, separator="  "))
    assert_curve(read)
    assert read.curves.zero == "fermi"
    np.testing.assert_allclose(read.curves.values[0, 0, 0], 0.25 * CURVE, atol=1e-3)


def test_abinit_states_the_fermi_energy_in_hartree():
    text = (
        "# ABINIT package : DOS file\n# nsppol = 1, nkpt = 8\n# Fermi energy : 0.2105\n# energy(Ha)     DOS  integrated DOS\n"
    )
    text += rows(ENERGIES / HARTREE + 0.2105, CURVE * HARTREE, np.cumsum(CURVE) / 4, form="{:12.8f}", separator=" ")
    read = read_content(text, "run_DOS")
    assert_curve(read, tolerance=1e-4)
    assert read.curves.zero == "fermi" and read.curves.n_electrons == pytest.approx(np.cumsum(CURVE)[40] / 4, abs=0.01)


def test_siesta_has_both_spins_without_a_heading():
    read = read_content(rows(ENERGIES, 0.6 * CURVE, 0.4 * CURVE, separator="  "), "silicon.DOS")
    assert_curve(read)
    assert read.curves.values.shape[1] == 2 and "zero" in read.unknown


def test_dos_x_states_the_fermi_energy():
    heading = "#  E (eV)   dos(E)     Int dos(E) EFermi =    6.313 eV\n"
    read = read_content(heading + rows(ENERGIES + 6.313, CURVE, np.cumsum(CURVE) / 4, separator="  "), "si.dos")
    assert_curve(read)
    assert read.curves.zero == "fermi"
    spins = "#  E (eV)   dosup(E)     dosdw(E)   Int dos(E) EFermi =    6.313 eV\n"
    read = read_content(
        spins + rows(ENERGIES + 6.313, 0.6 * CURVE, 0.4 * CURVE, np.cumsum(CURVE) / 4, separator="  "), "si.dos"
    )
    assert_curve(read)


def write_projwfc(folder, atoms=(1, 2), held=0.9):
    parts = [0.0 * CURVE]
    for atom in atoms:
        for number, (orbital, share) in enumerate((("s", 0.2), ("p", 0.3)), 1):
            curve = held * share * CURVE
            parts.append(curve)
            heading = "# E (eV)   ldos(E)   pdos(E)\n"
            path = folder / f"si.pdos_atm#{atom}(Si)_wfc#{number}({orbital})"
            path.write_text(heading + rows(ENERGIES + 6, curve, curve, form="{:.6E}", separator=" "))
    (folder / "si.pdos_tot").write_text(
        "# E (eV)  dos(E)    pdos(E)\n" + rows(ENERGIES + 6, CURVE, held * CURVE, form="{:.6E}", separator=" ")
    )
    (folder / "si.dos").write_text(
        "# E (eV) dos(E) Int dos(E) EFermi = 6.0 eV\n" + rows(ENERGIES + 6, CURVE, CURVE, separator=" ")
    )


def test_files_of_projwfc(tmp_path):
    write_projwfc(tmp_path)
    for path in (tmp_path, tmp_path / "si.pdos_tot"):
        read = read_curves(path)
        assert_curve(read)
        assert len(read.curves) == 2 and read.elements == ("Si", "Si") and read.curves.zero == "fermi"
        np.testing.assert_allclose(read.curves.values[1, 0, 1], 0.3 * CURVE, atol=1e-3)
        assert read.curves.projected == pytest.approx(0.9, abs=1e-3)
    one = read_curves(tmp_path / "si.pdos_atm#1(Si)_wfc#2(p)")
    np.testing.assert_allclose(one.curves.values[0, 0, 1], 0.27 * CURVE, atol=1e-5)
    assert "not the whole site" in one.said


def test_files_of_projwfc_that_are_missing(tmp_path):
    write_projwfc(tmp_path)
    for path in tmp_path.glob("*atm#1*"):
        path.unlink()
    with pytest.raises(ContentError, match="atom 1 are missing"):
        read_curves(tmp_path)
    write_projwfc(tmp_path, atoms=())
    (tmp_path / "si.pdos_atm#2(Si)_wfc#2(p)").unlink()
    (tmp_path / "si.pdos_atm#2(Si)_wfc#1(s)").rename(tmp_path / "si.pdos_atm#1(Si)_wfc#1(s)")
    read = read_curves(tmp_path / "si.pdos_tot")
    assert not read.curves.resolved and "some are missing" in read.said
    assert_curve(read)


def doscar(lobster=False, spins=1):
    share = [0.6, 0.4][:spins] if spins == 2 else [1.0]
    lines = [
        "   2   2   1   0",
        " 0.2E+02 0.4E-09 0.4E-09 0.4E-09 0.5E-15",
        " 1.0E-4",
        " LOBSTER" if lobster else " CAR",
        " Si2",
    ]
    fermi = 0.0 if lobster else 6.0
    lines.append(f" {10 + fermi:.4f} {-10 + fermi:.4f} 81 {fermi:.4f}{';' if lobster else ''} 1.0000")
    integral = [np.cumsum(CURVE) / 4 * s for s in share]
    text = (
        "\n".join(lines) + "\n" + rows(ENERGIES + fermi, *(CURVE * s for s in share), *integral, form="{:.8f}", separator=" ")
    )
    for _ in range(2):
        tail = "; Z= 14; 3s 3p_y 3p_z 3p_x" if lobster else " 1.0000"
        text += lines[-1].split(";")[0].rsplit(" ", 0 if lobster else 1)[0] + tail + "\n"
        orbitals = [0.1, 0.1, 0.1, 0.1] if lobster else [0.1, 0.3, 0.0]
        text += rows(ENERGIES + fermi, *(o * s * CURVE for o in orbitals for s in share), form="{:.8f}", separator=" ")
    return text


@pytest.mark.parametrize("spins", [1, 2])
@pytest.mark.parametrize("lobster", [False, True])
def test_doscar(lobster, spins):
    read = read_content(doscar(lobster, spins), "DOSCAR")
    assert_curve(read, tolerance=1e-4)
    assert len(read.curves) == 2 and read.curves.values.shape[1] == spins and read.curves.zero == "fermi"
    assert read.curves.projected == pytest.approx(0.8, abs=1e-3)
    np.testing.assert_allclose(read.curves.values[0, :, 0].sum(0), CURVE / 8, atol=1e-3)
    assert read.elements == (("Si", "Si") if lobster else None)
    assert read.n_atoms == 2


def test_a_truncated_doscar_is_refused():
    with pytest.raises(ContentError, match="truncated"):
        read_content(doscar()[:-2000], "DOSCAR")


# --- JSON -----------------------------------------------------------------------------------------------------------------

STRUCTURE = {
    "lattice": {"matrix": [[0, 2.715, 2.715], [2.715, 0, 2.715], [2.715, 2.715, 0]]},
    "sites": [{"species": [{"element": "Si", "occu": 1}], "abc": [x, x, x], "label": "Si"} for x in (0.0, 0.25)],
}


def complete_dos(held=0.43, old=False, spins=1):
    """Two sites with a gap from 0 to 1.1 eV, Fermi energy 0.35 eV above its lower edge, absolute energies."""
    energies = np.arange(-8, 18, 0.05)
    total = np.where((energies < 5.56) & (energies > -7), 0.6353, 0.0) + np.where(energies > 6.6, 0.9, 0.0)
    share = {"1": 1.0} if spins == 1 else {"1": 0.5, "-1": 0.5}

    def densities(scale):
        values = {spin: (scale * part * total).tolist() for spin, part in share.items()}
        return {"efermi": 5.9, "energies": energies.tolist(), "densities": values} if old else {"densities": values}

    record = {
        **densities(1.0),
        "efermi": 5.9,
        "energies": energies.tolist(),
        "structure": STRUCTURE,
        "pdos": [{"s": densities(held / 4), "px": densities(held / 4)} for _ in range(2)],
    }
    if not old:
        record |= {"@module": "pymatgen.electronic_structure.dos", "@class": "CompleteDos"}
    return record


@pytest.mark.parametrize("spins", [1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_complete_dos(old, spins, tmp_path):
    path = tmp_path / "dos.json.gz"
    path.write_bytes(gzip.compress(json.dumps(complete_dos(old=old, spins=spins)).encode()))
    read = read_curves(path)
    curves = read.curves
    assert len(curves) == 2 and read.elements == ("Si", "Si") and curves.zero == "vbm"
    assert curves.projected == pytest.approx(0.43, abs=1e-3) and "43.0 %" in read.said
    assert curves.gap == pytest.approx(1.1, abs=0.11)
    assert read.fermi == pytest.approx(0.35, abs=0.06)
    assert curves.electrons == pytest.approx(8, abs=0.1)
    np.testing.assert_allclose(curves.sites[0], curves.sites[1])
    assert curves.low == pytest.approx(-8 - 5.55, abs=0.06)


def test_pymatgen_itself_writes_what_is_read():
    from pymatgen.electronic_structure.core import Spin
    from pymatgen.electronic_structure.dos import CompleteDos, Dos

    dos = CompleteDos.from_dict(complete_dos())
    assert len(read_content(json.dumps(dos.as_dict())).curves) == 2
    total = Dos(6.0, ENERGIES + 6, {Spin.up: CURVE})
    read = read_content(json.dumps(total.as_dict()))
    assert_curve(read)
    assert not read.curves.resolved and read.curves.zero == "fermi"
    assert_curve(read_content(json.dumps([{"dos": total.as_dict()}])))


def test_electronic_dos_of_emmet():
    record = complete_dos()
    flat = {
        "efermi": 5.9,
        "energies": record["energies"],
        "spin_up_densities": record["densities"]["1"],
        "spin_down_densities": None,
        "structure": STRUCTURE,
    }
    read = read_content(json.dumps({**flat, "projected_densities": None}))
    assert not read.curves.resolved and read.n_atoms == 2 and read.curves.electrons == pytest.approx(8, abs=0.1)
    entries = [(site, orbital, part["densities"]["1"]) for site, o in enumerate(record["pdos"]) for orbital, part in o.items()]
    flat["projected_densities"] = {
        "site_index": [e[0] for e in entries],
        "orbital": [e[1] for e in entries],
        "spin_up_densities": [e[2] for e in entries],
        "spin_down_densities": None,
    }
    sites = read_content(json.dumps(flat))
    np.testing.assert_allclose(sites.curves.values, read_content(json.dumps(record)).curves.values)


def test_records_of_jarvis():
    text = "'" + ",".join(map(str, ENERGIES)) + "'"
    half = "'" + ",".join(map(str, CURVE / 2)) + "'"
    down = half.replace("'", "'-").replace(",", ",-").removesuffix("-")
    record = {"edos_energies": text, "total_edos_up": half, "total_edos_down": down}
    read = read_content(json.dumps(record))
    assert_curve(read)
    assert read.curves.zero == "fermi"


def test_json_of_this_package():
    record = {
        "energies": ENERGIES.tolist(),
        "total": CURVE.tolist(),
        "n_atoms": 2,
        "complete_below": 5.0,
        "sigma": 0.3,
        "zero": "vbm",
    }
    read = read_content("\ufeff" + json.dumps(record))
    assert_curve(read)
    assert (read.n_atoms, read.curves.high, read.curves.sigma, read.curves.zero) == (2, 5.0, 0.3, "vbm")
    sites = read_content(json.dumps({"energies": ENERGIES.tolist(), "sites": [CURVE.tolist()] * 2, "site_indices": [0, 3]}))
    assert sites.sites == (0, 3) and len(sites.curves) == 2


def test_a_coarse_mesh_is_warned_of_by_number_and_no_electrons_are_refused():
    record = complete_dos()
    step = slice(None, None, 8)
    for part in [record, *(o for site in record["pdos"] for o in site.values())]:
        part["densities"] = {"1": part["densities"]["1"][step]}
    record["energies"] = record["energies"][step]
    read = read_content(json.dumps(record))
    assert any("0.4 eV apart" in warning for warning in read.warnings)
    few = complete_dos(held=1.0)
    for part in [few, *(o for site in few["pdos"] for o in site.values())]:
        part["densities"] = {"1": [0.05 * value for value in part["densities"]["1"]]}
    with pytest.raises(ContentError, match=r"2 atoms with 0\.40 electrons"):
        read_content(json.dumps(few))


def test_a_narrow_range_is_warned_of():
    read = read_content("E-E_F,DOS\n" + rows(ENERGIES / 5, CURVE))
    assert any("-2.0 to 2.0 eV" in warning for warning in read.warnings)


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("E,DOS,bogus\n" + rows(ENERGIES, CURVE, CURVE), "'bogus' cannot be understood"),
        ("E (K),DOS,s\n" + rows(ENERGIES, CURVE, CURVE), r"'E \(K\)'.*unit that is not known"),
        ("E,dos,total\n" + rows(ENERGIES, CURVE, CURVE), "both seem to be the total"),
        ("E,up\n" + rows(ENERGIES, CURVE), "'up' is of one spin"),
        ("Energy DOS\n" + rows(ENERGIES, CURVE, CURVE, separator=" "), "does not name 3 columns"),
        (PLAIN + "1,2,3\n", "line 82: 3 columns, but 2"),
        (PLAIN + "hello,2\n", "line 82: 'hello' is no number"),
        (PLAIN.replace(",0.000000", ",NaN", 1), "no finite number"),
        (PLAIN.replace(",", " ").replace(" 0.000000", " ******", 1), "no finite number"),
        (rows(ENERGIES, -CURVE), "negative"),
        (rows(ENERGIES, 0 * CURVE), "zero everywhere"),
        (PLAIN + PLAIN, "neither rise nor fall"),
        ("E,DOS\n" + rows(ENERGIES * 1e300, CURVE, form="{:.6e}"), "energies up to 1e\\+301 eV, which no electron has"),
        ("E,DOS\n" + rows(ENERGIES, CURVE * 1e300, form="{:.6e}"), "values up to 1e\\+300, which none has"),
        (PLAIN + "10.0000000001,7.0\n", "has two values"),
        (PLAIN + "10.000000,7.0\n", "has two values"),
        ("-10.0000-0.1234\n" + PLAIN, "line 1"),
        (PLAIN + "&\n" + PLAIN, "second set"),
        ("# EFermi = 99 eV\nE,DOS\n" + PLAIN, "outside of the energies"),
        ("ik E (eV) ldos(E)\n" + rows(range(81), ENERGIES, CURVE, separator=" "), "k-points"),
        ("<html></html>", "is a web page"),
        ("<modelling></modelling>", "is XML, but no vasprun.xml"),
        ('{"energies": [0, 1], "total": [1]}', "values in a curve"),
        ('{"energies": [0, 1], "total": [1, 1], "bogus": 1}', "bogus"),
        ('{"energies": [0, 1], "total": [1, 1], "zero": "top"}', "'vbm' or 'fermi'"),
        ('{"energies": "abc", "total": [1, 1]}', "lists of numbers"),
        ("[]", "0 records"),
        (f'{{"energies": [{5000 * "1"}]}}', "is not valid JSON: Exceeds the limit"),
        (f"{5000 * '1'} 2 1 0\n" + 8 * "1 1 3 1\n", "columns|is no number"),
        ("{", "not valid JSON"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_line(text, message):
    with pytest.raises(ContentError, match=message) as caught:
        read_content(text, "a.dat")
    assert "\n" not in str(caught.value) and "a.dat" in str(caught.value)


def test_an_ordered_structure_is_needed():
    record = complete_dos()
    record["structure"] = json.loads(json.dumps(STRUCTURE))
    record["structure"]["sites"][0]["species"].append({"element": "Ge", "occu": 0.5})
    with pytest.raises(ContentError, match="site 0 of the structure is shared"):
        read_content(json.dumps(record))


def test_a_damaged_packed_file_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(PLAIN.encode())[:-20])
    with pytest.raises(ContentError, match="damaged"):
        read_curves(tmp_path / "a.csv.gz")
    for name in ("nothing.csv", "."):
        with pytest.raises(ContentError):
            read_curves(tmp_path / "x" / name)
    with pytest.raises(ContentError, match="folder without"):
        read_curves(tmp_path)
