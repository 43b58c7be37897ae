"""What a density of states is wished to have, in numbers with tolerances: a gap, states between two energies, a centre.

One class for each kind of wish. A :class:`Wish` measures the curves of a crystal, and says by how much they miss it. It also
says what a curve has to fulfil to grant it; from that ``wish_curve.py`` makes the curve that a sampler is conditioned on. What
people write is read in ``wish_text.py``; how several wishes are weighed is in ``distances.py``,
and what is measured on curves in ``measuring.py``.

All energies are in eV relative to the highest occupied level, all numbers of states are for each atom.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from ..curves import Curves
from ..errors import ContentError
from ..strict import Strict, explain
from .measuring import EMPTY, Channel, Measured, empty_above_zero, piece_of, states_of

Relation = Literal[">=", "<=", "="]

BAND = (-10.0, 4.0)
"""Energies in eV between which the centre and the width of a band are taken, unless a wish says others. Any validation has a
curve up to there."""

_PROMINENCE = 0.05  # of the largest value of the curve; what stands out by less is no peak
_SOFT = 0.4  # eV, by which a drawn gap is wider than asked for: its edges are steeper than those of crystals
_SMEARED = 0.5  # eV above zero to which the broadened edge of the filled states reaches
_AROUND = 0.5  # eV, about a peak, that have to be known
_STRICT = 0.05  # states/eV/atom that a drawn curve may have where there are to be none
_PEAK = 2.5  # states/eV/atom by which a drawn peak stands out, as those of d bands do


@dataclasses.dataclass(frozen=True)
class Condition:
    """Linear equations Σ_j a_j·D(E_j) = b for a curve on n points, those of one wish.

    :param rows: a, shape (m, n).
    :param values: b, shape (m,).
    :param scale: by how much each may be missed, shape (m,) or ().
    """

    rows: np.ndarray
    values: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Linear inequalities low ≤ Σ_j a_j·D(E_j) ≤ high for a curve on n points, which hold where a wish is met.

    :param rows: a, shape (m, n).
    :param low: shape (m,); may be −∞.
    :param high: shape (m,); may be ∞.
    """

    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Wish(Strict):
    """Base of the wishes.

    :param tolerance: in the unit of the wish. A value that is asked for exactly is met within it; of all misses it is the unit.
    :param weight: how much a miss counts among those of other wishes.
    """

    UNIT: ClassVar[str] = "eV"
    kind: str
    tolerance: float = Field(gt=0, allow_inf_nan=False)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)

    @abc.abstractmethod
    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        """Return what curves have of the wish.

        :param curves: of a crystal.
        :param n_atoms: of its cell; by default the number of sites.
        :raises ContentError: for curves of the cell as a whole without their number of atoms.
        """

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        """Return what a curve of all states must fulfil to grant the wish; None if that cannot be said of the curve.

        :param points: energies in eV, equidistant, shape (n,).
        :param usual: states/eV/atom of a curve of which nothing is known, shape (n,).
        """
        return None

    def bounds(self, points: np.ndarray) -> Bounds | None:
        """Return what a curve of all states fulfils where the wish is met; None if that is not linear, or not of the curve.

        :param points: energies in eV, equidistant, shape (n,).
        """
        return None

    @property
    def windows(self) -> list[tuple[float, float]]:
        """The energies (low, high) in eV that :meth:`conditions` speaks of; none if it says nothing."""
        return []

    def __str__(self) -> str:
        """Return the text that :func:`.wish_text.wish` reads as the same."""
        return self._text() + (f" (weight {_number(self.weight)})" if self.weight != 1 else "")

    @abc.abstractmethod
    def _text(self) -> str:
        """Return the wish as text, without its weight."""


class _Window(Wish):
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    channel: Channel | None = None

    @model_validator(mode="after")
    def _in_order(self) -> _Window:
        if not self.low < self.high:
            raise ValueError(f"the energies go from {self.low:g} to {self.high:g} eV; give the lower one first")
        return self

    @property
    def windows(self) -> list[tuple[float, float]]:
        return [] if self.channel else [(self.low, self.high)]

    @property
    def _between(self) -> str:
        return f"from {_number(self.low)} to {_number(self.high)}"


class Nothing(_Window):
    """No states between two energies: met by fewer than ``tolerance`` states for each atom."""

    UNIT: ClassVar[str] = "states/atom"
    kind: Literal["nothing"] = "nothing"
    tolerance: float = Field(0.1, gt=0, allow_inf_nan=False)

    def _text(self) -> str:
        what = f"no {self.channel} states" if self.channel else "nothing"
        return f"{what} {self._between} eV +- {_number(self.tolerance)} per atom"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        found = states_of(curves, n_atoms, self.channel, self.low, self.high)
        return found if isinstance(found, Measured) else Measured(found, max(0.0, found - self.tolerance))

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        rows = np.eye(len(points))[_inside(points, self.low, self.high)]
        return None if self.channel else Condition(rows, np.zeros(len(rows)), np.array(_STRICT))

    def bounds(self, points: np.ndarray) -> Bounds | None:
        return None if self.channel else _bounds((_sum(points, self.low, self.high), -math.inf, self.tolerance))


class States(_Window):
    """A number of states for each atom between two energies."""

    UNIT: ClassVar[str] = "states/atom"
    kind: Literal["states"] = "states"
    relation: Relation = "="
    value: float = Field(ge=0, allow_inf_nan=False)
    tolerance: float = Field(0.2, gt=0, allow_inf_nan=False)

    def _text(self) -> str:
        return f"{_of(self.channel)}states {self._between} eV: {_amount(self)} per atom"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        found = states_of(curves, n_atoms, self.channel, self.low, self.high)
        return found if isinstance(found, Measured) else _related(found, self.relation, self.value, self.tolerance)

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        if self.channel:
            return None
        wanted = max(0.0, _within(self.relation, self.value, self.tolerance))
        return Condition(_sum(points, self.low, self.high)[None], np.array([wanted]), np.array(0.25 * self.tolerance))

    def bounds(self, points: np.ndarray) -> Bounds | None:
        accepted = _accepted(self.relation, self.value, self.tolerance)
        return None if self.channel else _bounds((_sum(points, self.low, self.high), *accepted))


class Gap(Wish):
    """A band gap; 0 for a metal. It is that of the calculation, or where only a curve is known the end of its empty region."""

    kind: Literal["gap"] = "gap"
    relation: Relation = "="
    value: float = Field(ge=0, allow_inf_nan=False)
    tolerance: float = Field(0.2, gt=0, allow_inf_nan=False)

    def _text(self) -> str:
        return f"gap {_amount(self)} eV"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        if curves.gap is not None:
            return _related(curves.gap, self.relation, self.value, self.tolerance)
        found, note = empty_above_zero(curves, n_atoms)
        measured = _related(found, self.relation, self.value, self.tolerance)
        return dataclasses.replace(measured, note=note)

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        inside = _inside(points, 0.0, self._drawn + _SOFT if self._drawn else 0.0)
        edges = _inside(points, *self.windows[0]) & ~inside
        rows = np.eye(len(points))
        rows = np.concatenate([rows[inside], rows[edges]])
        values = np.concatenate([np.zeros(inside.sum()), usual[edges]])
        return Condition(rows, values, np.where(values > 0, usual.mean(), _STRICT))

    def bounds(self, points: np.ndarray) -> Bounds | None:
        low, high = _accepted(self.relation, self.value, self.tolerance)
        if low <= 2 * _SMEARED:  # nearer to zero the broadening leaves nothing empty
            return None
        empty = (_sum(points, _SMEARED, low), -math.inf, EMPTY * (low - _SMEARED))
        filled = (_sum(points, high, high + 0.5), 0.05, math.inf)
        return _bounds(empty, *([] if math.isinf(high) else [filled]))

    @property
    def windows(self) -> list[tuple[float, float]]:
        return [(-1.0, self._drawn + 1.5)]

    @property
    def _drawn(self) -> float:
        """The gap of the curve that is made of the wish."""
        return max(0.0, _within(self.relation, self.value, self.tolerance))


class Peak(Wish):
    """A peak at an energy: a maximum of the curve that stands out of it by a twentieth of its largest value."""

    kind: Literal["peak"] = "peak"
    energy: float = Field(allow_inf_nan=False)
    tolerance: float = Field(0.2, gt=0, allow_inf_nan=False)
    channel: Channel | None = None

    def _text(self) -> str:
        return f"{_of(self.channel)}peak at {_number(self.energy)} +- {_number(self.tolerance)} eV"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        reach = self.tolerance + _AROUND
        piece = piece_of(curves, n_atoms, self.channel, self.energy - reach, self.energy + reach, whole=True)
        if isinstance(piece, Measured):
            return piece
        energies, values = piece
        from scipy.signal import find_peaks  # takes a second to import

        places, _ = find_peaks(values, prominence=_PROMINENCE * max(float(values.max()), 1e-12))
        if not len(places):
            return Measured(None, float(energies[-1] - energies[0]), "the curve has no peak")
        nearest = energies[places[np.argmin(np.abs(energies[places] - self.energy))]]
        return _related(float(nearest), "=", self.energy, self.tolerance)

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        if self.channel:
            return None
        near = _inside(points, *self.windows[0])
        shape = usual[near] + _PEAK * np.exp(-0.5 * ((points[near] - self.energy) / 0.5) ** 2)
        return Condition(np.eye(len(points))[near], shape, np.array(usual.mean()))

    @property
    def windows(self) -> list[tuple[float, float]]:
        reach = max(1.0, self.tolerance + _AROUND)
        return [] if self.channel else [(self.energy - reach, self.energy + reach)]


class _Moment(_Window):
    low: float = Field(BAND[0], allow_inf_nan=False)
    high: float = Field(BAND[1], allow_inf_nan=False)
    relation: Relation = "="
    tolerance: float = Field(0.2, gt=0, allow_inf_nan=False)

    def _moments(self, curves: Curves, n_atoms: int | None) -> tuple[float, float] | Measured:
        """Return centre and variance in eV and eV² of the states between the energies, without the broadening."""
        piece = piece_of(curves, n_atoms, self.channel, self.low, self.high)
        if isinstance(piece, Measured):
            return piece
        energies, values = piece
        states = float(np.trapezoid(values, energies))
        if states <= 1e-3:
            return Measured(None, None, f"there are no {self.channel or ''} states".replace("  ", " "))
        centre = float(np.trapezoid(values * energies, energies)) / states
        spread = float(np.trapezoid(values * (energies - centre) ** 2, energies)) / states
        return centre, max(0.0, spread - (curves.sigma or 0.0) ** 2)


class BandCentre(_Moment):
    """The centre of gravity of the states between two energies: ∫E·D(E)dE / ∫D(E)dE, of the d states for the d-band centre."""

    kind: Literal["band centre"] = "band centre"
    value: float = Field(allow_inf_nan=False)

    def _text(self) -> str:
        return f"{_of(self.channel)}band centre {_amount(self)} eV {self._between} eV"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        found = self._moments(curves, n_atoms)
        return found if isinstance(found, Measured) else _related(found[0], self.relation, self.value, self.tolerance)

    def conditions(self, points: np.ndarray, usual: np.ndarray) -> Condition | None:
        if self.channel:
            return None
        wanted = _within(self.relation, self.value, self.tolerance)
        inside = _inside(points, self.low, self.high)
        states = float((inside * usual).sum()) * (points[1] - points[0])
        row = inside * (points - wanted) * (points[1] - points[0])
        return Condition(row[None], np.zeros(1), np.array(0.25 * self.tolerance * states))

    def bounds(self, points: np.ndarray) -> Bounds | None:
        if self.channel:
            return None
        weights = _sum(points, self.low, self.high)
        low, high = _accepted(self.relation, self.value, self.tolerance)
        above = [(weights * (points - low), 0.0, math.inf)] if math.isfinite(low) else []
        below = [(weights * (points - high), -math.inf, 0.0)] if math.isfinite(high) else []
        return _bounds(*above, *below)


class BandWidth(_Moment):
    """The width of the states between two energies: the root of their second moment about the centre.

    What the broadening adds to it is taken off.
    """

    kind: Literal["band width"] = "band width"
    value: float = Field(gt=0, allow_inf_nan=False)

    def _text(self) -> str:
        return f"{_of(self.channel)}band width {_amount(self)} eV {self._between} eV"

    def measure(self, curves: Curves, n_atoms: int | None = None) -> Measured:
        found = self._moments(curves, n_atoms)
        return found if isinstance(found, Measured) else _related(found[1] ** 0.5, self.relation, self.value, self.tolerance)

    @property
    def windows(self) -> list[tuple[float, float]]:
        return []  # without its centre a width is no linear condition


KINDS: dict[str, type[Wish]] = {
    cls.model_fields["kind"].default: cls for cls in (Gap, Nothing, States, Peak, BandCentre, BandWidth)
}
"""The classes of wishes by their kinds."""


def wish_of(record: Mapping[str, Any]) -> Wish:
    """Return a wish from its JSON values, as ``Wish.model_dump`` gives them.

    :raises ContentError: in one line, naming the key that is wrong.
    """
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ContentError(f"a wish of kind {kind!r} is not known; known are {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(dict(record), strict=False)
    except ValidationError as exception:
        raise ContentError(f"wish of kind {kind!r}: {explain(exception)}") from None


def _related(value: float, relation: Relation, wanted: float, tolerance: float) -> Measured:
    low, high = _accepted(relation, wanted, tolerance)
    return Measured(value, max(0.0, low - value, value - high))


def _within(relation: Relation, wanted: float, tolerance: float) -> float:
    """Return a value that is well among those that are accepted."""
    return wanted + {"=": 0.0, ">=": tolerance, "<=": -tolerance}[relation]


def _accepted(relation: Relation, wanted: float, tolerance: float) -> tuple[float, float]:
    """Return between which values a wish is met."""
    return {"=": (wanted - tolerance, wanted + tolerance), ">=": (wanted, math.inf), "<=": (-math.inf, wanted)}[relation]


def _amount(one: States | Gap | BandCentre | BandWidth) -> str:
    relation = "" if one.relation == "=" else f"{one.relation} "
    return f"{relation}{_number(one.value)} +- {_number(one.tolerance)}"


def _of(channel: Channel | None) -> str:
    return f"{channel} " if channel else ""


def _number(value: float) -> str:
    """Return a number with all of its digits, as short as it can be written."""
    return np.format_float_positional(value, trim="-") if 1e-4 <= abs(value) < 1e6 or value == 0 else repr(float(value))


def accepted_by(one: States | Gap | BandCentre | BandWidth) -> tuple[float, float]:
    """Return the least and the largest value with which a wish for a number is met, in its unit; may be infinite."""
    return _accepted(one.relation, one.value, one.tolerance)


def _sum(points: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the weights of a curve's points whose sum is the integral between two energies."""
    return _inside(points, low, high) * (points[1] - points[0])


def _bounds(*given: tuple[np.ndarray, float, float]) -> Bounds:
    rows, low, high = zip(*given, strict=True)
    return Bounds(np.array(rows), np.array(low), np.array(high))


def _inside(points: np.ndarray, low: float, high: float) -> np.ndarray:
    return (points >= low) & (points <= high)
