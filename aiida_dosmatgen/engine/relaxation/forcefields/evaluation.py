"""The interface of a force field."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from ....core.crystals import CrystalSet


class Evaluation(NamedTuple):
    """What a force field says of N crystals with ΣN_i atoms in all; NaN for a crystal that it failed on.

    :param energies: eV per cell, shape (N,).
    :param forces: eV/Å, shape (ΣN_i, 3).
    :param stresses: eV/Å³, shape (N, 3, 3), symmetric; the derivative of the energy by strain over the volume (ASE's sign).
    """

    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray


class Evaluator(Protocol):
    """A loaded force field.

    :param description: one line that says which force field this is.
    :param sha256: hash of the file behind it, None if there is no file.
    """

    description: str
    sha256: str | None

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Say which atomic numbers it can treat, shape like ``numbers``, bool."""

    def evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Compute crystals that are finite, right-handed, and of known elements."""
