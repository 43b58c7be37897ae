"""Formation energies against elemental references of one and the same force field (or DFT setting)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .crystals import CrystalSet
from .elements import ATOMIC_NUMBERS, SYMBOLS, atomic_number
from .errors import ContentError


def formation_energy(energies: np.ndarray, crystals: CrystalSet, references: Mapping[str, float]) -> np.ndarray:
    """Return (E − Σ_s n_s μ_s) / Σ_s n_s for each crystal, with the reference energies μ of its elements.

    Energies and references must come from the same force field or the same DFT settings; corrections and hulls of other
    data bases do not mix with them.

    :param energies: total energies in eV per cell, shape (N,).
    :param references: energy per atom, in eV, of each element's ground state.
    :return: eV/atom, shape (N,); NaN where the energy is NaN or an element has no (finite) reference.
    :raises ContentError: if there is not one energy for each crystal, or a key is not an element.
    """
    energies = np.asarray(energies, dtype=np.float64)
    if energies.shape != (len(crystals),):
        raise ContentError(f"energies have shape {energies.shape}, expected ({len(crystals)},), one for each crystal")
    table = np.full(len(SYMBOLS), np.nan)
    for symbol, energy in references.items():
        table[atomic_number(symbol)] = energy
    known = (crystals.numbers > 0) & (crystals.numbers < len(SYMBOLS))
    potentials = np.where(known, table[np.where(known, crystals.numbers, 0)], np.nan)
    elements = np.bincount(crystals.crystal_of_atom, weights=potentials, minlength=len(crystals))
    result = (energies - elements) / crystals.n_atoms
    return np.where(np.isfinite(result), result, np.nan)


def elemental_references(crystals: CrystalSet) -> dict[str, float]:
    """Return the lowest energy per atom, in eV, among the elemental crystals of each element, symbols in order of number.

    Crystals of several elements, and those without a finite energy, do not count.

    :param crystals: with the crystal column ``energy`` (eV per cell).
    :raises ContentError: if that column is missing.
    """
    if "energy" not in crystals.crystal_columns:
        raise ContentError("the crystals have no column 'energy'; relax or label them first")
    lowest: dict[str, float] = {}
    per_atom = np.asarray(crystals.crystal_columns["energy"], dtype=np.float64) / crystals.n_atoms
    offsets = crystals.offsets
    for i in np.flatnonzero(np.isfinite(per_atom)):
        first = int(crystals.numbers[offsets[i]])
        if not 0 < first < len(SYMBOLS) or (crystals.numbers[offsets[i] : offsets[i + 1]] != first).any():
            continue
        symbol = SYMBOLS[first]
        lowest[symbol] = min(lowest.get(symbol, np.inf), float(per_atom[i]))
    return dict(sorted(lowest.items(), key=lambda item: ATOMIC_NUMBERS[item[0]]))
