"""Closest contacts of many crystals at once, whatever basis their lattices come in."""

from __future__ import annotations

import numpy as np

from .crystals import MOST_ATOMS, CrystalSet
from .elements import COVALENT_RADII

MIN_CONTACT = 0.6
"""Default of sampler and screening: two atoms nearer than this, over the sum of their covalent radii, lie on each other."""

_RADII = np.array(COVALENT_RADII)
_PAIRS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1))
_REACH = 2  # a pairwise reduced basis has its shortest vectors within ±1; one more for vectors between atoms
_CHUNK = 4_000_000  # distances at a time, to bound memory


# ASE's minkowski_reduce takes one lattice at a time, about a hundred times as long (benchmarks/contacts.py).
def reduce_lattices(lattices: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Return bases of the same lattices with short vectors, by pairwise (Lagrange–Gauss) reduction.

    :param lattices: lattice vectors as rows, in Å, finite and of non-zero volume, shape (N, 3, 3).
    :return: shape (N, 3, 3); the volume is kept.
    """
    reduced = np.array(lattices, dtype=np.float64)
    for _ in range(rounds):
        changed = False
        for i, j in _PAIRS:
            length = (reduced[:, j] ** 2).sum(-1)
            overlap = (reduced[:, i] * reduced[:, j]).sum(-1)
            # the small margin keeps ties (overlap of exactly a half) from being flipped for ever
            turns = np.where(np.abs(overlap) > 0.5 * length * (1 + 1e-9), np.round(overlap / length), 0.0)
            if turns.any():
                reduced[:, i] -= turns[:, None] * reduced[:, j]
                changed = True
        if not changed:
            break
    return reduced


def covalent_radii(numbers: np.ndarray) -> np.ndarray:
    """Return the covalent radii in Å of atomic numbers; the largest tabulated one for elements beyond the table."""
    numbers = np.asarray(numbers)
    return np.where(numbers < len(_RADII), _RADII[np.clip(numbers, 0, len(_RADII) - 1)], _RADII.max())


# Matscipy's neighbour search is as fast in cells of short vectors, but comes with the engine only; ASE's, which core has, takes
# twenty times as long and more (benchmarks/contacts.py). This one needs no cutoff, either.
def closest_contacts(crystals: CrystalSet) -> np.ndarray:
    """Return each crystal's smallest distance between atoms (images included) over the sum of their covalent radii.

    :return: shape (N,); NaN for crystals that :meth:`CrystalSet.defect` refuses.
    """
    result = np.full(len(crystals), np.nan)
    valid = valid_crystals(crystals)
    offsets = crystals.offsets
    steps = np.arange(-_REACH, _REACH + 1)
    images = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    for n in np.unique(crystals.n_atoms[valid]):
        members = np.flatnonzero(valid & (crystals.n_atoms == n))
        size = max(1, _CHUNK // (int(n) ** 2 * len(images)))
        for start in range(0, len(members), size):
            chosen = members[start : start + size]
            atoms = offsets[chosen][:, None] + np.arange(n)
            result[chosen] = _closest(crystals.fractional[atoms], crystals.lattices[chosen], crystals.numbers[atoms], images)
    return result


def valid_crystals(crystals: CrystalSet) -> np.ndarray:
    """Tell which crystals have finite coordinates, known elements, a volume, and not too many atoms, shape (N,) bool."""
    valid = np.isfinite(crystals.lattices).all((1, 2)) & (crystals.n_atoms <= MOST_ATOMS)
    valid[valid] &= np.abs(np.linalg.det(crystals.lattices[valid])) >= 1e-3
    bad_atoms = ~np.isfinite(crystals.fractional).all(1) | (crystals.numbers < 1) | (crystals.numbers > 118)
    valid[crystals.crystal_of_atom[bad_atoms]] = False
    return valid


def _closest(fractional: np.ndarray, lattices: np.ndarray, numbers: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The same for crystals of equally many atoms: (B, n, 3), (B, 3, 3), (B, n) -> (B,)."""
    reduced = reduce_lattices(lattices)
    inside = fractional @ lattices @ np.linalg.inv(reduced)
    radii = covalent_radii(numbers)
    smallest = np.full(len(lattices), np.inf)
    shifts = images @ reduced
    for i in range(fractional.shape[1]):  # a row of the distance matrix at a time; memory stays linear in n
        difference = inside[:, i:] - inside[:, i : i + 1]
        difference = (difference - np.round(difference)) @ reduced
        squares = ((difference[:, :, None] + shifts[:, None]) ** 2).sum(-1)
        squares[:, 0, len(images) // 2] = np.inf  # the atom itself
        ratios = np.sqrt(squares.min(-1)) / (radii[:, i : i + 1] + radii[:, i:])
        smallest = np.minimum(smallest, ratios.min(-1))
    return smallest
