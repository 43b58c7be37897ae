"""Candidates as the criteria see them: crystals in rows, and what is known of each, computed when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..contacts import closest_contacts
from ..crystals import CrystalSet
from ..curve_columns import curves_of
from ..target import DosTarget
from ..thermo import formation_energy
from .criteria import ScreenCriteria
from .hull import energy_above_hull
from .matching import known_as


class Candidates:
    """What the criteria look at; arguments as of :func:`.screen`."""

    def __init__(
        self,
        crystals: CrystalSet,
        references: Mapping[str, float],
        criteria: ScreenCriteria,
        target: DosTarget | None = None,
        phases: CrystalSet | None = None,
        known: CrystalSet | None = None,
    ) -> None:
        self.crystals, self.references, self.criteria = crystals, references, criteria
        self.target, self.phases, self.known = target, phases, known
        self._above = np.full(len(crystals), np.nan)
        self._above_of: set[int] = set()
        self._same: dict[int, int | None] = {}
        self._distances: dict[int, dict[str, Any] | None] = {}

    @functools.cached_property
    def names(self) -> np.ndarray:
        """The number of the candidate in each row, shape (N,)."""
        return self.crystals.crystal_columns.get("candidate", np.arange(len(self.crystals)))

    @property
    def status(self) -> np.ndarray:
        """Of the relaxations, shape (N,)."""
        return self.crystals.crystal_columns["status"]

    @functools.cached_property
    def formation_energies(self) -> np.ndarray:
        """In eV/atom, shape (N,); NaN where one is unknown."""
        return formation_energy(self.crystals.crystal_columns["energy"], self.crystals, self.references)

    def relaxation_energy(self, relaxed: int, unrelaxed: int) -> float:
        """Return by how much a candidate gets lower as it is relaxed, in eV/atom, from the rows of its geometries."""
        return float(self.formation_energies[unrelaxed] - self.formation_energies[relaxed])

    @functools.cached_property
    def contacts(self) -> np.ndarray:
        """Closest contact of each crystal over the sum of the covalent radii, shape (N,)."""
        return closest_contacts(self.crystals)

    @functools.cached_property
    def uncertainties(self) -> np.ndarray:
        """Expected errors of the predicted curves in states/eV/atom, shape (N,); NaN where one is unknown."""
        return self.crystals.crystal_columns.get("predicted_dos_uncertainty", np.full(len(self.crystals), np.nan))

    def above_hull(self, rows: Iterable[int]) -> np.ndarray:
        """Return energies above the hull in eV/atom, shape (N,); NaN where one is unknown, or was never asked for."""
        new = np.array([i for i in rows if i not in self._above_of], dtype=np.int64)
        if len(new) or not self._above_of:
            self._above[new] = energy_above_hull(self.crystals[new], self.references, self.phases)
            self._above_of.update(new.tolist())
        return self._above

    def known_as(self, rows: Iterable[int]) -> dict[int, int]:
        """Return for those of the rows that are known crystals the row of the known one."""
        rows = list(rows)
        if self.known is None:
            return {}
        new = [i for i in rows if i not in self._same]
        found = known_as(self.crystals, new, self.known)
        self._same.update({i: found.get(i) for i in new})
        return {i: same for i in rows if (same := self._same[i]) is not None}

    def distances(self, row: int) -> dict[str, Any] | None:
        """Return how far the predicted DOS of a row is from the target; None without a prediction or a target."""
        if self.target is None:
            return None
        if row not in self._distances:
            self._distances[row] = distances_of(self.crystals, row, self.target)
        return self._distances[row]


def distances_of(crystals: CrystalSet, i: int, target: DosTarget) -> dict[str, Any] | None:
    """Compare the predicted DOS of one crystal with the target; None if there is no prediction."""
    offsets = crystals.offsets
    dos = crystals.atom_columns["predicted_dos"][offsets[i] : offsets[i + 1]]
    if not np.isfinite(dos).all():
        return None
    by_channel = target.wishes and "predicted_channels" in crystals.atom_columns
    resolved = curves_of(crystals, i, "predicted_channels") if by_channel else None
    return target.distances(curves_of(crystals, i, "predicted_dos"), resolved=resolved)
