"""What is measured on curves for wishes: states between two energies, an empty region, and why something is not known."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from scipy.interpolate import CubicSpline

from ..curves import Curves
from ..errors import ContentError

Channel = Literal["s", "p", "d", "f"]

EMPTY = 0.02
"""States/eV/atom below which a curve counts as empty where its gap is looked for; see docs/explanation/wishes.md."""

_STEP = 0.02  # eV, of the points between which curves are integrated
_SLACK = 0.05  # eV, by which a curve may end too early


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a curve has of a wish.

    :param value: in the unit of the wish; None if the curve does not tell.
    :param missed_by: how far it is from what is accepted, in the same unit, 0 if the wish is met; None if the value is.
    :param note: how the value was found, or why there is none; empty if there is nothing to say.
    """

    value: float | None
    missed_by: float | None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the wish is met; None if the curve does not tell."""
        return None if self.missed_by is None else self.missed_by == 0


def empty_above_zero(curves: Curves, n_atoms: int | None = None) -> tuple[float, str]:
    """Return where the empty region above energy zero ends in eV, 0 if there is none, and how it was found.

    The region begins within 1.5 eV of zero, because the broadening smears the edge, and is empty below :data:`EMPTY`.
    """
    piece = piece_of(curves, n_atoms, None, 0.0, 0.0, whole=True)
    if isinstance(piece, Measured):
        return 0.0, piece.note
    energies, values = piece
    above = energies >= 0
    energies, empty = energies[above], values[above] < EMPTY
    begins = np.flatnonzero(empty & (energies <= 1.5))
    if not len(begins):
        return 0.0, "from the curve"
    rest = np.flatnonzero(~empty[begins[0] :])
    if not len(rest):
        return float(energies[-1]), f"from the curve, which is empty as far as it is known, up to {energies[-1]:.1f} eV"
    return float(energies[begins[0] + rest[0]]), "from the curve"


def states_of(curves: Curves, n_atoms: int | None, channel: Channel | None, low: float, high: float) -> float | Measured:
    """Return the number of states for each atom between two energies in eV, or why it is not known.

    :param n_atoms: of the cell; None for the number of sites.
    :param channel: counts its states only.
    """
    piece = piece_of(curves, n_atoms, channel, low, high)
    return piece if isinstance(piece, Measured) else float(np.trapezoid(piece[1], piece[0]))


def piece_of(
    curves: Curves, n_atoms: int | None, channel: Channel | None, low: float, high: float, whole: bool = False
) -> tuple[np.ndarray, np.ndarray] | Measured:
    """Return fine energies (eV) and states/eV/atom between two energies, both of shape (m,), or why they are not known.

    :param whole: return all that is known, not only what lies between the energies.
    :raises ContentError: for curves of the cell as a whole without their number of atoms.
    """
    if channel is not None and channel not in curves.channels:
        return Measured(None, None, f"not known: the curve does not tell {channel} states from others")
    if low < curves.low - _SLACK or high > curves.high + _SLACK:
        return Measured(None, None, f"not known: the curve goes from {curves.low:.1f} to {curves.high:.1f} eV")
    if n_atoms is None:
        if not curves.resolved:
            raise ContentError("a total density of states needs the number of atoms of its cell")
        n_atoms = len(curves)
    values = curves.total if channel is None else curves.values[:, :, curves.channels.index(channel)].sum((0, 1))
    begin, end = (curves.low, curves.high) if whole else (max(low, curves.low), min(high, curves.high))
    energies = np.linspace(begin, end, max(2, math.ceil((end - begin) / _STEP) + 1))
    return energies, np.clip(CubicSpline(curves.energies, values / n_atoms)(energies), 0.0, None)
