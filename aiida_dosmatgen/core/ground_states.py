"""The crystal structure in which each element is found at low temperature.

Simple lattices come from ASE's ``reference_states``. The others are below, from J. Donohue, *The Structures of the Elements*
(Wiley, 1974) and R. W. G. Wyckoff, *Crystal Structures* (Interscience, 1963). Lattice constants are those of experiment: a
force field or DFT moves them by a few per cent.

What is not the very ground state, because that has too many atoms or is known less well: sulfur as S₆ (0.02 eV per atom above
S₈, which has 32 atoms in its cell); hydrogen and fluorine as a molecule in a cell, which PBE hardly binds to others.
"""

from __future__ import annotations

from typing import NamedTuple

from ase import Atoms
from ase.build import bulk
from ase.data import reference_states
from ase.spacegroup import crystal

from .elements import SYMBOLS
from .errors import ContentError

_SIMPLE = {"fcc", "bcc", "hcp", "diamond", "sc", "rhombohedral", "bct"}
_MOLECULES = {"H": (0.74, 4.0), "F": (1.42, 4.5)}  # bond length and edge of the cell in Å


class _Structure(NamedTuple):
    spacegroup: int
    cell: tuple[float, float, float, float, float, float]  # Å and degrees
    positions: tuple[tuple[float, float, float], ...]


def _orthorhombic(a: float, b: float, c: float, y: float, z: float) -> _Structure:
    """Chains or molecules in the planes of Cmce: (0, y, z)."""
    return _Structure(64, (a, b, c, 90, 90, 90), ((0, y, z),))


_STRUCTURES = {
    "B": _Structure(166, (4.908, 4.908, 12.567, 90, 90, 120), ((0.1187, -0.1187, 0.8915), (0.1969, -0.1969, 0.0243))),
    "N": _Structure(205, (5.66, 5.66, 5.66, 90, 90, 90), ((0.056, 0.056, 0.056),)),
    "O": _Structure(12, (5.403, 3.429, 5.086, 90, 132.53, 90), ((0.1027, 0, 0.1614),)),
    "P": _orthorhombic(3.3136, 10.478, 4.3763, 0.1017, 0.0806),
    "S": _Structure(148, (10.818, 10.818, 4.28, 90, 90, 120), ((0.1454, 0.1882, 0.1055),)),
    "Cl": _orthorhombic(6.145, 4.395, 8.154, 0.1173, 0.1019),
    "Mn": _Structure(
        217,
        (8.911, 8.911, 8.911, 90, 90, 90),
        ((0, 0, 0), (0.317, 0.317, 0.317), (0.356, 0.356, 0.034), (0.089, 0.089, 0.282)),
    ),
    "Ga": _orthorhombic(4.5192, 7.6586, 4.5258, 0.1539, 0.081),
    "Se": _Structure(152, (4.366, 4.366, 4.954, 90, 90, 120), ((0.2254, 0, 1 / 3),)),
    "Br": _orthorhombic(6.67, 4.48, 8.72, 0.1217, 0.1172),
    "Te": _Structure(152, (4.457, 4.457, 5.929, 90, 90, 120), ((0.2636, 0, 1 / 3),)),
    "I": _orthorhombic(7.265, 4.786, 9.79, 0.1543, 0.1174),
    "La": _Structure(194, (3.774, 3.774, 12.171, 90, 90, 120), ((0, 0, 0), (1 / 3, 2 / 3, 0.25))),
}


def ground_state(symbol: str) -> Atoms:
    """Return the primitive cell of an element's crystal.

    :raises ContentError: for elements that are not in the tables.
    """
    if symbol in _MOLECULES:
        bond, edge = _MOLECULES[symbol]
        return Atoms(f"{symbol}2", [(0, 0, 0), (0, 0, bond)], cell=[edge, edge, edge + bond], pbc=True)
    if symbol in _STRUCTURES:
        spacegroup, cell, positions = _STRUCTURES[symbol]
        atoms = crystal([symbol] * len(positions), positions, spacegroup=spacegroup, cellpar=cell, primitive_cell=True)
        return Atoms(atoms.symbols, scaled_positions=atoms.get_scaled_positions(), cell=atoms.cell, pbc=True)
    state = reference_states[SYMBOLS.index(symbol)] if symbol in SYMBOLS else None
    if state is None or state["symmetry"] not in _SIMPLE:
        raise ContentError(f"no crystal structure of {symbol} is known here")
    return bulk(symbol)
