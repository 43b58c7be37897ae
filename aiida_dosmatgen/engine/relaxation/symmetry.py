"""Space groups that a relaxation keeps: found once, then imposed on forces and stresses.

An optimiser that starts from a symmetric point and sees symmetric gradients only takes symmetric steps: L-BFGS makes linear
combinations of them, and the springs that it starts from have the symmetry too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import spglib

from ...core.crystals import CrystalSet
from .forcefields.evaluation import Evaluation

_SWEEPS = 10  # translations and positions are averaged in turn, as each is only as exact as the other


class Operations(NamedTuple):
    """The G operations x → Wx + w of a crystal's space group.

    :param rotations: W in the basis of the lattice, shape (G, 3, 3), integer.
    :param images: the atom that each atom goes to, shape (G, n).
    """

    rotations: np.ndarray
    images: np.ndarray


def symmetrize(crystal: CrystalSet, tolerance: float) -> tuple[CrystalSet, Operations]:
    """Find the space group of one crystal, and return the crystal with its symmetry made exact.

    :param tolerance: distance in Å within which atoms count as equivalent.
    """
    fractional, lattice = crystal.fractional, crystal.lattices[0]
    nothing = Operations(np.eye(3, dtype=int)[None], np.arange(len(fractional))[None])
    try:
        found = spglib.get_symmetry((lattice, fractional, crystal.numbers), symprec=tolerance)  # type: ignore[arg-type]
    except spglib.SpglibError:
        found = None
    if found is None:
        return crystal, nothing
    rotations, translations = found["rotations"], found["translations"]
    images = _images(fractional, lattice, crystal.numbers, rotations, translations)
    if (np.sort(images, axis=1) != np.arange(len(fractional))).any():
        return crystal, nothing  # the tolerance exceeds distances between atoms
    for _ in range(_SWEEPS):
        moved = np.einsum("gij,nj->gni", rotations, fractional) + translations[:, None]
        miss = moved - fractional[images]
        miss -= np.round(miss)
        shift = miss.mean(1, keepdims=True)
        translations = translations - shift[:, 0]
        changes = np.zeros_like(fractional)
        np.add.at(changes, images, miss - shift)
        fractional = fractional + changes / len(rotations)
    metric = np.einsum("gki,kl,glj->ij", rotations, lattice @ lattice.T, rotations) / len(rotations)
    inverse = np.linalg.inv(lattice)
    squares, axes = np.linalg.eigh(inverse @ metric @ inverse.T)
    lattice = lattice @ (axes * np.sqrt(squares)) @ axes.T
    return crystal.replace(fractional=fractional, lattices=lattice[None]), Operations(rotations, images)


def _images(fractional, lattice, numbers, rotations, translations) -> np.ndarray:
    moved = np.einsum("gij,nj->gni", rotations, fractional) + translations[:, None]
    away = moved[:, :, None] - fractional
    away -= np.round(away)
    distances = np.linalg.norm(away @ lattice, axis=-1)
    distances[:, numbers[:, None] != numbers] = np.inf
    return distances.argmin(2)


def impose(operations: Sequence[Operations], crystals: CrystalSet, evaluation: Evaluation) -> Evaluation:
    """Average forces and stresses over the operations of each crystal, all crystals at once.

    :param operations: those of each of the crystals, which have the symmetry.
    """
    counts = np.array([len(o.rotations) for o in operations])
    crystal = np.repeat(np.arange(len(counts)), counts)
    lattices = crystals.lattices
    rotations = np.concatenate([o.rotations for o in operations]).transpose(0, 2, 1)
    rotations = np.linalg.inv(lattices)[crystal] @ rotations @ lattices[crystal]  # of row vectors in Å
    stresses = np.zeros_like(evaluation.stresses)
    np.add.at(stresses, crystal, rotations.transpose(0, 2, 1) @ evaluation.stresses[crystal] @ rotations)

    offsets = crystals.offsets
    targets = np.concatenate([(o.images + offsets[b]).reshape(-1) for b, o in enumerate(operations)])
    sources = np.concatenate(
        [np.tile(np.arange(offsets[b], offsets[b + 1]), len(o.rotations)) for b, o in enumerate(operations)]
    )
    operation = np.repeat(np.arange(len(crystal)), crystals.n_atoms[crystal])
    forces = np.zeros_like(evaluation.forces)
    np.add.at(forces, targets, np.einsum("ni,nij->nj", evaluation.forces[sources], rotations[operation]))
    return Evaluation(
        evaluation.energies,
        forces / counts[crystals.crystal_of_atom][:, None],
        stresses / counts[:, None, None],
    )
