"""Energies above the convex hull of known phases, all by one and the same force field."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..crystals import CrystalSet
from ..elements import SYMBOLS
from ..errors import ContentError


def energy_above_hull(crystals: CrystalSet, references: Mapping[str, float], phases: CrystalSet | None = None) -> np.ndarray:
    """Return how far each crystal lies above the hull of the phases and the elements, in eV/atom, shape (N,).

    Negative values lie below it: such a crystal is more stable than all that is known. The crystals themselves are no phases.

    :param crystals: with the column ``energy`` in eV per cell.
    :param references: energy per atom, in eV, of each element.
    :param phases: with the column ``energy``; those without a finite one, and those whose ``status``, if there is one, is not
        ``converged``, are left out. None takes the elements only.
    :return: NaN where the energy is not finite or an element has no reference.
    :raises ContentError: if a column is missing.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    for name, given in (("crystals", crystals), ("known phases", phases)):
        if given is not None and "energy" not in given.crystal_columns:
            raise ContentError(f"the {name} have no column 'energy'; relax them with the force field of the candidates")
    elements = {s: PDEntry(Composition(s), e) for s, e in references.items() if np.isfinite(e)}
    entries = [(set(map(str, c.elements)), PDEntry(c, e)) for c, e in _stable(phases)] if phases is not None else []
    diagrams: dict[frozenset[str], PhaseDiagram] = {}
    result = np.full(len(crystals), np.nan)
    energies = np.asarray(crystals.crystal_columns["energy"], dtype=np.float64)
    for i in np.flatnonzero(np.isfinite(energies)):
        counts = _counts(crystals, int(i))
        if counts is None or not counts.keys() <= elements.keys():
            continue
        system = frozenset(counts)
        if system not in diagrams:
            inside = [entry for symbols, entry in entries if symbols <= system]
            diagrams[system] = PhaseDiagram([elements[s] for s in sorted(system)] + inside)
        hull = diagrams[system].get_hull_energy_per_atom(Composition(counts))
        result[i] = energies[i] / crystals.n_atoms[i] - hull
    return result


def _stable(phases: CrystalSet):
    """Give composition and energy of the phases that count."""
    from pymatgen.core import Composition

    status = phases.crystal_columns.get("status")
    energies = np.asarray(phases.crystal_columns["energy"], dtype=np.float64)
    for i in np.flatnonzero(np.isfinite(energies)):
        counts = _counts(phases, int(i))
        if counts is not None and (status is None or str(status[i]) == "converged"):
            yield Composition(counts), float(energies[i])


def _counts(crystals: CrystalSet, i: int) -> dict[str, int] | None:
    numbers, counts = np.unique(crystals.numbers[crystals.offsets[i] : crystals.offsets[i + 1]], return_counts=True)
    if not len(numbers) or numbers[0] < 1 or numbers[-1] >= len(SYMBOLS):
        return None
    return {SYMBOLS[z]: int(n) for z, n in zip(numbers, counts, strict=True)}
