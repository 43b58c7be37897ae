"""One crystal with its curves, from whichever record: checked, and on the energies of the set."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ...contacts import closest_contacts
from ...crystal_files.labels import LEAST_CONTACT
from ...crystals import CrystalSet
from ...curve_columns import with_curves
from ...curves import Curves
from ...dos import EnergyGrid
from ...elements import SYMBOLS
from ...errors import ContentError

_EMPTY = 0.01  # of the largest total; less counts as no states
_LEAST_GAP = 0.2  # eV; a smaller one may be a dip


def crystal_of(numbers: object, cell: object, positions: object, fractional: bool) -> CrystalSet:
    """Return one crystal.

    :param numbers: atomic numbers or chemical symbols, shape (N,).
    :param cell: lattice vectors as rows, in Å, shape (3, 3).
    :param positions: fractional, or Cartesian in Å, shape (N, 3).
    :raises ContentError: saying what is wrong.
    """
    z = _atomic_numbers(numbers)
    try:
        matrix, places = np.array(cell, float), np.array(positions, float)
    except (TypeError, ValueError):
        raise ContentError("cell and positions must be arrays of numbers") from None
    if matrix.shape != (3, 3) or places.shape != (len(z), 3):
        raise ContentError(f"the cell has shape {matrix.shape} and the positions {places.shape}, for {len(z)} atoms")
    if not (np.isfinite(matrix).all() and np.isfinite(places).all()) or abs(float(np.linalg.det(matrix))) < 1e-3:
        raise ContentError("the cell and positions must be finite, and the lattice vectors not in a plane")
    if not fractional:
        places = places @ np.linalg.inv(matrix)
    crystal = CrystalSet(np.array([len(z)]), z, places, matrix[None])
    reason = crystal.defect()
    if reason is not None:
        raise ContentError(reason)
    return crystal


def check_contacts(crystal: CrystalSet) -> None:
    """Refuse a crystal whose atoms lie on each other.

    :raises ContentError: saying how near they are.
    """
    contact = float(closest_contacts(crystal)[0])
    if contact < LEAST_CONTACT:
        raise ContentError(
            f"atoms are as near as {contact:.2f} of their covalent radii; are the positions fractional ones where Cartesian "
            "ones in Å belong?"
        )


def labelled(
    crystal: CrystalSet, curves: Curves, grid: EnergyGrid, source: str, entry: str, dtype: type = np.float16
) -> CrystalSet:
    """Return a crystal with its curves on the energies of the set, spins and channels summed.

    :param source: whose it is, and ``entry`` what it is called there.
    :param dtype: of the stored curves, half precision by default.
    :raises ContentError: if the curves are not of its atoms, or nothing is in them.
    """
    if not curves.resolved:
        raise ContentError("the density of states is the total alone; labels are of each atom")
    if len(curves) != len(crystal.numbers):
        raise ContentError(f"{len(curves)} curves for {len(crystal.numbers)} atoms")
    if not curves.values.any():
        raise ContentError("the density of states is zero everywhere")
    check_contacts(crystal)
    placed = curves.summed().on(grid.points)
    if float(placed.values.max()) > float(np.finfo(np.float16).max):
        raise ContentError(f"the density of states reaches {placed.values.max():.3g} states/eV; its unit is another")
    columns = {"source": np.array([source]), "id": np.array([entry]), "status": np.array(["ok"])}
    return with_curves(crystal, placed, dtype).with_columns(crystal=columns)


def aligned(energies: np.ndarray, dos: np.ndarray) -> Curves:
    """Return curves relative to the Fermi energy with their zero at the valence band maximum, if there is a gap.

    There is one where the total at the Fermi energy is below 1 % of its largest value, and stays so over 0.2 eV at least. The
    maximum is then the last energy below at which the total is larger; what was below the first energy is not known after that.

    :param energies: equidistant, in eV, shape (n,).
    :param dos: states/eV, both spins summed, shape (N, n).
    :raises ContentError: if they are negative or not finite.
    """
    if dos.size and (not np.isfinite(dos).all() or dos.min() < -1e-3 * max(dos.max(), 1e-300)):
        raise ContentError("the density of states is negative or not finite")
    total = dos.sum(0)
    clipped = np.clip(dos, 0, None)[:, None, None]
    given = Curves(clipped, energies, None, -math.inf, math.inf, "fermi", 0.0, meaning="projections")
    filled = total > _EMPTY * total.max()
    below, above = np.flatnonzero(filled & (energies <= 0)), np.flatnonzero(filled & (energies > 0))
    if not below.size or not above.size:
        return given
    top, bottom = float(energies[below[-1]]), float(energies[above[0]])
    if bottom - top < _LEAST_GAP:
        return given
    return dataclasses.replace(given.shifted(top, "vbm"), gap=bottom - top)


def _atomic_numbers(values: object) -> np.ndarray:
    array = np.array(values)
    if array.ndim != 1 or not array.size:
        raise ContentError("the atoms must be a list of atomic numbers or chemical symbols")
    if array.dtype.kind in "US":
        unknown = sorted(set(array.astype(str).tolist()) - set(SYMBOLS[1:]))
        if unknown:
            raise ContentError(f"{unknown[0]!r} is not a chemical symbol")
        return np.array([SYMBOLS.index(symbol) for symbol in array.astype(str)])
    try:
        numbers = array.astype(float)
    except (TypeError, ValueError):
        raise ContentError("the atoms must be atomic numbers or chemical symbols") from None
    if not (numbers == np.rint(numbers)).all():
        raise ContentError(f"atomic_numbers must be whole numbers, one for each atom, not {numbers.tolist()[:6]}")
    bad = (numbers < 1) | (numbers >= len(SYMBOLS))
    if bad.any():
        raise ContentError(f"atomic number {numbers[bad.argmax()]:g} is not an element")
    return numbers.astype(int)
