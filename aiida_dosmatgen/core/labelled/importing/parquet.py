"""Parquet files with a density of states for each atom, such as the data set of MatterGen-e⁻ (MP-20, 512 energies).

Columns are known by their names; those of a table are in :data:`NAMES`. Without a column of energies there are 512 of them from
−15 to 5 eV, or 400 from −10 to 10 eV, relative to the Fermi energy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...crystals import CrystalSet
from ...dos import DEFAULT_GRID, EnergyGrid
from ...errors import ContentError
from .site_curves import aligned, check_contacts, crystal_of, labelled

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("material_id", "mp_id", "mpid", "structure_id", "id", "ids"),
    "numbers": ("atomic_numbers", "numbers", "species", "elements", "symbols"),
    "cell": ("cell", "lattice", "lattice_matrix", "lattice_vectors"),
    "fractional": ("frac_coords", "fractional_coordinates", "scaled_positions", "fractional"),
    "cartesian": ("positions", "cart_coords", "cartesian_coordinates", "coords"),
    "either": ("pos",),  # fractional where MatterGen wrote them, Cartesian elsewhere
    "structure": ("structure", "cif"),
    "dos": ("atomic_dos", "atom_dos", "ados", "site_dos", "pdos", "dos", "y"),
    "energies": ("energies", "energy_grid", "dos_energies"),
    "fermi": ("efermi", "fermi_energy", "e_fermi"),
}

GRIDS = {512: EnergyGrid(-15.0, 5.0, 512), DEFAULT_GRID.n: DEFAULT_GRID}
"""Energies by how many there are, where no column says which."""

_ROWS = 32  # at a time


def knows(path: Path) -> bool:
    """Say whether a file is a parquet file."""
    with open(path, "rb") as stream:
        return stream.read(4) == b"PAR1"


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the rows of a file.

    :raises ContentError: if pyarrow is not installed, the file is damaged, or a column is missing.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise ContentError(f"{path} is a parquet file; pip install 'aiida-dosmatgen[parquet]' brings what reads it") from None
    try:
        table = ParquetFile(path)
        names = _names(path, set(table.schema_arrow.names))
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=sorted(names.values())):
            for row in batch.to_pylist():
                yield f"{path.name}, row {number}", {what: row[name] for what, name in names.items()}
                number += 1
    except (ArrowException, OSError) as exception:
        raise ContentError(f"{path} is damaged ({' '.join(str(exception).split())[:120]}); copy it again") from None


def _names(path: Path, columns: set[str]) -> dict[str, str]:
    found = {what: name for what, names in NAMES.items() for name in names[::-1] if name in columns}
    places = ("fractional", "cartesian", "either")
    if "structure" not in found and not ({"numbers", "cell"} <= found.keys() and any(what in found for what in places)):
        raise ContentError(
            f"{path} has no columns with crystals: atomic_numbers, cell and frac_coords or positions, or structure or cif; "
            f"it has {', '.join(sorted(columns)[:12])}"
        )
    if "dos" not in found:
        raise ContentError(
            f"{path} has no column with a density of states for each atom ({', '.join(NAMES['dos'])}); "
            f"it has {', '.join(sorted(columns)[:12])}"
        )
    return found


def labelled_record(record: Mapping[str, Any], grid: EnergyGrid) -> CrystalSet:
    """Return the crystal of a row with its curves.

    :raises ContentError: saying what is wrong.
    """
    crystal = _crystal(record)
    try:
        dos = np.array(record["dos"], float)
    except (TypeError, ValueError):
        raise ContentError("its density of states must be arrays of numbers, all of one length") from None
    if dos.ndim == 1 and dos.size % len(crystal.numbers) == 0:
        dos = dos.reshape(len(crystal.numbers), -1)
    if dos.ndim == 3:  # spins
        dos = dos.sum(1)
    if dos.ndim != 2 or len(dos) != len(crystal.numbers):
        raise ContentError(f"its density of states has shape {dos.shape}, for {len(crystal.numbers)} atoms")
    curves = aligned(_energies(record, dos.shape[1]), dos)
    source = "MatterGen-e" if dos.shape[1] == 512 and "energies" not in record else "parquet"
    return labelled(crystal, curves, grid, source, str(record.get("id")))


def _energies(record: Mapping[str, Any], n: int) -> np.ndarray:
    if record.get("energies") is None:
        if n not in GRIDS:
            known = " or ".join(str(count) for count in GRIDS)
            raise ContentError(f"{n} energies, and nothing says which; {known} are known, or give a column of energies")
        return GRIDS[n].points
    energies = np.array(record["energies"], float)
    if energies.shape != (n,):
        raise ContentError(f"{energies.size} energies for {n} values")
    fermi = record.get("fermi")
    return energies - (0.0 if fermi is None else float(fermi))


def _crystal(record: Mapping[str, Any]) -> CrystalSet:
    if "numbers" not in record or "cell" not in record:
        return _of_structure(record["structure"])
    for what in ("fractional", "cartesian"):
        if what in record:
            return crystal_of(record["numbers"], record["cell"], record[what], what == "fractional")
    as_fractional = crystal_of(record["numbers"], record["cell"], record["either"], True)
    inside = np.abs(np.array(record["either"], float) - 0.5).max() <= 0.5 + 1e-6
    if not inside:
        return crystal_of(record["numbers"], record["cell"], record["either"], False)
    try:
        check_contacts(as_fractional)
    except ContentError:
        return crystal_of(record["numbers"], record["cell"], record["either"], False)
    return as_fractional


def _of_structure(value: Any) -> CrystalSet:
    """Return the crystal of a pymatgen structure, as a dictionary or its text, or of the text of a CIF."""
    from pymatgen.core import Structure

    try:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("{") else value
        structure = Structure.from_str(value, fmt="cif") if isinstance(value, str) else Structure.from_dict(value)
        return CrystalSet.from_pymatgen(structure)
    except ContentError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exception:
        raise ContentError(f"its structure cannot be read: {' '.join(str(exception).split())[:120]}") from None
