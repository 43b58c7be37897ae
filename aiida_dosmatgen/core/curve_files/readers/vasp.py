"""Output of VASP and LOBSTER: vasprun.xml by pymatgen, DOSCAR and DOSCAR.lobster."""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np

from ...dft.bands import CHANNELS, LEAST_GAP
from ...elements import ATOMIC_NUMBERS, SYMBOLS
from ...errors import PARSER_ERRORS, ContentError
from ..found import Found, Total, parts_beside
from .records import found_in_dos, orbital_channel

_MAGNETIC = 0.05  # of the density; smearing makes orbitals less negative than that
_INTEGERS = re.compile(r"\s*\d{1,9}(?:\s+\d{1,9}){3}\s*$")


def is_vasprun(text: str, name: str) -> bool:
    """Say whether a text is a vasprun.xml."""
    return text.lstrip().startswith("<") and "<modeling>" in text[:2000]


def read_vasprun(text: str, name: str) -> Found:
    """Read the density of states of a vasprun.xml; band edges come from its eigenvalues."""
    if "<dos>" not in text:
        raise ContentError(f"{name} has no density of states (no <dos> in it); is the run complete?")
    from pymatgen.core.structure import StructureError
    from pymatgen.io.vasp.outputs import Vasprun

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "vasprun.xml"
        path.write_text(text, encoding="utf-8")
        try:
            run = Vasprun(str(path), parse_potcar_file=False, parse_projected_eigen=False)
            record = run.complete_dos.as_dict()
        except (*PARSER_ERRORS, StructureError) as exception:
            reason = " ".join(str(exception).split())[:120] or type(exception).__name__
            raise ContentError(
                f"{name} has no density of states that pymatgen can read ({type(exception).__name__}: {reason}); "
                "is the run complete?"
            ) from None
        if record["densities"].keys() == {"1"}:  # of a noncollinear run, the magnetization stands for a second spin
            for orbitals in record["pdos"]:
                for orbital in orbitals.values():
                    orbital["densities"].pop("-1", None)
        found = found_in_dos(record, name)
        found.kind = "vasprun.xml"
        _from_eigenvalues(run, found)
    parameters = run.parameters
    if parameters.get("ISMEAR") == 0:
        found.sigma = float(parameters["SIGMA"]) / math.sqrt(2)  # VASP: exp(-(E/SIGMA)²)
    elif parameters.get("ISMEAR") in (-4, -5, -14, -15):
        found.sigma = 0.0
    if parameters.get("NELECT"):
        found.n_electrons = float(parameters["NELECT"])
    return found


def _from_eigenvalues(run, found: Found) -> None:
    if not run.eigenvalues:  # a density of states can do without
        return
    gap, bottom, top, _ = run.eigenvalue_band_properties
    if math.isfinite(gap) and gap > LEAST_GAP and math.isfinite(top):
        found.edges = (float(top), float(bottom) if math.isfinite(bottom) else None)


def is_doscar(text: str, name: str) -> bool:
    """Say whether a text is a DOSCAR: four whole numbers, and in the sixth line how many energies there are."""
    lines = text.split("\n", 7)
    if len(lines) < 7 or not _INTEGERS.match(lines[0]):
        return False
    words = _header(lines[5])
    return len(words) >= 4 and words[2].isdigit()


def read_doscar(text: str, name: str) -> Found:
    """Read a DOSCAR of VASP or LOBSTER, with both spins, sites and orbitals where they are there.

    :raises ContentError: naming the line.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 8:
        raise ContentError(f"{name} is truncated: it has {len(lines)} lines; copy it again")
    n_atoms = int(lines[0].split()[0])
    lobster = lines[3].strip().upper().startswith("LOBSTER")
    header = _header(lines[5])
    try:
        n, fermi = int(header[2]), float(header[3])
    except (ValueError, IndexError):
        raise ContentError(f"{name}, line 6: {lines[5].strip()[:60]!r} does not hold the number of energies and E_F") from None
    place = 6
    block = _block(lines, place, n, name)
    place += n
    spins = {3: 1, 5: 2}.get(block.shape[1])
    if spins is None:
        raise ContentError(f"{name}, line 7: {block.shape[1]} columns; a total has energy, DOS and integral, or five with spin")
    found = Found(
        "DOSCAR.lobster" if lobster else "DOSCAR of VASP",
        block[:, 0],
        Total(block[:, 1 : 1 + spins].T),
        integrated=block[:, 1 + spins :].sum(1),
        fermi=fermi,
        n_atoms=n_atoms,
    )
    blocks, symbols = list[np.ndarray](), list[str]()
    while place < len(lines):
        words = lines[place].split(";")
        one = _block(lines, place + 1, n, name)
        if one.shape[1] < 2 or not np.allclose(one[:, 0], block[:, 0], atol=1e-3 + 1e-5 * np.abs(block[:, 0]).max()):
            raise ContentError(f"{name}, line {place + 2}: the energies of atom {len(blocks) + 1} are not those of the total")
        blocks.append(_by_channel(one[:, 1:], words, spins, name, place + 1))
        match = re.search(r"Z\s*=\s*(\d+)", lines[place])
        symbols.append(SYMBOLS[int(match[1])] if match and 0 < int(match[1]) < len(SYMBOLS) else "")
        place += n + 1
    if blocks:
        if len(blocks) != n_atoms and not lobster:
            raise ContentError(f"{name} has curves of {len(blocks)} of {n_atoms} atoms; it is truncated, copy it again")
        parts = np.stack(blocks)
        held, there = float(parts.sum()), float(found.states.values.sum())
        if held > 1.3 * there:
            raise ContentError(
                f"{name}: the sites hold {held / there:.1f} times the total; a run without collinear spin? Give the vasprun.xml"
            )
        found.states = parts_beside(found.states.values, parts, CHANNELS)
        if all(symbol in ATOMIC_NUMBERS for symbol in symbols):
            found.elements = tuple(symbols)
    return found


def _header(line: str) -> list[str]:
    """Return the words of line 6: the ends of the energies, their number, which may run into the word before, and E_F."""
    return re.sub(r"(\.\d{8})(?=\d{5}\b)", r"\1 ", line.replace(";", " ")).split()


def _block(lines: list[str], start: int, n: int, name: str) -> np.ndarray:
    rows = lines[start : start + n]
    if len(rows) < n:
        raise ContentError(f"{name} is truncated: {len(rows)} of {n} energies after line {start}; copy it again")
    try:
        block = np.array([[float(re.sub(r"(?<=\d)([-+]\d{3})$", r"e\1", word)) for word in row.split()] for row in rows])
    except ValueError:
        raise ContentError(f"{name}, after line {start}: rows that are no numbers, or of different lengths") from None
    if block.ndim != 2:
        raise ContentError(f"{name}, after line {start}: rows of different lengths")
    return block


def _is_noncollinear(values: np.ndarray, spins: int) -> bool:
    """Say whether the columns of an atom are the density and three magnetizations of each orbital."""
    if spins != 1 or values.shape[1] % 4 or values.shape[1] == 4:
        return False
    density, rest = values[:, ::4], np.delete(values, np.s_[::4], axis=1)
    return values.shape[1] != 16 or not rest.any() or bool(rest.min() < -_MAGNETIC * density.max())


def _by_channel(values: np.ndarray, words: list[str], spins: int, name: str, line: int) -> np.ndarray:
    """Return the curves of one atom by spin and channel, shape (n_spins, 4, n)."""
    orbitals = words[-1].split() if len(words) > 1 else []
    if not orbitals and _is_noncollinear(values, spins):
        values = values[:, ::4]
    columns = values.shape[1]
    if orbitals:  # LOBSTER names them
        channels = [channel for o in orbitals if (channel := orbital_channel(re.sub(r"^\d+", "", o))) is not None]
    elif columns // spins in (1, 2, 3, 4):
        channels = list("spdf")[: columns // spins]
    elif columns // spins in (9, 16):
        channels = list("spppdddddfffffff")[: columns // spins]
    else:
        channels = []
    if len(channels) * spins != columns:
        raise ContentError(f"{name}, line {line + 1}: {columns} columns of orbitals cannot be told apart; give the vasprun.xml")
    out = np.zeros((spins, len(CHANNELS), len(values)))
    for i, channel in enumerate(channels):
        for spin in range(spins):
            out[spin, CHANNELS.index(channel)] += values[:, i * spins + spin]
    return out
