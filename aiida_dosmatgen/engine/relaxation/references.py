"""Elemental references: the ground state of each element with one force field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from ase import Atoms

from ...core.contacts import closest_contacts
from ...core.crystals import CrystalSet
from ...core.errors import ContentError
from ...core.ground_states import ground_state
from ...core.thermo import elemental_references

LEAST_VOLUME = 5.0
"""Of an atom in Å³; diamond, the densest of the elements, has 5.7."""


def reference_candidates(prototypes: Mapping[str, Iterable[Atoms]]) -> CrystalSet:
    """Return the structures among which each element's ground state is looked for, unrelaxed.

    These are its prototypes, and the crystal in which it is found, where that is known (:mod:`...core.ground_states`).

    What is denser than any element, as hydrogen is at twice its covalent radius, is expanded to that: its thousands of
    neighbours would cost more than all other elements together.

    :param prototypes: structures of each element, by its symbol.
    :return: crystals of one element each.
    """
    structures = [atoms for symbol, known in prototypes.items() for atoms in (*known, *_experimental(symbol))]
    crystals = CrystalSet.from_ase(structures)
    factors = np.cbrt(LEAST_VOLUME * crystals.n_atoms / crystals.volumes).clip(1)
    return crystals.replace(lattices=crystals.lattices * factors[:, None, None])


def _experimental(symbol: str) -> list[Atoms]:
    try:
        return [ground_state(symbol)]
    except ContentError:
        return []


def reference_energies(relaxed: CrystalSet) -> dict[str, float]:
    """Return each element's lowest energy per atom, in eV, among its candidates that converged as crystals.

    :param relaxed: what :func:`reference_candidates` gave, relaxed: with columns ``energy`` and ``status``. Candidates whose
        atoms have come closer than half the sum of their covalent radii do not count.
    :return: elements without any such candidate are missing.
    """
    converged = relaxed.crystal_columns["status"] == "converged"
    return elemental_references(relaxed[np.flatnonzero(converged & (closest_contacts(relaxed) > 0.5))])
