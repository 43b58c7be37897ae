"""JSON records: MP-DOS, and pymatgen's ``CompleteDos`` or emmet's ``ElectronicDos`` with their structures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...crystals import CrystalSet
from ...curve_files import read_content
from ...dos import DEFAULT_GRID, EnergyGrid
from ...errors import ContentError
from .site_curves import aligned, crystal_of, labelled
from .streams import JsonRecord, json_records

_MP_DOS = ("structure_id", "positions", "cell", "atomic_numbers", "y")
_CURVES = ("densities", "spin_up_densities", "complete_dos", "dos", "electronic_dos", "data")
_IDS = ("material_id", "structure_id", "mp_id", "mpid", "task_id", "id")


def is_record(record: Mapping[str, Any]) -> bool:
    """Say whether a dictionary is a record of a crystal, or of its density of states."""
    return "y" in record or "atomic_numbers" in record or any(key in record for key in _CURVES)


def knows(path: Path) -> bool:
    """Say whether a file is one of JSON records."""
    name = path.name.lower()
    for packed in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(packed)
    return name.endswith((".json", ".jsonl", ".ndjson"))


def records(path: Path) -> Iterator[tuple[str, JsonRecord]]:
    """Return the records of a file."""
    for record in json_records(path, is_record):
        yield record.where, record


def labelled_record(record: JsonRecord, grid: EnergyGrid) -> CrystalSet:
    """Return the crystal of a record with its curves.

    :raises ContentError: saying what is wrong.
    """
    content = record.content
    if not isinstance(content, Mapping):
        raise ContentError("it is no record of a crystal")
    if "y" in content or "atomic_numbers" in content:
        return labelled_mp_dos(content, grid)
    structure = _structure(content)
    if structure is None:
        raise ContentError("it has no structure, without which there is no crystal; records of CompleteDos have one")
    read = read_content(record.text, record.where)
    if "zero" in read.unknown:
        raise ContentError("nothing says where its Fermi energy is")
    if "scale" in read.unknown:
        raise ContentError("its values are not states/eV, or hold too few electrons")
    entry = next((str(content[key]) for key in _IDS if content.get(key) is not None), record.where)
    return labelled(_crystal(structure), read.curves, grid, read.kind, entry)


def labelled_mp_dos(record: Any, grid: EnergyGrid = DEFAULT_GRID, dtype: type = np.float16) -> CrystalSet:
    """Return the crystal of an MP-DOS record with its curves.

    :param dtype: of the stored curves.
    :raises ContentError: saying what is wrong.
    """
    missing = [key for key in _MP_DOS if not isinstance(record, Mapping) or key not in record]
    if missing:
        raise ContentError(f"it is not an MP-DOS record: it lacks {', '.join(missing)}")
    crystal = crystal_of(record["atomic_numbers"], record["cell"], record["positions"], fractional=False)
    try:
        dos = np.array(record["y"], float)
    except (TypeError, ValueError):
        raise ContentError("y must be arrays of numbers") from None
    if dos.shape != (len(crystal.numbers), DEFAULT_GRID.n):
        raise ContentError(f"y has shape {dos.shape}, not that of {len(crystal.numbers)} atoms with {DEFAULT_GRID.n} energies")
    return labelled(crystal, aligned(DEFAULT_GRID.points, dos), grid, "MP-DOS", str(record["structure_id"]), dtype)


def _structure(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the structure of a record, or of the density of states in it."""
    for holder in (record, *(record[key] for key in _CURVES if isinstance(record.get(key), Mapping))):
        structure = holder.get("structure")
        if isinstance(structure, Mapping) and "sites" in structure:
            return structure
    return None


def _crystal(structure: Mapping[str, Any]) -> CrystalSet:
    from pymatgen.core import Structure

    try:
        return CrystalSet.from_pymatgen(Structure.from_dict(dict(structure)))
    except ContentError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as exception:
        raise ContentError(f"its structure cannot be read: {exception}") from None
