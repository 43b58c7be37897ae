"""What stands in a file, and what was made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from ..curves import Curves, Meaning, Zero

Unknown = Literal["zero", "sigma", "scale"]

Rows = Literal["sites", "elements", "some sites"]
"""What parts are of: all sites of a cell; elements, each of one atom or the sum over several; or some atoms of a cell."""

Change = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Total:
    """The density of states of a whole cell, and nothing else.

    :param values: states/eV, shape (n_spins, n).
    """

    values: np.ndarray

    @property
    def summed(self) -> np.ndarray:
        """The total, shape (n,)."""
        return self.values.sum(0)

    def mapped(self, change: Change) -> Total:
        """Return what a change of the values gives."""
        return Total(change(self.values))


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the density of states: of sites, or of orbitals of the whole cell, and the total if the file has it.

    :param values: states/eV, shape (n_parts, n_spins, n_channels, n).
    :param channels: names of the third axis.
    :param resolved: whether the first axis are the sites of the cell; otherwise there is one part, the whole cell.
    :param total: of as many spins as the parts; None if the file has none.
    :param whole: whether the parts are known to add up to all states, though there is no total.
    """

    values: np.ndarray
    channels: tuple[str, ...] = ("all",)
    resolved: bool = True
    total: Total | None = None
    whole: bool = False

    @property
    def summed(self) -> np.ndarray:
        """The total, or the sum of the parts if there is none, shape (n,)."""
        return self.values.sum((0, 1, 2)) if self.total is None else self.total.summed

    def mapped(self, change: Change) -> Parts:
        """Return what a change of all values gives."""
        total = None if self.total is None else self.total.mapped(change)
        return dataclasses.replace(self, values=change(self.values), total=total)


def parts_beside(
    total: np.ndarray | None, parts: np.ndarray, channels: tuple[str, ...] = ("all",), resolved: bool = True
) -> Parts:
    """Return parts with the total beside them, with as many spins.

    A total without spins is shared between the two of the parts as these are; if only the total has spins, they are summed.

    :param total: states/eV, shape (n_spins, n); None if there is none.
    :param parts: states/eV, shape (n_parts, n_spins, n_channels, n).
    """
    if total is None:
        return Parts(parts, channels, resolved)
    if len(total) < parts.shape[1]:
        by_spin = parts.sum((0, 2))
        sums = by_spin.sum(0)
        total = total * np.where(sums > 0, by_spin / np.maximum(sums, 1e-300), 0.5)
    elif len(total) > parts.shape[1]:
        total = total.sum(0, keepdims=True)
    return Parts(parts, channels, resolved, Total(total))


@dataclasses.dataclass(eq=False)
class Found:
    """What a reader found in a file, as it stands there.

    :param kind: what the file is, in words.
    :param energies: eV, in any order, shape (n,).
    :param states: the total alone, or parts with or without it.
    :param fermi: Fermi energy on the scale of ``energies``.
    :param zero: what energy zero is, if the file says so.
    :param edges: valence band maximum and conduction band minimum on the scale of ``energies``, if the file has them.
    :param gap: band gap in eV, if the file states it.
    :param sigma: broadening in eV, if the file states it.
    :param n_electrons: of the cell, if the file states it.
    :param integrated: states below each energy, shape (n,).
    :param rows: what parts are of.
    :param elements: symbols of the sites.
    :param n_atoms: atoms of the cell, if they are known.
    :param per_atom: whether a total is divided by the number of atoms.
    :param sites: the atoms, from 0, that the parts are for, if they are chosen ones.
    :param low: eV from which the curve is valid, if the file says so.
    :param high: eV up to which the curve is valid, if the file says so.
    :param meaning: what sites hold, if the file says so.
    :param unit: of the energies in the file, which are converted.
    :param scaled: whether the unit is known to be states/eV.
    :param absolute: how to give the energy zero, if it is known that energies are not relative to anything of the crystal.
    :param lacks: what the file lacks of a crystal's density of states, and where it is, if it holds a piece only.
    :param number: of energies in the file, if the curves were put on others.
    :param notes: what was made of the file, in words.
    :param warnings: what looks wrong.
    """

    kind: str
    energies: np.ndarray
    states: Total | Parts
    fermi: float | None = None
    zero: Zero | None = None
    edges: tuple[float, float | None] | None = None
    gap: float | None = None
    sigma: float | None = None
    n_electrons: float | None = None
    integrated: np.ndarray | None = None
    rows: Rows = "sites"
    elements: tuple[str, ...] | None = None
    n_atoms: int | None = None
    per_atom: bool = False
    sites: tuple[int, ...] | None = None
    low: float | None = None
    high: float | None = None
    meaning: Meaning | None = None
    unit: str = "eV"
    scaled: bool = True
    absolute: str | None = None
    lacks: str | None = None
    number: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def change(self, energies: np.ndarray, change: Change) -> None:
        """Take other energies, and change all curves along."""
        self.energies = energies
        self.states = self.states.mapped(change)
        if self.integrated is not None:
            self.integrated = change(self.integrated)


@dataclasses.dataclass(frozen=True, eq=False)
class ReadCurves:
    """Curves from a file, and what was made of it.

    :param curves: with ``sigma`` 0 where the file does not state its broadening, and no ``zero`` where that is not known.
    :param said: one line.
    :param kind: what the file is, in words.
    :param unknown: what the file does not tell: ``zero``, ``sigma``, ``scale`` (whether values are states/eV of a whole cell).
    :param warnings: what looks wrong, also part of ``said``.
    :param n_atoms: atoms of the cell, None if they are not known.
    :param per_atom: whether a total is divided by the number of atoms.
    :param rows: what curves of parts are of; ``made.settled`` says what to do with other ones than all sites.
    :param elements: symbols of the sites, None if they are not known.
    :param sites: the atoms, from 0, that the curves are for, if they are chosen ones.
    :param fermi: the Fermi energy that the file states, in eV relative to the energy zero of ``curves``.
    :param unit: of the energies in the file.
    :param problem: why the curves are no target, though they can be looked at; None if they are one.
    """

    curves: Curves
    said: str
    kind: str
    unknown: frozenset[Unknown] = frozenset()
    warnings: tuple[str, ...] = ()
    n_atoms: int | None = None
    per_atom: bool = False
    rows: Rows = "sites"
    elements: tuple[str, ...] | None = None
    sites: tuple[int, ...] | None = None
    fermi: float | None = None
    unit: str = "eV"
    problem: str | None = None
