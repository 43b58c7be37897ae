"""Structures of other programs: CIF and JSON by pymatgen, everything else by ASE."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..errors import ContentError


def read_structures(path: str | Path) -> CrystalSet:
    """Read all structures of a file: CIF, POSCAR, extxyz, pymatgen's ``Structure`` in JSON, and what else ASE reads.

    :return: with the columns ``energy`` (eV) and ``forces`` (eV/Å) if all structures have them.
    :raises ContentError: if it cannot be read, sites are shared by elements or partly empty, or a structure is not periodic in
        three dimensions.
    """
    path = Path(path)
    if not path.is_file():
        raise ContentError(f"{path} does not exist")
    try:
        start = path.read_bytes()[:200_000].decode("utf-8", errors="replace")
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None
    if path.suffix.lower() == ".cif" or "_cell_length_a" in start:
        return _by_pymatgen(path, _cif)
    if start.lstrip()[:1] in ("{", "["):
        return _by_pymatgen(path, _json)
    if path.name.upper().startswith(("POSCAR", "CONTCAR")) or path.suffix.lower() in (".vasp", ".poscar"):
        lines = start.splitlines()
        if len(lines) > 5 and not re.search("[A-Za-z]", lines[5]):
            raise ContentError(f"{path} names no elements (VASP 4); write their symbols into a line above the numbers of atoms")
    return _by_ase(path)


def _cif(path: Path) -> list[Any]:
    from pymatgen.io.cif import CifParser

    return CifParser(str(path)).parse_structures(primitive=False)


def _json(path: Path) -> list[Any]:
    from pymatgen.core import Structure

    content = json.loads(path.read_text(encoding="utf-8-sig"))
    records = content if isinstance(content, list) else [content]
    return [Structure.from_dict(record.get("structure", record)) for record in records]


def _by_pymatgen(path: Path, read: Any) -> CrystalSet:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = read(path)
    except Exception as exception:  # pymatgen's readers raise whatever they stumble upon
        reason = (str(exception).splitlines() or [type(exception).__name__])[0]
        raise ContentError(f"{path} cannot be read as a structure: {reason[:150]}") from None
    for structure in structures:
        for i, site in enumerate(structure):
            if not site.is_ordered:
                raise ContentError(
                    f"{path}: site {i} is {site.species_string}; sites that elements share, or that are partly empty, have no "
                    "density of states here; give an ordered structure"
                )
        if not all(structure.lattice.pbc):
            raise ContentError(f"{path}: the structure is not periodic in three dimensions; crystals are needed")
    if not structures:
        raise ContentError(f"{path} holds no structures")
    return CrystalSet.from_pymatgen(structures)


def _by_ase(path: Path) -> CrystalSet:
    import ase.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = ase.io.read(path, index=":")
    except KeyError as exception:
        raise ContentError(f"{path}: {exception} is not a chemical element; write the symbol alone, such as Fe or H") from None
    except Exception as exception:  # ASE's readers raise whatever they stumble upon
        reason = (str(exception).splitlines() or [type(exception).__name__])[0]
        raise ContentError(f"{path} cannot be read as a file of structures: {reason[:150]}") from None
    if not frames:
        raise ContentError(f"{path} holds no structures")
    for i, frame in enumerate(frames):
        if not frame.pbc.all():
            raise ContentError(
                f"{path}, structure {i} is not periodic in three dimensions (pbc {frame.pbc}); crystals are needed"
            )
    crystals = CrystalSet.from_ase(frames)
    results = [frame.calc.results if frame.calc is not None else {} for frame in frames]
    columns: dict[str, dict[str, np.ndarray]] = {"crystal": {}, "atom": {}}
    if all("energy" in result for result in results):
        columns["crystal"]["energy"] = np.array([float(result["energy"]) for result in results])
    if all("forces" in result for result in results):
        columns["atom"]["forces"] = np.concatenate([result["forces"] for result in results])
    return crystals.with_columns(**columns)
