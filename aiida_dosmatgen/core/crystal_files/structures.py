"""Structures of other programs: CIF, JSON and SHELX by pymatgen, everything else by ASE."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contacts import closest_contacts
from ..crystals import CrystalSet
from ..curve_files.content import check_path, read_bytes, text_of
from ..errors import PARSER_ERRORS, ContentError
from ..paths import user_path
from .vasp4 import with_symbols

if TYPE_CHECKING:
    import ase
    from pymatgen.core import Structure

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
_CRYSTALS = "crystals are needed, periodic in three dimensions"
_DENSITIES = ("CHGCAR", "CHG_", "AECCAR", "LOCPOT", "PARCHG", "ELFCAR")  # of VASP, which begin with a POSCAR
_OF_ASE = re.compile(r'"(?:ids|nextid)"\s*:')
_START = 200_000  # bytes that tell what a file is
_LONGEST = 20_000  # letters of a line of a CIF: the time to read one grows with their square
_ON_TOP = 0.05  # of the sum of covalent radii; atoms nearer than that are one
_VACUUM = 10.0  # Å without an atom between two planes: more than in any layered crystal


@dataclasses.dataclass(frozen=True)
class Frames:
    """Structures of a file.

    :param crystals: the structures, with the columns ``energy`` (eV) and ``forces`` (eV/Å) if all have them.
    :param frames: what ASE read, None for structures that pymatgen read.
    """

    crystals: CrystalSet
    frames: list[ase.Atoms] | None = None


def read_structures(path: str | Path) -> CrystalSet:
    """Read all structures of a file: CIF, POSCAR, extxyz, pymatgen's ``Structure`` in JSON, and what else ASE reads.

    :return: with the columns ``energy`` (eV) and ``forces`` (eV/Å) if all structures have them.
    :raises ContentError: if it cannot be read, sites are shared by elements or partly empty, or a structure is not periodic in
        three dimensions: a molecule, or a slab with vacuum.
    """
    return read_frames(path).crystals


def read_frames(path: str | Path, dropped: dict[int, str] | None = None) -> Frames:
    """Read all structures of a file as :func:`read_structures` does, packed by gzip, bzip2 or xz or not.

    :param dropped: takes the structures that ASE reads and that are no crystals, by their number from 0, with the reason, and
        the others are returned; without it the first of them is an error.
    :raises ContentError: as :func:`read_structures`; with ``dropped`` too if no crystal is left.
    """
    path = user_path(path)
    check_path(path)
    if path.is_dir() or path.is_fifo():
        raise ContentError(f"{path} is a {'folder' if path.is_dir() else 'pipe'}; give a file")
    try:
        with open(path, "rb") as stream:
            start = stream.read(_START)
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None
    if not start.strip():
        raise ContentError(f"{path} is empty")
    wide = start.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16
    if not start.startswith(_PACKED) and not wide:
        return _read(path, str(path), start, dropped)
    content = read_bytes(path)
    if wide:
        content = text_of(content, str(path)).encode()
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / re.sub(r"\.(?:gz|bz2|xz)$", "", path.name, flags=re.IGNORECASE)
        bare.write_bytes(content)
        return _read(bare, str(path), content[:_START], dropped)


def _read(path: Path, name: str, content: bytes, dropped: dict[int, str] | None) -> Frames:
    start = content.decode("utf-8", errors="replace")
    suffix = path.suffix.lower()
    if suffix in (".cif", ".mcif") or re.search(r"^\s*_cell_length_a\b", start, re.MULTILINE):
        return Frames(_by_pymatgen(path, name, _cif))
    if start.lstrip("\ufeff \r\n\t")[:1] in ("{", "[") and suffix != ".db" and not _OF_ASE.search(start):
        return Frames(_by_pymatgen(path, name, _json))
    if suffix == ".res":
        return Frames(_by_pymatgen(path, name, _res))
    if re.search("POSCAR|CONTCAR", path.name.upper()) or suffix in (".vasp", ".poscar"):
        text = path.read_text(encoding="utf-8", errors="replace")
        whole = with_symbols(text, name)
        if whole is not text:
            with tempfile.TemporaryDirectory() as folder:
                bare = Path(folder) / "POSCAR"
                bare.write_text(whole, encoding="utf-8")
                return _by_ase(bare, name, dropped)
    if re.search(r"<qes:espresso\b", start):
        raise ContentError(f"{name} is the XML of pw.x, which is not read here; give what pw.x printed, or its input")
    if path.name.upper().startswith(_DENSITIES):
        return Frames(_by_pymatgen(path, name, _density))
    return _by_ase(path, name, dropped)


# --- pymatgen -------------------------------------------------------------------------------------------------------------


def _cif(path: Path) -> list[Structure]:
    from pymatgen.io.cif import CifParser

    with open(path, encoding="utf-8", errors="replace") as stream:
        if any(len(line) > _LONGEST for line in iter(lambda: stream.readline(_LONGEST + 1), "")):
            raise ContentError(f"a line has more than {_LONGEST} letters, and those of a CIF 2048 at most")
    return CifParser(str(path)).parse_structures(primitive=False)


def _res(path: Path) -> list[Structure]:
    from pymatgen.io.res import ResIO

    return [ResIO.structure_from_file(str(path))]


def _density(path: Path) -> list[Structure]:
    from pymatgen.io.vasp.inputs import Poscar

    with open(path, encoding="utf-8", errors="replace") as stream:
        head = stream.read(_START)
    return [Poscar.from_str(re.split(r"\n[ \t\r]*\n", head, maxsplit=1)[0]).structure]


def _json(path: Path) -> list[Structure]:
    from pymatgen.core import Structure

    records = _records(json.loads(path.read_text(encoding="utf-8-sig")))
    structures = []
    for record in records:
        if record.get("@class") in ("Slab", "Molecule", "IMolecule", "Interface"):
            raise ContentError(f"it is a {record['@class']}; {_CRYSTALS}")
        if "lattice_vectors" in record:
            if record.get("dimension_types", [1, 1, 1]) != [1, 1, 1]:
                raise ContentError(f"its structure is not periodic in three dimensions; {_CRYSTALS}")
            shared = [one for one in record.get("species", []) if len(one.get("chemical_symbols", [1])) != 1]
            if shared:
                raise ContentError(f"its sites of {shared[0].get('name')} are shared by elements; give an ordered structure")
            names = {one["name"]: one["chemical_symbols"][0] for one in record.get("species", [])}
            symbols = [names.get(symbol, symbol) for symbol in record["species_at_sites"]]
            structures.append(
                Structure(record["lattice_vectors"], symbols, record["cartesian_site_positions"], coords_are_cartesian=True)
            )
        elif "lattice_mat" in record:
            cartesian = bool(record.get("cartesian", False))
            symbols = [symbol.strip() for symbol in record["elements"]]
            structures.append(Structure(record["lattice_mat"], symbols, record["coords"], coords_are_cartesian=cartesian))
        else:
            structures.append(Structure.from_dict(record))
    return structures


def _records(content: Any, depth: int = 0) -> list[dict[str, Any]]:
    """Return the records of structures in JSON: of pymatgen, OPTIMADE or JARVIS, in lists, or inside of entries and responses.

    :raises ContentError: for what holds none, naming its keys.
    """
    if depth < 5 and isinstance(content, list):
        return [record for one in content for record in _records(one, depth + 1)]
    if isinstance(content, dict):
        if content.keys() & {"lattice", "lattice_vectors", "lattice_mat"} or content.get("@class") in ("Molecule", "IMolecule"):
            return [content]
        for key in ("structure", "attributes", "atoms", "data", "structures", "entries", "response"):
            if isinstance(content.get(key), dict | list) and depth < 5:
                return _records(content[key], depth + 1)
    what = (
        f"a record with the keys {', '.join(sorted(map(str, content))[:6]) or 'none'}"
        if isinstance(content, dict)
        else "a value"
    )
    raise ContentError(f"{what} is no structure of pymatgen, OPTIMADE or JARVIS")


def _by_pymatgen(path: Path, name: str, read: Callable[[Path], list[Structure]]) -> CrystalSet:
    from pymatgen.core.structure import StructureError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = read(path)
    except (*PARSER_ERRORS, StructureError) as exception:
        raise ContentError(f"{name} cannot be read as a file of structures: {_reason(exception)}") from None
    for structure in structures:
        for i, site in enumerate(structure):
            if not site.is_ordered:
                place = " ".join(f"{x:.3g}" for x in site.frac_coords)
                raise ContentError(
                    f"{name}: site {i} is {site.species_string} (at {place}); sites that elements share, or that are partly "
                    "empty, have no density of states here; give an ordered structure"
                )
    return _crystals(CrystalSet.from_pymatgen, structures, [tuple(s.lattice.pbc) for s in structures], name)


# --- ASE ------------------------------------------------------------------------------------------------------------------


def _by_ase(path: Path, name: str, dropped: dict[int, str] | None) -> Frames:
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    _check_claims(path, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = list(ase.io.iread(path, index=":"))
    except UnknownFileTypeError:
        raise ContentError(
            f"{name} is of no kind of structures that ASE or pymatgen reads; give a CIF, POSCAR or extxyz"
        ) from None
    except (*PARSER_ERRORS, ase.io.ParseError) as exception:
        unknown = re.fullmatch(r"'?([A-Z][a-z]?\w{0,3})'?", str(exception)) if isinstance(exception, KeyError) else None
        if unknown:
            raise ContentError(
                f"{name}: {unknown[1]!r} is not a chemical element; write the symbol alone, such as Fe or H (for D too)"
            ) from None
        raise ContentError(f"{name} cannot be read as a file of structures: {_reason(exception)}") from None
    if dropped is None:
        crystals = _of_frames(frames, name)
    else:
        good: list[tuple[ase.Atoms, CrystalSet]] = []
        for i, frame in enumerate(frames):
            try:
                good.append((frame, _of_frames([frame], name)))
            except ContentError as exception:
                dropped[i] = re.sub(r"^(?:, structure 0|: crystal 0:?) ", "", str(exception).removeprefix(name))
        if not good:
            raise ContentError(f"{name} holds no crystals{f'; the first {dropped[0]}' if dropped else ''}")
        frames = [frame for frame, _ in good]
        crystals = CrystalSet.concatenate(crystal for _, crystal in good)
    results = [frame.calc.results if frame.calc is not None else {} for frame in frames]
    columns: dict[str, dict[str, np.ndarray]] = {"crystal": {}, "atom": {}}
    if all("energy" in result for result in results):
        columns["crystal"]["energy"] = np.array([float(result["energy"]) for result in results])
    if all("forces" in result for result in results):
        columns["atom"]["forces"] = np.concatenate([result["forces"] for result in results])
    return Frames(crystals.with_columns(**columns), frames)


def _of_frames(frames: list[ase.Atoms], name: str) -> CrystalSet:
    for i, frame in enumerate(frames):
        shares = next((frame.arrays[key] for key in ("occupancy", "occupancies") if key in frame.arrays), np.ones(len(frame)))
        if not np.allclose(np.asarray(shares, float), 1.0):
            raise ContentError(f"{name}, structure {i} has sites that are partly empty; give an ordered structure")
    return _crystals(CrystalSet.from_ase, frames, [tuple(frame.pbc) for frame in frames], name)


def _check_claims(path: Path, name: str) -> None:
    """Refuse a file in the form of XYZ that claims so many atoms or columns that ASE would look for them for ever."""
    left = claim = where = 0  # lines of the frame that are still to come, its atoms, and where that is said
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if b"Properties" in line and any(len(n) > 5 for n in re.findall(rb":[SRIL]:([\d_]+)", line)):
                raise ContentError(f"{name}, line {number}: Properties names more columns than any file has")
            if left:
                left -= 1
            elif line.strip():
                try:  # as ASE does, which takes 1_000 for a thousand
                    claim, where = int(line), number
                except ValueError:
                    return  # of another form
                left = max(claim + 1, 0)
    if left and claim:
        raise ContentError(f"{name} is truncated: line {where} says {claim} atoms, and the file ends {left} lines too early")


# --- both -----------------------------------------------------------------------------------------------------------------


def _crystals(make: Callable[[Any], CrystalSet], structures: Sequence[Any], pbc: list[tuple], name: str) -> CrystalSet:
    """Return structures as crystals.

    :raises ContentError: if there are none, or one of them is none.
    """
    if not structures:
        raise ContentError(f"{name} holds no structures")
    for i, periodic in enumerate(pbc):
        if not all(periodic):
            letters = "".join("FT"[bool(p)] for p in periodic)
            raise ContentError(f"{name}, structure {i} is not periodic in three dimensions (pbc {letters}); {_CRYSTALS}")
    try:
        crystals = make(structures)
    except ContentError as exception:
        raise ContentError(f"{name}: {exception}") from None
    contacts = closest_contacts(crystals)
    for i, crystal in enumerate(crystals):
        if contacts[i] < _ON_TOP:
            raise ContentError(f"{name}, structure {i} ({crystal.formulas[0]}) has two atoms at one place; give each atom once")
        vacuum = _widest_vacuum(crystal)
        if vacuum > _VACUUM:
            raise ContentError(
                f"{name}, structure {i} ({crystal.formulas[0]}) has {vacuum:.1f} Å of vacuum, as slabs have; {_CRYSTALS}"
            )
    return crystals


def _widest_vacuum(crystal: CrystalSet) -> float:
    """Return the largest distance in Å of two neighbouring planes of atoms, along any of the lattice planes of the cell."""
    volume = abs(float(np.linalg.det(crystal.lattices[0])))
    widest = 0.0
    for axis in range(3):
        others = np.delete(crystal.lattices[0], axis, axis=0)
        height = volume / float(np.linalg.norm(np.cross(*others)))
        places = np.sort(np.mod(crystal.fractional[:, axis], 1.0))
        gaps = np.diff(np.append(places, places[0] + 1.0))
        widest = max(widest, float(gaps.max()) * height)
    return widest


def _reason(exception: BaseException) -> str:
    said = (str(exception).splitlines() or [""])[0][:150]
    if isinstance(exception, KeyError | IndexError | StopIteration) or "broadcast" in said or not said:
        return f"something that belongs there is missing ({type(exception).__name__}: {said}); is it whole?"
    return said
