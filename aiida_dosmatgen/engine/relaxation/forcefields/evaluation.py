"""The interface of a force field."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import numpy as np
import torch

from ....core.crystals import CrystalSet
from ...memory import is_out_of_memory, release

logger = logging.getLogger(__name__)


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


class BatchEvaluator(ABC):
    """A network that computes many crystals in one call, and fewer at a time where memory does not suffice."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._most_atoms = math.inf

    def evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Compute many crystals in one call of the network; halved, and halved again, where memory does not suffice."""
        half = (len(crystals) + 1) // 2
        if len(crystals.numbers) <= self._most_atoms or len(crystals) == 1:
            try:
                return self._evaluate(crystals)
            except (RuntimeError, MemoryError) as exception:
                if len(crystals) == 1 or not is_out_of_memory(exception):
                    raise
            release(self.device)
            logger.warning("out of memory with %d crystals at a time; continuing with %d", len(crystals), half)
            self._most_atoms = len(crystals.numbers) - 1  # later calls do not try as many again
        first, second = self.evaluate(crystals[:half]), self.evaluate(crystals[half:])
        return Evaluation(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))

    @abstractmethod
    def _evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Compute the crystals in one call."""
