"""Pairs of atoms within a cutoff, periodic images included, of many crystals: the one neighbour search of the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matscipy.neighbours import neighbour_list

_PERIODIC = np.ones(3, dtype=bool)


class Neighbours(NamedTuple):
    """P pairs of atoms, each in both directions, sorted by the first atom.

    :param i: index of the first atom among all atoms, shape (P,).
    :param j: index of the second, shape (P,).
    :param images: lattice translations n of the second, in units of the lattice vectors, shape (P, 3), integer.
    :param vectors: x_j + n·L − x_i in Å, shape (P, 3).
    :param lengths: of the vectors, shape (P,).
    """

    i: np.ndarray
    j: np.ndarray
    images: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray


def neighbours(positions: np.ndarray, lattices: np.ndarray, n_atoms: np.ndarray, cutoff: float | np.ndarray) -> Neighbours:
    """Find all pairs within a cutoff. An atom is no neighbour of itself, but of its own images.

    :param positions: of all atoms in Å, crystal after crystal, inside of the cells or not, shape (ΣN_i, 3).
    :param lattices: rows in Å, shape (B, 3, 3).
    :param n_atoms: atoms of each crystal, shape (B,).
    :param cutoff: Å, of all crystals or of each, shape (B,).
    """
    ends = np.cumsum(n_atoms)
    found = []
    for first, last, lattice, reach in zip(ends - n_atoms, ends, lattices, np.broadcast_to(cutoff, len(lattices)), strict=True):
        i, j, images, vectors, lengths = neighbour_list(
            "ijSDd", positions=positions[first:last], cell=lattice, pbc=_PERIODIC, cutoff=float(reach)
        )
        found.append((i + first, j + first, images, vectors, lengths))
    return Neighbours(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
