"""Crystals whose labels follow a simple law, so that something can be learnt from a few of them in seconds."""

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID, gaussian_dos
from aiida_dosmatgen.engine.labelling.prototypes import generate

ELEMENTS = ["C", "Si", "Ge"]


def labelled(count: int = 60, seed: int = 0) -> CrystalSet:
    """Prototype crystals with curves and energies that depend on the volume per atom and the element.

    Each atom has two levels, one below and one above zero, closer together in larger cells; the energy is a parabola in the
    length scale, with the stress that belongs to it, and no forces.
    """
    crystals = generate(ELEMENTS, count, seed, max_atoms=4)
    per_atom = (crystals.volumes / crystals.n_atoms)[crystals.crystal_of_atom]
    gap = 6.0 - np.cbrt(per_atom)
    curves = [
        gaussian_dos(np.array([-g - 0.05 * z, g]), np.array([4.0, 4.0]), sigma=0.6)
        for g, z in zip(gap, crystals.numbers, strict=True)
    ]
    length = np.cbrt(crystals.volumes / crystals.n_atoms)
    ideal = np.bincount(crystals.crystal_of_atom, weights=1.8 + 0.03 * crystals.numbers) / crystals.n_atoms
    energy = crystals.n_atoms * ((length - ideal) ** 2 - 5.0)
    # dE/dV · 1 for an isotropic strain: E = n·u(l), V = n·l³
    pressure = -2 * (length - ideal) / (3 * length**2)
    return crystals.with_columns(
        crystal={
            "energy": energy,
            "stress": -pressure[:, None, None] * np.eye(3),
            "complete_below": np.where(np.arange(count) % 2, 6.0, np.inf),
            "status": np.full(count, "ok"),
        },
        atom={"dos": np.array(curves, dtype=np.float32), "forces": np.zeros((len(crystals.numbers), 3))},
    )


def few() -> CrystalSet:
    """Return half of these crystals, for trainings of predictors: the tight binding of each crystal takes the most time."""
    crystals = labelled()
    return crystals[np.flatnonzero(np.isin(np.arange(len(crystals)) % 4, (1, 2)))]


def beyond(crystals: CrystalSet) -> np.ndarray:
    """Select the points of each atom's curve that must not count, shape (ΣN_i, n)."""
    return DEFAULT_GRID.points > crystals.crystal_columns["complete_below"][crystals.crystal_of_atom][:, None]
