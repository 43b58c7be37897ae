"""Valence orbitals of each element, and where the fit of their parameters starts.

Starting values follow trends only (electronegativity, covalent radius); what they are worth is up to the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pymatgen.core.periodic_table import Element
from torch import Tensor

from ....core.elements import COVALENT_RADII, atomic_number

_ALLEN = {2: 4.16, 10: 4.79, 18: 3.24}  # He, Ne, Ar, for which Pauling has none
_NOBLE = (0, 2, 10, 18, 36, 54, 86)


class Valence(NamedTuple):
    """Orbitals of E elements.

    :param present: whether an element has a shell s, p, d, shape (E, 3).
    :param electrons: in these shells, shape (E,).
    :param energies: starting on-site energies in eV, shape (E, 3).
    :param exponents: starting exponents of the Slater orbitals in 1/Å, shape (E, 3).
    :param radii: covalent, Å, shape (E,).
    """

    present: Tensor
    electrons: Tensor
    energies: Tensor
    exponents: Tensor
    radii: Tensor


def shells_and_electrons(number: int) -> tuple[int, int]:
    """Return the number of shells (1: s, 2: s and p, 3: s, p and d) and their electrons.

    Filled d shells below p electrons count as core, and so do f shells.
    """
    core = max(n for n in _NOBLE if n < number)
    n = number - core
    if core == 0:
        return 1, n
    if n <= 2 or core < 18:
        return 2, n
    if core >= 54:  # the f shell is passed over
        n = 3 if n <= 17 else n - 14
    return (3, n) if n <= 12 else (2, n - 10)


def electronegativity(number: int) -> float:
    """Return the electronegativity of an element on Pauling's scale, by its atomic number; Allen's for He, Ne and Ar."""
    return _ALLEN[number] if number in _ALLEN else Element.from_Z(number).X


def valence(elements: Sequence[str]) -> Valence:
    """Return the orbitals of some elements.

    :raises ContentError: for what is no chemical element.
    """
    rows = []
    for symbol in elements:
        number = min(atomic_number(symbol), len(COVALENT_RADII) - 1)
        shells, electrons = shells_and_electrons(number)
        radius = COVALENT_RADII[number]
        level = 2.5 - 4.8 * electronegativity(number)  # the p level of the elements of the p block, within 1 eV
        if shells == 3:
            energies, exponents = (1.2 * level, 0.6 * level, 1.6 * level), (1.6, 1.5, 4.2)
        else:
            decay = 2.55 / max(radius, 0.7) ** 0.5
            energies, exponents = (1.95 * level, level, 0.0), (decay, decay, 1.0)
        rows.append(([i < shells for i in range(3)], electrons, energies, exponents, radius))
    present, counts, levels, decays, radii = zip(*rows, strict=True)
    single = torch.float32
    return Valence(
        torch.tensor(present),
        torch.tensor(counts, dtype=torch.long),
        torch.tensor(levels, dtype=single),
        torch.tensor(decays, dtype=single),
        torch.tensor(radii, dtype=single),
    )
