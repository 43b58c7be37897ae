"""Files given by mistake: what they are, and what to give instead, in one line. Arrays of numpy that hold a curve are read."""

import io
import json
import zipfile

import numpy as np
import pytest

from aiida_dosmatgen.core.curve_files import read_content
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target.files import read_target, target_from_text

from .test_read import CURVE, ENERGIES, assert_curve, rows

MILLI = 1000 * ENERGIES


def archive(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def of_thousands(form, separator=";"):
    return "Energy (meV);DOS\n" + "".join(f"{form(x)}{separator}{y:.6f}\n" for x, y in zip(MILLI, CURVE, strict=True))


KINDS = {
    "book.xlsx": (archive("[Content_Types].xml", "xl/workbook.xml"), "a workbook of Excel; save its sheet as CSV"),
    "book.ods": (archive("mimetype", "content.xml"), "of LibreOffice; save its sheet as CSV"),
    "paper.docx": (archive("[Content_Types].xml", "word/document.xml"), "a document of Word"),
    "dos.zip": (archive("dos.csv"), r"an archive of 1 files \(dos.csv\); unpack it"),
    "model.pt": (archive("model/data.pkl"), "a file of torch, which could run code"),
    "cut.xlsx": (archive("xl/workbook.xml")[:50], "a damaged archive"),
    "paper.pdf": (b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n", "a PDF; digitise the curve"),
    "figure.gif": (b"GIF89a" + bytes(50), "a picture; digitise the curve"),
    "figure.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n0 0 moveto\n10 10 lineto\n", "a picture in PostScript"),
    "figure.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a picture in SVG"),
    "text.rtf": (b"{\\rtf1\\ansi\n-1.0\\tab 2.0\\par\n}", "a document in RTF; save it as plain text"),
    "table.tex": (b"\\begin{tabular}{cc}\n-1 & 2 \\\\\n\\end{tabular}\n", "LaTeX; give the curve as text"),
    "page.html": (b"<!DOCTYPE html><html></html>", "a web page; save the file that it links to"),
    "data.mat": (b"MATLAB 5.0 MAT-file" + bytes(100), "a file of MATLAB"),
    "project.opju": (b"CPYUA 4.3380 166\n" + bytes(range(256)), "a project of Origin"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "a pointer of Git LFS"),
    "si.out": (
        b"\n     Program PWSCF v.7.2 starts on  1Jan2024\n 1 2 3\n 1 2 3\n",
        "what pw.x printed; give what dos.x or projwfc.x",
    ),
    "dos.out": (b"\n     Program DOS v.7.2 starts on  1Jan2024\n", "what a program of Quantum ESPRESSO printed"),
    "data-file-schema.xml": (
        b'<?xml version="1.0"?>\n<qes:espresso xmlns:qes="x"></qes:espresso>',
        "the XML of pw.x, with levels",
    ),
    "dos.in": (b"&DOS\n  prefix='si'\n/\n", "an input of Quantum ESPRESSO"),
    "OUTCAR": (b" vasp.6.3.2 27Jun22 (build) complex\n E-fermi : 5.6\n", "an OUTCAR; give the vasprun.xml or DOSCAR"),
    "INCAR": (b"SYSTEM = Si\nISMEAR = 0\nSIGMA = 0.05\n", "an INCAR; give the vasprun.xml"),
    "KPOINTS": (b"mesh\n0\nGamma\n4 4 4\n0 0 0\n", "a KPOINTS; give the vasprun.xml"),
    "EIGENVAL": (
        b"  2 2 1 1\n 0.2E+02 0 0 0 0\n 1.0E-4\n CAR\n Si2\n  8 1 8\n\n 0.0 0.0 0.0 0.1\n 1 -6.0 1.0\n 2 1.0 1.0\n",
        "an EIGENVAL, with levels",
    ),
    "PROCAR": (b"PROCAR lm decomposed\n# of k-points: 1 # of bands: 8\n", "a PROCAR"),
    "POSCAR": (b"Si2\n1.0\n0 2.7 2.7\n2.7 0 2.7\n2.7 2.7 0\nSi\n2\nDirect\n0 0 0\n.25 .25 .25\n", r"a structure \(POSCAR\)"),
    "si.cif": (b"data_Si\n_cell_length_a 5.43\n", "a structure; a density of states is needed"),
    "ITDOS.dat": (b"#Energy  TDOS\n-1 0\n0 1\n1 2\n", "an integrated density of states of VASPKIT, by its name"),
    "PDOS_S01_A0001.OUT": (b"-1 0\n0 1\n1 2\n", "of one atom, of Elk, by its name; give the TDOS.OUT"),
    "Local.1": (b"-1 0 1 1\n0 1 1 1\n1 2 1 1\n", "a file of FLEUR"),
    "DOS1": (b"-1 0 1 1\n0 1 1 1\n1 2 1 1\n", "of one atom, of the VTST scripts, or of one spin, by its name"),
    "si.xsf": (b"CRYSTAL\nPRIMVEC\n 3 0 0\n 0 3 0\n 0 0 3\n", "a structure, by its name"),
    "si.extxyz": (b'1\nLattice="3 0 0 0 3 0 0 0 3"\nSi 0 0 0\n', "a structure"),
    "COHPCAR.lobster": (
        b" 2 1 481 -14 9 0\nAverage\nNo.1:Si1->Si2(2.35)\n-1 0 0 0 0\n0 0 0 0 0\n",
        "of bonds .COHP. by LOBSTER",
    ),
    "si.bands": (b"Number of k-points    1\nNumber of spin components 1\n", "a .bands file of CASTEP"),
    "si-1.dos": (
        b"# DOS at iteration step i = 0\n# Energy[a.u.] Density Occupation\n-1 1 2\n0 1 2\n",
        "a histogram of levels by CP2K",
    ),
    "one_DOS_AT0001": (b"# ABINIT package : DOS file\n# for atom number iatom=   1\n-1 1 2\n0 1 2\n", "one atom by ABINIT"),
    "thousands.csv": (of_thousands(lambda x: f"{x:,.1f}").encode(), "line 2: '-10,000.0' has a separator of thousands"),
    "swiss.csv": (of_thousands(lambda x: f"{x:,.1f}".replace(",", "'")).encode(), "has a separator of thousands"),
    "german.csv": (of_thousands(lambda x: f"{x:_.1f}".replace(".", ",").replace("_", ".")).encode(), "separator of thousands"),
    "formula.csv": (b"E;DOS\n-1;#DIV/0!\n0;1\n", "'#DIV/0!' is an error of a spreadsheet"),
    "units.csv": (b"E;DOS\n-1.0 eV;0.1\n0.0 eV;1\n", "no line is of numbers alone; one begins '-1.0 eV;0.1'"),
    "array.txt": (str(np.stack([ENERGIES, CURVE], 1)).encode(), "is not valid JSON: .* if it is none, give a table"),
    "elements.json": (json.dumps({"Si": {"energies": [0], "densities": {"1": [0]}}}).encode(), "states of Si; give the whole"),
    "bands.json": (b'{"bands": {"1": [[1]]}, "kpoints": [[0, 0, 0]]}', "is a band structure"),
    "vasprun.xml": (b'<?xml version="1.0"?>\n<modeling></modeling>', "no <dos> in it"),
    "digits.csv": (b"name\n" + 5000 * b"1" + b"\n" + 5000 * b"1", "line 2: .* is no number"),
    "na.json": (b'{"edos_energies": "na", "total_edos_up": "na"}', "of JARVIS without a density of states"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_it_is_and_what_to_give(name):
    content, message = KINDS[name]
    with pytest.raises(ContentError, match=message) as caught:
        target_from_text(content, name, n_atoms=2)
    assert "\n" not in str(caught.value) and name in str(caught.value)


ARRAYS = {
    "two.npy": npy(np.stack([ENERGIES, CURVE], 1)),
    "rows.npy": npy(np.stack([ENERGIES, CURVE])),
    "record.npy": npy(np.array(list(zip(ENERGIES, CURVE, strict=True)), [("energy", float), ("dos", float)])),
    "dos.npz": npz(energies=ENERGIES, dos=CURVE),
    "total.npz": npz(energies=ENERGIES, total=CURVE),
    "spins.npz": npz(energy=ENERGIES, dos_up=0.6 * CURVE, dos_down=0.4 * CURVE),
    "fermi.npz": npz(energies=ENERGIES + 5.5, total_dos=CURVE, efermi=np.array(5.5)),
    "sites.npz": npz(energies=ENERGIES, sites=np.stack([0.6 * CURVE, 0.4 * CURVE])),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_numpy(name, tmp_path):
    read = read_content(ARRAYS[name], name)
    assert_curve(read)
    assert "of numpy" in read.kind and read.curves.resolved == (name == "sites.npz")
    assert (read.curves.zero == "fermi") == (name == "fermi.npz")
    (tmp_path / name).write_bytes(ARRAYS[name])
    made = read_target(tmp_path / name, n_atoms=2)
    assert made.target.n_atoms == 2
    np.testing.assert_allclose(2 * made.target.total, np.interp(made.target.grid.points, ENERGIES, CURVE), atol=2e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.ones((10, 700))), "an array of 10 x 700 numbers; it holds no energies, as those of DeePMD; .*savez"),
        (npy(CURVE), "an array of 81 numbers; it holds no energies"),
        (npy(np.ones((2, 3, 4))), "an array of 2 x 3 x 4 numbers"),
        (npy(np.array([{"a": 1}], dtype=object)), "no array of numbers that numpy can read"),
        (npy(np.stack([ENERGIES, CURVE], 1) + 0j), "an array of complex128"),
        (npy(np.stack([ENERGIES, CURVE], 1))[:300], "more numbers than are in it; it was cut"),
        (npz(energies=ENERGIES, pdos=np.ones((2, 81))), "the array 'pdos' has 2 dimensions"),
        (npz(energies=ENERGIES, dos=CURVE[:-1]), "must have the keys energies"),
    ],
)
def test_arrays_without_a_curve(content, message):
    with pytest.raises(ContentError, match=message) as caught:
        read_content(content, "a.npy")
    assert "\n" not in str(caught.value)


def test_text_of_windows():
    text = "Énergie (eV);Densité d’états\n" + rows(ENERGIES, CURVE, separator=";")
    read = read_content(text.encode("cp1252"), "a.csv")
    assert_curve(read)
    assert "Densité d’états" in read.said
