"""Valence orbitals of each element, and where the fit of their parameters starts.

Starting values follow trends only (electronegativity, covalent radius), or the levels of free atoms; what they are worth is up
to the fit.

Shells that form no bands are not among them: semicore p and d shells, and f shells, whose overlaps with neighbours are some
thousandths. Their electrons fill their own states and move nothing else, and where the levels lie is for the networks to say
(:mod:`..channels`). In the labels their channel is also the only one of its kind: the p states of K are 3p.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from ase.units import Ha
from pymatgen.core.periodic_table import Element
from torch import Tensor

from ....core.elements import COVALENT_RADII, atomic_number, electronegativity

_ALLEN = {2: 4.16, 10: 4.79, 18: 3.24}  # electronegativities of He, Ne, Ar, for which Pauling has none
_OF_LEVEL, _SHIFT, _P_OVER_S = 1.2, -3.0, 0.6  # eV
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


def atomic_levels(number: int, otherwise: Sequence[float]) -> tuple[float, float, float]:
    """Return on-site energies s, p, d in eV from the levels of the free atom.

    Levels in the local density approximation (NIST, by pymatgen), scaled and shifted to the ionisation energies that extended
    Hückel theory is used with: within 2 eV for C, Si, O and Fe. A p shell that no free atom has lies above its s shell.

    :param otherwise: the energies to take where the free atom has no such level, or none is known.
    """
    element = Element.from_Z(number)
    with warnings.catch_warnings():  # pymatgen warns of what it does not know
        warnings.simplefilter("ignore")
        known = element.atomic_orbitals or {}
    levels = [known.get(f"{n}{shell}") for n, shell in ((element.row, "s"), (element.row, "p"), (element.row - 1, "d"))]
    s, p, d = (None if energy is None else _OF_LEVEL * Ha * energy + _SHIFT for energy in levels)
    if s is None:
        s = otherwise[0]
    return s, _P_OVER_S * s if p is None else p, otherwise[2] if d is None else d


def valence(elements: Sequence[str], from_atoms: bool = False) -> Valence:
    """Return the orbitals of some elements.

    :param from_atoms: take the starting energies from the levels of free atoms where they are known, instead of from trends.
    :raises ContentError: for what is no chemical element.
    """
    rows = []
    for symbol in elements:
        number = min(atomic_number(symbol), len(COVALENT_RADII) - 1)
        shells, electrons = shells_and_electrons(number)
        radius = COVALENT_RADII[number]
        level = 2.5 - 4.8 * electronegativity(
            number, _ALLEN.get(number, math.nan)
        )  # the p level of the elements of the p block, within 1 eV
        if shells == 3:
            energies, exponents = (1.2 * level, 0.6 * level, 1.6 * level), (1.6, 1.5, 4.2)
        else:
            decay = 2.55 / max(radius, 0.7) ** 0.5
            energies, exponents = (1.95 * level, level, 0.0), (decay, decay, 1.0)
        if from_atoms:
            levels = atomic_levels(number, energies)
            energies = levels[0], levels[1] if shells > 1 else 0.0, levels[2] if shells > 2 else 0.0
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
