"""What is known of a chemical element before any crystal is seen: numbers that networks read besides an embedding of their own.

A table with one free row for each element learns of an element only from crystals that hold it. Of some there are two, and
what is known of free atoms says in what they are like their neighbours in the periodic table.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from pymatgen.core.periodic_table import Element
from torch import Tensor

from ..core.elements import COVALENT_RADII, atomic_number, electronegativity

_SHELLS = "spdf"
_DEEPEST = -1.5  # Hartree; shells below it are core
_HEAVIEST = 83
"""Bi. Descriptors are in units of their deviation from H to here, so that they do not depend on which elements a model has."""

N_DESCRIPTORS = 19
"""Group, period, electronegativity, covalent radius, ionisation energy, electron affinity, Mendeleev's number; of the shells s,
p, d, f whether an atom has one in reach, the energy of the highest one, and the electrons in those in reach."""


def descriptors(elements: Sequence[str]) -> Tensor:
    """Return the descriptors of some elements, of order 1, shape (E, :data:`N_DESCRIPTORS`).

    Orbital energies are those of free atoms in the local density approximation (NIST, by pymatgen).

    :raises ContentError: for what is no chemical element.
    """
    mean, deviation = _scale()
    rows = np.array([_raw(min(atomic_number(symbol), len(COVALENT_RADII) - 1)) for symbol in elements])
    return torch.tensor((rows - mean) / deviation, dtype=torch.float32)


@functools.cache
def _raw(number: int) -> tuple[float, ...]:
    element = Element.from_Z(number)
    with warnings.catch_warnings():  # pymatgen warns of what it does not know
        warnings.simplefilter("ignore")
        orbitals = element.atomic_orbitals or {}
        affinity, ionisation = element.electron_affinity or 0.0, (element.ionization_energies or [6.0])[0]
    levels = {name: energy for name, energy in orbitals.items() if energy is not None and energy > _DEEPEST}
    highest = [max((e for name, e in levels.items() if name[1] == shell), default=math.nan) for shell in _SHELLS]
    electrons = dict.fromkeys(_SHELLS, 0.0)
    for n, shell, count in element.full_electronic_structure:
        if f"{n}{shell}" in levels:
            electrons[shell] += count
    return (
        float(element.group),
        float(element.row),
        electronegativity(number, 4.0),  # of noble gases about that of F
        float(COVALENT_RADII[number]),
        float(ionisation),
        float(affinity),
        float(element.mendeleev_no),
        *(float(not math.isnan(energy)) for energy in highest),
        *(0.0 if math.isnan(energy) else energy for energy in highest),
        *(electrons[shell] / (4 * l + 2) for l, shell in enumerate(_SHELLS)),
    )


@functools.cache
def _scale() -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([_raw(number) for number in range(1, _HEAVIEST + 1)])
    return rows.mean(0), rows.std(0)
