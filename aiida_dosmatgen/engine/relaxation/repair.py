"""Repair generated crystals, so that a force field can start from them."""

from __future__ import annotations

import numpy as np

from ...core.contacts import closest_contacts, covalent_radii, reduce_lattices
from ...core.crystals import CrystalSet
from ..neighbours import neighbours

OVERLAP = 0.5
"""Contacts (over the sum of covalent radii) below this are overlaps: force fields know nothing there."""
_APART = 0.75  # contact up to which overlapping atoms are pushed
_SWEEPS = 200
_GROWTH = 1.01  # of the cell's lengths in a sweep that still finds overlaps, once the first sweeps did not remove them
_PATIENCE = 40  # sweeps before the cell grows
_LARGEST_GROWTH = 1.6  # of the cell's lengths
_SMALLEST_HEIGHT = 0.6  # Å; a flatter cell repeats its atoms on top of themselves


def make_right_handed(crystals: CrystalSet) -> CrystalSet:
    """Return the same crystals in right-handed bases: the third vector of a left-handed one is turned round."""
    finite = np.isfinite(crystals.lattices).all((1, 2))
    left = np.linalg.det(np.where(finite[:, None, None], crystals.lattices, np.eye(3))) < 0
    if not left.any():
        return crystals
    lattices, fractional = crystals.lattices.copy(), crystals.fractional.copy()
    lattices[left, 2] *= -1
    fractional[left[crystals.crystal_of_atom], 2] *= -1
    return crystals.replace(lattices=lattices, fractional=fractional)


def push_apart(crystal: CrystalSet) -> CrystalSet | None:
    """Move overlapping atoms of one crystal apart, and let the cell grow if it is too small for them.

    Atoms closer than 0.75 of the sum of their covalent radii are moved away from each other, all pairs at a time, until none is
    left. Atoms on the same spot separate along directions that depend on their numbers alone, so the result is reproducible.

    :return: the crystal without overlaps, or None if it cannot be had.
    """
    lattice = crystal.lattices[0]
    reduced = reduce_lattices(lattice[None])[0]
    if (1 / np.linalg.norm(np.linalg.inv(reduced), axis=0)).min() < _SMALLEST_HEIGHT:
        return None
    fractional, radii = crystal.fractional.copy(), covalent_radii(crystal.numbers)
    growth, rng = 1.0, np.random.default_rng(len(radii))
    for sweep in range(_SWEEPS):
        i, j, vectors = _overlaps(fractional, lattice * growth, radii)
        if not len(i):
            break
        lengths = np.linalg.norm(vectors, axis=1)
        same = lengths < 1e-3
        vectors[same] = rng.normal(size=(int(same.sum()), 3))
        missing = _APART * (radii[i] + radii[j]) - lengths
        move = vectors / np.linalg.norm(vectors, axis=1)[:, None] * (0.55 * missing + 0.01)[:, None]
        moves = np.zeros_like(fractional)
        np.add.at(moves, j, np.where((i == j)[:, None], 0.0, move))
        fractional += np.clip(moves, -0.5, 0.5) @ np.linalg.inv(lattice * growth)
        if sweep >= _PATIENCE or (i == j).any():
            growth *= _GROWTH
            if growth > _LARGEST_GROWTH:
                return None
    pushed = crystal.replace(fractional=fractional, lattices=(lattice * growth)[None])
    return pushed if closest_contacts(pushed)[0] >= OVERLAP else None


def _overlaps(fractional: np.ndarray, lattice: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return atoms i, j and the vectors from i to j (images included, both orders) of all pairs that overlap."""
    i, j, _, vectors, lengths = neighbours(
        fractional @ lattice, lattice[None], np.array([len(radii)]), 2 * _APART * radii.max()
    )
    close = lengths < _APART * (radii[i] + radii[j])
    return i[close], j[close], vectors[close]
