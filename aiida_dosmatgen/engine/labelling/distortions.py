"""Crystals out of equilibrium: strained and displaced, at random or within a subgroup of the space group, or with a vacancy.

A crystal without symmetry costs a DFT code as many k-points as the mesh has, one that keeps a few operations only a part of
them; its forces and stresses are as far from zero.
"""

import numpy as np
import spglib
from ase import Atoms

_SYMPREC = 1e-4  # Å


def displace(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> None:
    """Displace the atoms in place, by normal deviates of ``amplitude`` in Å along each axis."""
    atoms.positions += rng.normal(0, amplitude, (len(atoms), 3))


def strain(atoms: Atoms, amplitude: float, rng: np.random.Generator) -> None:
    """Strain the cell in place, its atoms with it: a symmetric strain whose components deviate by ``amplitude``."""
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + _random_strain(amplitude, rng)), scale_atoms=True)


def distort_within_subgroup(atoms: Atoms, displacement: float, strain: float, rng: np.random.Generator) -> None:
    """Displace and strain a crystal in place such that a random subgroup of its space group is kept.

    The random displacement u and strain ε are averaged over the subgroup G,
    u_j ← |G|⁻¹ Σ_g R_g u_{g⁻¹j} and ε ← |G|⁻¹ Σ_g R_g ε R_gᵀ, with R_g in Cartesian axes.

    :param displacement: standard deviation in Å of each component before the average.
    :param strain: standard deviation of each component before the average.
    """
    rotations, translations = random_subgroup(atoms, rng)
    cell, scaled = atoms.cell.array, atoms.get_scaled_positions(wrap=False)
    u, epsilon = rng.normal(0, displacement, (len(atoms), 3)), _random_strain(strain, rng)
    mean_u, mean_epsilon = np.zeros_like(u), np.zeros((3, 3))
    for rotation, translation in zip(rotations, translations, strict=True):
        cartesian = cell.T @ rotation @ np.linalg.inv(cell.T)
        image = scaled @ rotation.T + translation
        offsets = image[:, None] - scaled[None]
        offsets -= np.round(offsets)
        mean_u[np.linalg.norm(offsets @ cell, axis=-1).argmin(1)] += u @ cartesian.T
        mean_epsilon += cartesian @ epsilon @ cartesian.T
    atoms.positions += mean_u / len(rotations)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + mean_epsilon / len(rotations)), scale_atoms=True)


def random_subgroup(atoms: Atoms, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the subgroup of a crystal's space group (modulo lattice translations) that two random operations generate.

    :return: rotations, shape (n, 3, 3), and translations, shape (n, 3), both on fractional coordinates.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    symmetry = spglib.get_symmetry(cell, symprec=_SYMPREC)
    if symmetry is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    rotations, translations = symmetry["rotations"], symmetry["translations"]
    generators = [(rotations[i], translations[i]) for i in rng.integers(len(rotations), size=2)]
    identity = (np.eye(3, dtype=int), np.zeros(3))
    group = {_key(*identity): identity}
    waiting = [identity]
    while waiting:
        rotation, translation = waiting.pop()
        for r, t in generators:
            product = (r @ rotation, (r @ translation + t) % 1)
            if _key(*product) not in group:
                group[_key(*product)] = product
                waiting.append(product)
    members = list(group.values())
    return np.array([r for r, _ in members]), np.array([t for _, t in members])


def remove_atom(atoms: Atoms, rng: np.random.Generator) -> None:
    """Make a vacancy in place, on a random site."""
    del atoms[int(rng.integers(len(atoms)))]


def _random_strain(amplitude: float, rng: np.random.Generator) -> np.ndarray:
    shear = rng.normal(0, amplitude, (3, 3))
    return (shear + shear.T) / 2


def _key(rotation: np.ndarray, translation: np.ndarray) -> tuple:
    return (*rotation.ravel().tolist(), *(np.round(translation * 1000).astype(int) % 1000).tolist())
