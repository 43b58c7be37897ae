"""How many electrons there are, and whether they are as many as the atoms have."""

from __future__ import annotations

import numpy as np

from ..curves import Curves
from ..elements import ATOMIC_NUMBERS
from ..errors import ContentError
from .found import Found

_COARSE = 0.055  # eV
_LEAST_ELECTRONS = 0.5  # for each atom, if the whole valence band is there; each element has at least one
_FEW = 0.5  # of the valence electrons; deep s levels may lie below what a file has
_SEMICORE = 18  # electrons of a closed shell that some potentials have besides
_VALENCE = -6.0  # eV; a curve that begins below should hold them


def expected_electrons(found: Found, zero: float) -> float | None:
    """Return the electrons below the energy ``zero`` that the file itself states, None if it does not."""
    if found.n_electrons is not None or found.integrated is None:
        return found.n_electrons
    return float(np.interp(zero, found.energies, found.integrated))


def check_electrons(found: Found, curves: Curves, name: str) -> tuple[bool, list[str]]:
    """Return whether there are as many electrons as the atoms have, and what looks wrong.

    :raises ContentError: if there are next to none, though the atoms are known.
    """
    warnings, electrons = list[str](), _below(curves)
    per = " per atom" if found.per_atom else ""
    if curves.low > -3 or curves.high < 1:
        warnings.append(f"only {curves.low:.1f} to {curves.high:.1f} eV is known")
    if curves.zero is None:
        found.notes.append(f"{electrons:.2f} electrons{per} below 0 eV")
        return True, warnings
    expected = found.n_electrons
    found.notes.append(f"{electrons:.2f} electrons{per} below zero" + ("" if expected is None else f" of {expected:.2f}"))
    if expected is not None and abs(electrons - expected) > max(0.1, 0.03 * expected):
        warnings.append(
            f"the curve holds {electrons:.2f} of {expected:.2f} electrons; are the energies too far apart, "
            "or do they begin too high?"
        )
    fine = found.sigma is not None and found.sigma > curves.spacing
    if curves.spacing > _COARSE and curves.zero == "vbm" and found.zero != "vbm" and found.edges is None and not fine:
        wanted = round((curves.energies[-1] - curves.energies[0]) / 0.05) + 1
        warnings.append(
            f"energies {curves.spacing:.2g} eV apart: the zero may be off by as much; "
            f"compute {wanted} energies or more (NEDOS in VASP)"
        )
    if found.per_atom or found.rows != "sites" or curves.low >= _VALENCE:
        return True, warnings
    n_atoms = len(found.elements) if found.elements else found.n_atoms
    if n_atoms and electrons < _LEAST_ELECTRONS * n_atoms:
        raise ContentError(
            f"{name}: {n_atoms} atoms with {electrons:.2f} electrons below zero; the values are not states/eV of the cell"
        )
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in found.elements or ()]
    valence, most = sum(map(_valence, numbers)), sum(min(z, _valence(z) + _SEMICORE) for z in numbers)
    if numbers and electrons > most + 0.5:
        warnings.append(
            f"{electrons:.2f} electrons below zero, more than {len(numbers)} such atoms have; are columns sums over several?"
        )
        return False, warnings
    if electrons >= _FEW * valence:
        return True, warnings
    warnings.append(
        f"{electrons:.2f} electrons below zero, but the atoms have {valence} in their valence shells; "
        "the values may not be states/eV of the cell"
    )
    return False, warnings


def _below(curves: Curves) -> float:
    """Return the states below zero; in a gap up to its middle, as a broadening moves half of the highest level across zero."""
    limit = 0.5 * curves.gap if curves.zero == "vbm" and curves.gap else 0.0
    return curves.summed(sites=True).shifted(limit).electrons


def _valence(number: int) -> int:
    """Return the electrons of an atom outside of its closed shells: s, p, and d or f where they are not full."""
    core = max(z for z in (0, 2, 10, 18, 36, 54, 86) if z < number)
    outside = number - core
    if core >= 54 and outside > 16:
        outside -= 14
    return outside - 10 if core >= 18 and outside > 12 else outside
