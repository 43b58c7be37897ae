"""Densities of states without DFT and without learning: tight binding with universal parameters.

One s and three p orbitals an atom, term values as on-site energies, and hopping by Harrison's universal law
V = η ħ²/(m d²) (W. A. Harrison, Electronic Structure and the Properties of Solids, Freeman 1980; η of Phys. Rev. B 24, 5835,
1981), cut off smoothly beyond the first neighbours. Milliseconds a crystal and right about where bands lie, crude about
their shapes: what a predictor starts from. Nothing here is fitted.
"""

from __future__ import annotations

import numpy as np

from ..core.crystals import CrystalSet
from ..core.dos import DEFAULT_GRID, DEFAULT_SIGMA, project
from ..core.elements import atomic_number

TERM_VALUES = {
    "Be": (2, -8.17, -4.14), "B": (3, -12.54, -6.64), "C": (4, -17.52, -8.97), "N": (5, -23.04, -11.47),
    "O": (6, -29.14, -14.13), "F": (7, -35.80, -16.99), "Mg": (2, -6.86, -2.99), "Al": (3, -10.11, -4.86),
    "Si": (4, -13.55, -6.52), "P": (5, -17.10, -8.33), "S": (6, -20.80, -10.27), "Cl": (7, -24.63, -12.31),
    "Ga": (3, -11.37, -4.90), "Ge": (4, -14.38, -6.36), "As": (5, -17.33, -7.91), "Se": (6, -20.32, -9.53),
    "Br": (7, -23.35, -11.20), "In": (3, -10.12, -4.69), "Sn": (4, -12.50, -5.94), "Sb": (5, -14.80, -7.24),
    "Te": (6, -17.11, -8.59), "I": (7, -19.42, -9.97),
}  # fmt: skip
"""Valence electrons, and the energies of s and p in eV, of the elements whose bonds are made of s and p."""

_HOPPING = (-1.32, 1.42, 2.22, -0.63)  # η of ssσ, spσ, ppσ, ppπ
_HBAR2_OVER_M = 7.62  # eV Å²
_FIRST_SHELL, _END = 1.2, 1.6  # over the sum of covalent radii: where the hopping starts to fall faster, and where it ends
_CLOSEST = 0.7  # same units; atoms nearer than this do not hop faster
_KPOINTS_DISTANCE = 0.45  # 1/Å
_MOST_KPOINTS = 4096
_MOST_HOPS = 200_000

_KNOWN = {atomic_number(symbol): values for symbol, values in TERM_VALUES.items()}


def tight_binding_dos(crystals: CrystalSet) -> np.ndarray:
    """Return the density of states of each atom, relative to the highest occupied level, states/eV, shape (ΣN_i, n).

    Zero for all atoms of crystals with an element that has no term values here, or that are no crystals.
    """
    curves = np.zeros((len(crystals.numbers), DEFAULT_GRID.n), dtype=np.float32)
    offsets = crystals.offsets
    for i, crystal in enumerate(crystals):
        if crystal.defect() is None and all(int(z) in _KNOWN for z in crystal.numbers):
            dos = _one(crystal)
            if dos is not None:
                curves[offsets[i] : offsets[i + 1]] = dos
    return curves


def _one(crystal: CrystalSet) -> np.ndarray | None:
    lattice, numbers = crystal.lattices[0], crystal.numbers
    senders, receivers, vectors = _neighbours(crystal)
    if len(senders) > _MOST_HOPS:
        return None
    blocks = _blocks(vectors, _radii(numbers)[senders] + _radii(numbers)[receivers])
    reciprocal = 2 * np.pi * np.linalg.inv(lattice).T
    mesh = np.maximum(1, np.ceil(np.linalg.norm(reciprocal, axis=1) / _KPOINTS_DISTANCE)).astype(int)
    if mesh.prod() > _MOST_KPOINTS:
        return None
    axes = [(np.arange(m) + 0.5) / m for m in mesh]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    points = points[: (len(points) + 1) // 2] @ reciprocal  # the others are their inverses
    n = len(numbers)
    pairs = senders * n + receivers
    phases = np.exp(1j * points @ vectors.T)  # (K, hops)
    hamiltonian = np.zeros((len(points), n * n, 16), dtype=complex)
    for pair in np.unique(pairs):
        chosen = pairs == pair
        hamiltonian[:, pair] = phases[:, chosen] @ blocks[chosen].reshape(-1, 16)
    hamiltonian = hamiltonian.reshape(-1, n, n, 4, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 4 * n, 4 * n)
    term_values = np.array([_KNOWN[int(z)] for z in numbers])
    diagonal = np.arange(4 * n)
    hamiltonian[:, diagonal, diagonal] += np.repeat(term_values[:, 1:], [1, 3], axis=1).ravel()
    levels, states = np.linalg.eigh((hamiltonian + hamiltonian.conj().transpose(0, 2, 1)) / 2)
    weights = np.square(np.abs(states)).reshape(len(points), n, 4, 4 * n).sum(2).transpose(1, 0, 2)
    projected = project(levels, np.ones(len(points)), weights, float(term_values[:, 0].sum()), DEFAULT_GRID, DEFAULT_SIGMA)
    return projected.dos


def _radii(numbers: np.ndarray) -> np.ndarray:
    from ase.data import covalent_radii

    return covalent_radii[numbers]


def _neighbours(crystal: CrystalSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sender, receiver and vector of each hop, images included."""
    from ase.neighborlist import primitive_neighbor_list

    cutoff = _END * 1.25 * 2 * float(_radii(crystal.numbers).max())
    periodic = (True, True, True)
    i, j, vectors = primitive_neighbor_list("ijD", periodic, crystal.lattices[0], crystal.positions, cutoff)
    distance = np.linalg.norm(vectors, axis=1)
    reach = _END * 1.25 * (_radii(crystal.numbers)[i] + _radii(crystal.numbers)[j])
    near = (distance > 1e-6) & (distance < reach)
    return i[near], j[near], vectors[near]


def _blocks(vectors: np.ndarray, contact: np.ndarray) -> np.ndarray:
    """Return the hopping between the orbitals s, x, y, z of two atoms in eV (Slater & Koster, 1954), shape (hops, 4, 4).

    :param vectors: from one atom to the other, Å, shape (hops, 3).
    :param contact: sum of covalent radii in Å, shape (hops,).
    """
    distance = np.linalg.norm(vectors, axis=1)
    unit = vectors / distance[:, None]
    relative = distance / contact
    beyond = np.clip(relative - _FIRST_SHELL, 0, None)
    damping = np.where(beyond > 0, np.exp(-2 * beyond) / (1 + np.exp((relative - _END) / 0.06)), 1.0)
    strength = _HBAR2_OVER_M / np.maximum(distance, _CLOSEST * contact) ** 2 * damping
    ss, sp, sigma, pi = (eta * strength for eta in _HOPPING)
    blocks = np.empty((len(vectors), 4, 4))
    blocks[:, 0, 0] = ss
    blocks[:, 0, 1:] = sp[:, None] * unit
    blocks[:, 1:, 0] = -sp[:, None] * unit
    blocks[:, 1:, 1:] = (sigma - pi)[:, None, None] * unit[:, :, None] * unit[:, None, :] + pi[:, None, None] * np.eye(3)
    return blocks
