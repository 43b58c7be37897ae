"""Frames of extxyz files with the array ``dos``, and with energies, forces and stresses where there are some.

Energies are those of ``dos_low`` and ``dos_high`` in the comment line; without them there are 400 from −10 to 10 eV, broadened
by 0.3 eV, as in the sets of before. ``REF_energy``, ``REF_forces`` and ``REF_stress`` (or ``DFT_``) are read as ``energy``,
``forces`` and ``stress``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from ...crystal_files.labels import label_of_frame
from ...crystals import CrystalSet
from ...curves import Curves
from ...dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ...errors import ContentError
from .site_curves import crystal_of, labelled
from .streams import unpacked


def knows(path: Path) -> bool:
    """Say whether a file is an extxyz file, by its name."""
    name = path.name.lower()
    for packed in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(packed)
    return name.endswith((".extxyz", ".xyz"))


def records(path: Path) -> Iterator[tuple[str, Atoms]]:
    """Return the frames of a file.

    :raises ContentError: naming the frame that cannot be read.
    """
    from ase.io.extxyz import read_xyz

    number = 0
    with unpacked(path) as stream:
        try:
            for number, atoms in enumerate(read_xyz(stream, index=slice(None))):
                yield f"{path.name}, frame {number}", atoms
        except Exception as exception:  # ASE's reader raises whatever it stumbles upon
            reason = (str(exception).splitlines() or [type(exception).__name__])[0]
            raise ContentError(f"{path}, at frame {number} or after it: cannot be read as extxyz: {reason}") from None


def labelled_record(atoms: Atoms, grid: EnergyGrid) -> CrystalSet:
    """Return the crystal of a frame with its curves, and its energy, forces and stress if it has them.

    :raises ContentError: saying what is wrong.
    """
    if "dos" not in atoms.arrays:
        raise ContentError("no array 'dos'; labelled crystals have a density of states for each atom")
    crystal = crystal_of(atoms.numbers, atoms.cell.array, atoms.positions, fractional=False)
    dos = np.asarray(atoms.arrays["dos"], float)
    dos = dos[:, None] if dos.ndim == 1 else dos
    if not np.isfinite(dos).all() or dos.min() < -1e-3 * max(dos.max(), 1e-300):
        raise ContentError("dos is negative or not finite")
    low, high = (_number(atoms, name) for name in ("dos_low", "dos_high"))
    sigma = _number(atoms, "sigma")
    if (low is None) != (high is None):
        raise ContentError("its energies need both dos_low and dos_high")
    if low is None or high is None:
        if dos.shape[1] != DEFAULT_GRID.n:
            raise ContentError(f"its dos has {dos.shape[1]} energies, and nothing says which; give dos_low and dos_high")
        energies, sigma = DEFAULT_GRID.points, DEFAULT_SIGMA if sigma is None else sigma
    else:
        energies = EnergyGrid(low, high, dos.shape[1]).points
    known = _number(atoms, "complete_below")
    curves = Curves(
        np.clip(dos, 0, None)[:, None, None],
        energies,
        sigma,
        -math.inf,
        math.inf if known is None else known,
        meaning="partition" if atoms.info.get("meaning") == "partition" else "projections",
    )
    source, entry = (str(atoms.info.get(name, default)) for name, default in (("source", "extxyz"), ("id", "")))
    found = labelled(crystal, curves, grid, source, entry)
    results = _results(atoms)
    if "energy" in results and "forces" in results:
        stress = {"stress": results["stress"][None]} if "stress" in results else {}
        return found.with_columns(crystal={"energy": results["energy"][None], **stress}, atom={"forces": results["forces"]})
    return found


def _results(atoms: Atoms) -> dict[str, np.ndarray]:
    """Return energy (eV), forces (eV/Å) and stress (3, 3; eV/Å³) as far as a frame has them.

    :raises ContentError: if one is not finite, or of another shape.
    """
    from ase.stress import voigt_6_to_full_3x3_stress

    given = {name: label_of_frame(atoms, name)[1] for name in ("energy", "forces", "stress")}
    found = {}
    for name, shape in (("energy", ()), ("forces", (len(atoms), 3)), ("stress", (3, 3))):
        if given.get(name) is None:
            continue
        values = np.asarray(given[name], float)
        if name == "stress":
            values = voigt_6_to_full_3x3_stress(values) if values.shape == (6,) else values.reshape(3, 3)
        if values.shape != shape or not np.isfinite(values).all():
            raise ContentError(f"{name} has shape {values.shape} or is not finite; {shape} finite numbers are needed")
        found[name] = values
    return found


def _number(atoms: Atoms, name: str) -> float | None:
    value = atoms.info.get(name)
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ContentError(f"{name} is {value!r}; a number in eV is needed") from None
