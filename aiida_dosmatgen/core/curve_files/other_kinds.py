"""Files that hold no density of states, by their content: what they are, and what to give instead."""

from __future__ import annotations

import io
import re
import zipfile

from ..errors import ContentError
from ..files.archive import NO_ARCHIVE

_AS_TEXT = "give the curve as text: energies, and the density of states, in columns"
_OF_VASP = "give the vasprun.xml or DOSCAR of the run"
_OF_ESPRESSO = "give what dos.x or projwfc.x wrote (run pw.x nscf on a dense mesh first): the file of dos.x, or the folder"
_OF_A_FIGURE = "digitise the curve (WebPlotDigitizer, say), and give the table"

_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF", "an HDF5 file", _AS_TEXT),
    (b"PAR1", "a parquet file", _AS_TEXT),
    (b"%PDF", "a PDF", _OF_A_FIGURE),
    (b"\x89PNG", "a picture", _OF_A_FIGURE),
    (b"\xff\xd8\xff", "a picture", _OF_A_FIGURE),
    (b"GIF8", "a picture", _OF_A_FIGURE),
    (b"II*\0", "a picture", _OF_A_FIGURE),
    (b"MM\0*", "a picture", _OF_A_FIGURE),
    (b"\x80", "a pickle, which could run code", _AS_TEXT),
    (b"\xd0\xcf\x11\xe0", "a workbook", "save its sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd, which is not read here", "unpack it"),
    (b"7z\xbc\xaf", "an archive of 7z", "unpack it"),
    (b"Rar!", "an archive of rar", "unpack it"),
    (b"CDF", "a NetCDF file", _AS_TEXT),
    (b"\x5d\0\0", "packed by lzma, which is not read here", "unpack it"),
    (b"MATLAB 5.0", "a file of MATLAB", _AS_TEXT),
    (b"CPYUA", "a project of Origin", "export the sheet as ASCII"),
    (b"SQLite format 3", "a database", _AS_TEXT),
)
_IN_ARCHIVES: tuple[tuple[str, str, str], ...] = (
    (r"xl/", "a workbook of Excel", "save its sheet as CSV"),
    (r"word/", "a document of Word", _AS_TEXT),
    (r"content\.xml", "a workbook or document of LibreOffice", "save its sheet as CSV"),
    (r".*data\.pkl", "a file of torch, which could run code", _AS_TEXT),
)
_POSCAR = ("a structure (POSCAR)", _OF_VASP)
_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"\A\{\\rtf", "a document in RTF", "save it as plain text"),
    (r"\A%!PS", "a picture in PostScript", _OF_A_FIGURE),
    (r"<svg\b", "a picture in SVG", _OF_A_FIGURE),
    (r"\\begin\{(?:tabular|document|table|filecontents)", "LaTeX", _AS_TEXT),
    (r"\Aversion https://git-lfs", "a pointer of Git LFS", "fetch the file itself by `git lfs pull`"),
    (r"<qes:espresso\b|<espresso\b|<Root>\s*<HEADER", "the XML of pw.x, with levels", _OF_ESPRESSO),
    (r"Program PWSCF", "what pw.x printed", _OF_ESPRESSO),
    (r"Program (?:DOS|PROJWFC|BANDS)\b", "what a program of Quantum ESPRESSO printed", _OF_ESPRESSO),
    (r"(?i)\A\s*(?:!.*\n\s*)*&(?:control|system|dos|projwfc|bands|inputpp)\b", "an input of Quantum ESPRESSO", _OF_ESPRESSO),
    (r"\A\s*&plot\s+nbnd", "a band structure of bands.x", _OF_ESPRESSO),
    (r"\A\s*vasp\.\d.*\n", "an OUTCAR", _OF_VASP),
    (r"\APROCAR\b", "a PROCAR", _OF_VASP),
    (r"\A[ \t]*\d+(?:[ \t]+\d+){3}[ \t]*\n(?:.*\n){4}[ \t]*\d+(?:[ \t]+\d+){2}[ \t]*\n", "an EIGENVAL, with levels", _OF_VASP),
    (r"(?m)\A(?:.*\n){0,30}\s*(?:ISMEAR|ENCUT|LORBIT|NEDOS|IBRION)\s*=", "an INCAR", _OF_VASP),
    (r"(?i)\A.*\n\s*\d+\s*\n\s*(?:gamma|monkhorst|line|automatic|reciprocal|cartesian)", "a KPOINTS", _OF_VASP),
    (r"\A.*\n\s*Average\b|\A\s*COHP#", "of bonds (COHP) by LOBSTER", "give the DOSCAR.lobster"),
    (r"\ANumber of k-points\b", "a .bands file of CASTEP, with levels", "give the curve that OptaDOS or dos.pl makes of it"),
    (r"\A-%-", "a fort.25 of CRYSTAL", "give its DOSS.DAT"),
    (r"for atom number iatom=", "the local DOS of one atom by ABINIT", "give the file of the total, _DOS or _DOS_TOTAL"),
    (r"DOS at iteration step", "a histogram of levels by CP2K", "make a curve in states/eV of the levels in its .pdos files"),
    (r'Lattice="|(?m:^_cell_length_a\b)|\bCELL_PARAMETERS\b|%BLOCK LATTICE', "a structure", "a density of states is needed"),
    (r"\A.*\n[ \t]*[-+\d.eE]+[ \t]*\n(?:[ \t]*[-+\d.eE]+(?:[ \t]+[-+\d.eE]+){2}[ \t]*\n){3}[A-Za-z\d \t]+\n", *_POSCAR),
    (r"(?i)\A\s*(?:<!doctype html|<html)", "a web page", "save the file that it links to, not the page"),
    (r"\A\s*<", "XML, but no vasprun.xml", _AS_TEXT),
)
_NAMES: tuple[tuple[str, str, str], ...] = (
    (r"(?i).*\.(?:xyz|xsf|gen|res|pdb|cube|struct|xsd|cssr|mol|cell|gjf)", "a structure", "a density of states is needed"),
    (r"I(?:T|P)DOS.*\.dat", "an integrated density of states of VASPKIT", "give the TDOS.dat or PDOS beside it"),
    (r"PDOS_S\d+_A\d+\.OUT", "the density of states of one atom, of Elk", "give the TDOS.OUT"),
    (r"Local\.\d", "a file of FLEUR, by regions and types of atoms", "give a table of the energies and the total"),
    (r"DOS[1-9]\d*", "of one atom, of the VTST scripts, or of one spin", "give the DOSCAR, or a table of the total"),
)
_START = 4000  # letters that tell what a text is


def refuse_bytes(content: bytes, name: str) -> None:
    """Refuse what is no text.

    :raises ContentError: saying what it is, and what to give instead.
    """
    if content[257:262] == b"ustar":
        raise ContentError(f"{name} is an archive of tar; unpack it, and give the folder or the file")
    for start, what, instead in _BYTES:
        if content.startswith(start) and not content.startswith(b"\xff\xfe"):
            raise ContentError(f"{name} is {what}; {instead}")
    if content.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = archive.namelist()
        except NO_ARCHIVE:
            raise ContentError(f"{name} is a damaged archive; copy it again") from None
        for pattern, what, instead in _IN_ARCHIVES:
            if any(re.match(pattern, one) for one in inside):
                raise ContentError(f"{name} is {what}; {instead}")
        raise ContentError(f"{name} is an archive of {len(inside)} files ({', '.join(inside[:3])[:100]}); unpack it")


def refuse_text(text: str, name: str) -> None:
    """Refuse texts that are known to hold no density of states, or one piece of it.

    :raises ContentError: saying what it is, and what to give instead.
    """
    for pattern, what, instead in _NAMES:
        if re.fullmatch(pattern, name):
            raise ContentError(f"{name} is {what}, by its name; {instead}")
    start = text[:_START].lstrip("\ufeff")
    for pattern, what, instead in _TEXTS:
        if re.search(pattern, start):
            raise ContentError(f"{name} is {what}; {instead}")
