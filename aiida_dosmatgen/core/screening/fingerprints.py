"""A fingerprint of a crystal: how far the neighbours of its atoms are, whatever its cell, origin, orientation and volume.

Average minimum distances (Widdowson et al., MATCH Commun. Math. Comput. Chem. 87, 529, 2022), for each pair of elements: the
mean distance of the atoms of the one to their first, second … k-th neighbour of the other. Moving each atom by less than d
changes each number by less than 2d, so that crystals which are nearly the same have nearly the same fingerprint. The converse
need not hold: a fingerprint rules out most pairs that are different, and a matcher decides on the others (:mod:`.matching`).
"""

from __future__ import annotations

import itertools

import numpy as np

from ..contacts import reduce_lattices
from ..crystals import CrystalSet

NEIGHBOURS = 6
"""Neighbours of each element that are looked at."""

_WIDER = 1.3  # radius that is looked at first, over that of a sphere which holds the neighbours on average


def fingerprints(crystals: CrystalSet, chosen: np.ndarray) -> list[np.ndarray]:
    """Return the fingerprints of some crystals; those of one reduced composition have one length.

    :param crystals: with volumes, and finite coordinates.
    :param chosen: rows.
    :return: each of shape (elements · elements · NEIGHBOURS,), in units of the cube root of the volume per atom; the elements
        by their atomic numbers.
    """
    chosen = np.asarray(chosen, dtype=np.int64)
    offsets, reduced = crystals.offsets, reduce_lattices(crystals.lattices[chosen])
    inverse = np.linalg.inv(reduced)
    fractional = [
        crystals.fractional[offsets[i] : offsets[i + 1]] @ (crystals.lattices[i] @ back)
        for i, back in zip(chosen, inverse, strict=True)
    ]
    return [
        _fingerprint(crystals.numbers[offsets[i] : offsets[i + 1]], positions, lattice)
        for i, positions, lattice in zip(chosen, fractional, reduced, strict=True)
    ]


def _fingerprint(numbers: np.ndarray, fractional: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the fingerprint of one crystal.

    :param lattice: with short vectors (:func:`reduce_lattices`), so that few periodic images are within a radius.
    """
    elements, counts = np.unique(numbers, return_counts=True)
    by_element = np.argsort(numbers, kind="stable")
    between = fractional[by_element, None] - fractional[by_element]
    between = (between - np.round(between)) @ lattice  # (n, n, 3)
    volume = abs(np.linalg.det(lattice))
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    radius = _WIDER * (3 * (NEIGHBOURS + 1) * volume / counts.min() / (4 * np.pi)) ** (1 / 3)
    ends = np.cumsum(counts)
    while True:
        # rounding leaves atoms up to half a vector away along each axis
        reach = np.ceil(radius / heights + 0.5).astype(int)
        images = np.array(list(itertools.product(*(np.arange(-m, m + 1) for m in reach)))) @ lattice
        squares = (  # |between + image|², (n, n, images)
            (between**2).sum(-1)[:, :, None] + 2 * between @ images.T + (images**2).sum(-1)
        )
        nearest = np.stack([_smallest(part) for part in np.split(squares, ends[:-1], axis=1)], axis=1)  # (n, elements, k + 1)
        if nearest.max() <= radius**2:  # no neighbour lies beyond the images
            break
        radius *= 1.3
    distances = np.sqrt(np.maximum(nearest, 0.0)) / (volume / len(numbers)) ** (1 / 3)
    rows = np.split(distances, ends[:-1], axis=0)
    # the nearest of its own element is the atom itself
    of_pairs = [
        of_one[:, other, 1:] if one == other else of_one[:, other, :-1]
        for one, of_one in enumerate(rows)
        for other in range(len(elements))
    ]
    return np.concatenate([of_pair.mean(0) for of_pair in of_pairs])


def _smallest(squares: np.ndarray) -> np.ndarray:
    """Return the NEIGHBOURS + 1 smallest entries of each row, in order; infinite ones where there are fewer."""
    flat = squares.reshape(len(squares), -1)
    if flat.shape[1] <= NEIGHBOURS + 1:
        flat = np.pad(flat, ((0, 0), (0, NEIGHBOURS + 2 - flat.shape[1])), constant_values=np.inf)
    return np.sort(np.partition(flat, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1], axis=1)
