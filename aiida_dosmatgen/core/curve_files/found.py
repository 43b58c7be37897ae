"""From what a reader found in a file to curves: order, grid, zero, scale, and what is said of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..curves import Curves, Zero
from ..elements import ATOMIC_NUMBERS
from ..errors import ContentError
from .edges import band_edges

Unknown = Literal["zero", "sigma", "scale"]

_MOST_POINTS = 20_001
_NEGATIVE = 0.05  # of the largest value; Methfessel-Paxton smearing goes below zero by less
_METAL = 0.05  # of the largest value; where fewer states are at the Fermi energy, a broadened curve may hide a gap
_COARSE = 0.1  # eV
_LEAST_ELECTRONS = 0.25  # for each atom, if the whole valence band is there; each element has at least one
_FEW = 0.5  # of the valence electrons; deep s levels may lie below what a file has
_VALENCE = -6.0  # eV; a curve that begins below should hold them


@dataclasses.dataclass(eq=False)
class Found:
    """What a reader found in a file, as it stands there.

    :param kind: what the file is, in words.
    :param energies: eV, in any order, shape (n,).
    :param total: states/eV, shape (n_spins, n); None if there is none.
    :param parts: of sites or of the whole cell, shape (n_parts, n_spins, n_channels, n); None if there are none.
    :param channels: names of the third axis of ``parts``.
    :param resolved: whether ``parts`` are the sites of the cell; otherwise there is one, of the whole cell.
    :param fermi: Fermi energy on the scale of ``energies``.
    :param zero: what energy zero is, if the file says so.
    :param edges: valence band maximum and conduction band minimum on the scale of ``energies``, if the file has them.
    :param sigma: broadening in eV, if the file states it.
    :param n_electrons: of the cell, if the file states it.
    :param integrated: states below each energy, shape (n,).
    :param elements: symbols of the sites.
    :param n_atoms: atoms of the cell, if they are known.
    :param per_atom: whether a total is divided by the number of atoms.
    :param sites: the atoms, from 0, that the parts are for, if they are chosen ones.
    :param high: eV up to which the curve is valid, if the file says so.
    :param unit: of the energies in the file, which are converted.
    :param scaled: whether the unit is known to be states/eV.
    :param whole: whether the parts are known to add up to all states, though there is no total.
    :param notes: what was made of the file, in words.
    """

    kind: str
    energies: np.ndarray
    total: np.ndarray | None = None
    parts: np.ndarray | None = None
    channels: tuple[str, ...] = ("all",)
    resolved: bool = True
    fermi: float | None = None
    zero: Zero | None = None
    edges: tuple[float, float | None] | None = None
    sigma: float | None = None
    n_electrons: float | None = None
    integrated: np.ndarray | None = None
    elements: tuple[str, ...] | None = None
    n_atoms: int | None = None
    per_atom: bool = False
    sites: tuple[int, ...] | None = None
    high: float | None = None
    unit: str = "eV"
    scaled: bool = True
    whole: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)


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
    :param elements: symbols of the sites, None if they are not known.
    :param sites: the atoms, from 0, that the curves are for, if they are chosen ones.
    :param fermi: the Fermi energy that the file states, in eV relative to the energy zero of ``curves``.
    :param unit: of the energies in the file.
    """

    curves: Curves
    said: str
    kind: str
    unknown: frozenset[Unknown] = frozenset()
    warnings: tuple[str, ...] = ()
    n_atoms: int | None = None
    per_atom: bool = False
    elements: tuple[str, ...] | None = None
    sites: tuple[int, ...] | None = None
    fermi: float | None = None
    unit: str = "eV"


def curves_from(found: Found, name: str, zero: float | None = None, sigma: float | None = None) -> ReadCurves:
    """Return the curves of what was found.

    :param name: of the file, for errors.
    :param zero: the energy in eV, as in the file, that becomes zero; by default what the file tells.
    :param sigma: broadening in eV, if the file does not state it.
    :raises ContentError: for what is no density of states.
    """
    notes, warnings = list(found.notes), list[str]()
    _put_in_order(found, name, notes)
    _check_values(found, name, notes)
    _put_on_a_grid(found, name, notes)
    if sigma is not None:
        found.sigma = sigma
    total = found.total.sum(0) if found.total is not None else found.parts.sum((0, 1, 2))  # type: ignore[union-attr]
    if total.max() <= 0:
        raise ContentError(f"{name}: the density of states is zero everywhere")
    shift, kind_of_zero, gap = _zero_of(found, total, name, zero, notes)
    unknown = set[Unknown]()
    if kind_of_zero is None and zero is None:
        unknown.add("zero")
    if found.sigma is None:
        unknown.add("sigma")
    if not found.scaled or (found.total is None and not found.whole):
        unknown.add("scale")
    if found.n_electrons is None and found.integrated is not None and kind_of_zero is not None:
        found.n_electrons = float(np.interp(shift, found.energies, found.integrated))
    curves = _curves(found, shift, kind_of_zero, gap, notes)
    if not _count_electrons(found, curves, name, notes, warnings):
        unknown.add("scale")
    n_atoms = found.n_atoms if found.n_atoms is not None or not curves.resolved or found.sites is not None else len(curves)
    said = f"{name}: {found.kind}, {'; '.join([_shape(found, curves), *notes, *(f'warning: {w}' for w in warnings)])}"
    return ReadCurves(
        curves=curves,
        said=" ".join(said.split()),
        kind=found.kind,
        unknown=frozenset(unknown),
        warnings=tuple(warnings),
        n_atoms=n_atoms,
        per_atom=found.per_atom,
        elements=found.elements,
        sites=found.sites,
        fermi=None if found.fermi is None else found.fermi - shift,
        unit=found.unit,
    )


# --- order, values, grid --------------------------------------------------------------------------------------------------


def _arrays(found: Found) -> list[str]:
    return [key for key in ("total", "parts", "integrated") if getattr(found, key) is not None]


def _select(found: Found, index: np.ndarray) -> None:
    found.energies = found.energies[index]
    for key in _arrays(found):
        setattr(found, key, getattr(found, key)[..., index])


def _put_in_order(found: Found, name: str, notes: list[str]) -> None:
    energies = found.energies = np.asarray(found.energies, float)
    for key in _arrays(found):
        array = np.asarray(getattr(found, key), float)
        if array.shape[-1:] != energies.shape:
            raise ContentError(
                f"{name}: {energies.size} energies, but {array.shape[-1] if array.ndim else 0} values in a curve"
            )
        if not np.isfinite(array).all():
            raise ContentError(f"{name}: the density of states has NaN or infinite values")
        setattr(found, key, array)
    if energies.ndim != 1 or energies.size < 2 or not np.isfinite(energies).all():
        raise ContentError(f"{name}: the energies are no list of two finite numbers or more")
    steps = np.diff(energies)
    if (steps < 0).all():
        _select(found, np.arange(energies.size)[::-1])
        return
    if (steps < 0).any():
        falls = int((steps < 0).sum())
        if falls > 0.05 * energies.size or np.ptp(energies) < -10 * steps.min():
            where = int(np.argmax(steps < 0)) + 1
            raise ContentError(
                f"{name}: the energies neither rise nor fall throughout: {energies[where]:g} eV follows "
                f"{energies[where - 1]:g} eV; give one curve after the other in columns, not in rows"
            )
        _select(found, np.argsort(energies, kind="stable"))
        notes.append(f"{falls} energies put in order")
    same = np.flatnonzero(np.diff(found.energies) == 0)
    if same.size:
        if any(not np.allclose(getattr(found, k)[..., same], getattr(found, k)[..., same + 1]) for k in _arrays(found)):
            raise ContentError(f"{name}: the energy {found.energies[same[0]]:g} eV has two values; give each energy once")
        _select(found, np.setdiff1d(np.arange(found.energies.size), same))
    if found.energies.size < 2:
        raise ContentError(f"{name}: there is only one energy")


def _check_values(found: Found, name: str, notes: list[str]) -> None:
    for key, what in (("total", "the total"), ("parts", "a part")):
        array = getattr(found, key)
        if array is None:
            continue
        lowest, highest = float(array.min()), float(array.max())
        if lowest < -_NEGATIVE * max(highest, 1e-300):
            place = np.unravel_index(int(array.argmin()), array.shape)[-1]
            raise ContentError(
                f"{name}: {what} is negative ({lowest:.3g} states/eV at {found.energies[place]:g} eV), as no density of "
                "states is; call a column of spin down so in the heading, if it is one"
            )
        if lowest < -1e-6 * highest:
            notes.append(f"negative values down to {lowest:.2g} set to zero")
        setattr(found, key, np.clip(array, 0, None))


def _put_on_a_grid(found: Found, name: str, notes: list[str]) -> None:
    """Make the energies equidistant: exactly where they are so up to how they are written, else by interpolation."""
    energies = found.energies
    index = np.arange(energies.size)
    slope, start = np.polyfit(index, energies, 1) if energies.size > 2 else (energies[1] - energies[0], energies[0])
    if np.abs(energies - start - slope * index).max() < 0.1 * slope:
        found.energies = start + slope * index
        return
    steps = np.diff(energies)
    step = max(float(np.quantile(steps, 0.1)), float(np.ptp(energies)) / (_MOST_POINTS - 1), 1e-3)
    points = np.linspace(energies[0], energies[-1], max(2, math.ceil(np.ptp(energies) / step) + 1))
    for key in _arrays(found):
        setattr(found, key, PchipInterpolator(energies, getattr(found, key), axis=-1)(points))
    found.energies = points
    notes.append(f"energies {steps.min():.2g} to {steps.max():.2g} eV apart, put on a grid of {points[1] - points[0]:.2g} eV")


# --- zero of energy -------------------------------------------------------------------------------------------------------


def _zero_of(
    found: Found, total: np.ndarray, name: str, zero: float | None, notes: list[str]
) -> tuple[float, Zero | None, float | None]:
    """Return the energy that becomes zero, what it is, and the gap."""
    if zero is not None:
        edges = band_edges(found.energies, total, zero, found.sigma)
        notes.append(f"zero at {zero:g} eV, as asked for")
        return zero, "fermi" if edges is None else "vbm", _gap(edges) if edges else 0.0
    if found.edges is not None:
        gap = _gap(found.edges)
        notes.append(f"zero at the valence band maximum, {found.edges[0]:.3f} eV" + (f", gap {gap:.2f} eV" if gap else ""))
        return found.edges[0], "vbm", gap
    if found.zero == "vbm":
        edges = band_edges(found.energies, total, 0.0, found.sigma)
        notes.append("zero at the valence band maximum, as the file says")
        return 0.0, "vbm", edges and _gap((0.0, edges[1]))
    fermi = 0.0 if found.zero == "fermi" else found.fermi
    if fermi is None:
        notes.append("zero of energy not stated: energies taken as they are")
        return 0.0, None, None
    found.fermi = fermi
    if not found.energies[0] < fermi < found.energies[-1]:
        raise ContentError(
            f"{name}: the Fermi energy of {fermi:g} eV is outside of the energies, "
            f"{found.energies[0]:g} to {found.energies[-1]:g} eV"
        )
    if not (total[found.energies <= fermi + 1e-6] > 0).any():
        raise ContentError(f"{name}: there are no states below the Fermi energy of {fermi:g} eV")
    edges = band_edges(found.energies, total, fermi, found.sigma)
    said = f"Fermi energy {fermi:g} eV" if found.zero is None else "energies relative to the Fermi energy"
    if edges is None:
        notes.append(f"{said}, which is zero")
        metal = np.interp(fermi, found.energies, total) > _METAL * total.max()
        return fermi, "fermi", 0.0 if metal else None
    gap = _gap(edges)
    notes.append(f"{said} in a gap{f' of {gap:.2f} eV' if gap else ''}; zero at the valence band maximum, {edges[0]:.3f} eV")
    return edges[0], "vbm", gap


def _gap(edges: tuple[float, float | None]) -> float | None:
    return None if edges[1] is None else max(edges[1] - edges[0], 0.0)


# --- the curves -----------------------------------------------------------------------------------------------------------


def _curves(found: Found, shift: float, zero: Zero | None, gap: float | None, notes: list[str]) -> Curves:
    energies = found.energies - shift
    total, parts = found.total, found.parts
    values = parts if parts is not None else total[None, :, None]  # type: ignore[index]
    curves = Curves(
        values=values,
        energies=energies,
        sigma=found.sigma or 0.0,
        low=float(energies[0]),
        high=float(energies[-1]) if found.high is None else min(found.high - shift, float(energies[-1])),
        zero=zero,
        gap=gap,
        n_electrons=found.n_electrons,
        channels=found.channels if parts is not None else ("all",),
        resolved=found.resolved and parts is not None,
    )
    if parts is None or total is None:
        return curves
    there_are = np.flatnonzero(curves.values.any((0, 1, 3)))  # an orbital that no site has gets no share of the rest
    if not there_are.size:
        there_are = np.arange(len(curves.channels))
    names = tuple(curves.channels[i] for i in there_are)
    whole = np.zeros_like(curves.values)
    for spin in range(whole.shape[1]):
        one = dataclasses.replace(curves, values=curves.values[:, [spin]][:, :, there_are], channels=names)
        whole[:, spin, there_are] = one.scaled_to(total[spin]).values[:, 0]
    occupied = energies <= 0 if zero is not None and (energies <= 0).any() else np.ones(energies.size, bool)
    there = float(total[:, occupied].sum())
    held = float(curves.total[occupied].sum()) / there if there > 0 else None
    if held is not None and abs(held - 1) > 2e-3:
        what = "sites" if curves.resolved else "orbitals"
        notes.append(f"{what} held {100 * held:.1f} % of the {'occupied ' if zero else ''}states, scaled to the total")
    return dataclasses.replace(curves, values=whole, projected=held, meaning="partition")


def _count_electrons(found: Found, curves: Curves, name: str, notes: list[str], warnings: list[str]) -> bool:
    """Say how many electrons there are, what looks wrong, and whether they are as many as the atoms have."""
    enough = True
    if curves.zero is not None:
        electrons = curves.electrons
        per = "" if not found.per_atom else " per atom"
        expected = found.n_electrons
        notes.append(f"{electrons:.2f} electrons{per} below zero" + (f" of {expected:.2f}" if expected is not None else ""))
        if expected is not None and abs(electrons - expected) > max(0.1, 0.03 * expected):
            warnings.append(
                f"the curve holds {electrons:.2f} of {expected:.2f} electrons; are the energies too far apart, "
                "or do they begin too high?"
            )
        n_atoms = len(found.elements) if found.elements else found.n_atoms
        if n_atoms and not found.per_atom and curves.low < _VALENCE and electrons < _LEAST_ELECTRONS * n_atoms:
            raise ContentError(
                f"{name}: {n_atoms} atoms with {electrons:.2f} electrons below zero; the values are not states/eV of the cell"
            )
        valence = sum(_valence(ATOMIC_NUMBERS[symbol]) for symbol in found.elements or ())
        if not found.per_atom and curves.low < _VALENCE and electrons < _FEW * valence:
            warnings.append(
                f"{electrons:.2f} electrons below zero, but the atoms have {valence} in their valence shells; "
                "the values may not be states/eV of the cell"
            )
            enough = False
        if curves.spacing > _COARSE and curves.zero == "vbm" and found.edges is None:
            warnings.append(f"energies {curves.spacing:.2g} eV apart: the zero may be off by as much")
        if curves.low > -3 or curves.high < 1:
            warnings.append(f"only {curves.low:.1f} to {curves.high:.1f} eV is known")
    return enough


def _valence(number: int) -> int:
    """Return the electrons of an atom outside of its closed shells: s, p, and d or f where they are not full."""
    core = max(z for z in (0, 2, 10, 18, 36, 54, 86) if z < number)
    outside = number - core
    if core >= 54 and outside > 16:
        outside -= 14
    return outside - 10 if core >= 18 and outside > 12 else outside


def _shape(found: Found, curves: Curves) -> str:
    rows = f"{len(curves)} site{'s' * (len(curves) > 1)}" if curves.resolved else "total"
    if found.elements and curves.resolved:
        rows += f" ({_grouped(found.elements)})"
    if curves.channels != ("all",):
        rows += " with " + " ".join(c for i, c in enumerate(curves.channels) if curves.values[:, :, i].any())
    spins = ", both spins (added)" if curves.values.shape[1] == 2 else ""
    low, high = found.energies[[0, -1]]
    return f"{rows}{spins}, {len(curves.energies)} energies from {low:g} to {high:g} eV in the file"


def _grouped(symbols: Sequence[str]) -> str:
    """Write symbols in order, neighbours counted: ``Li4 Fe4``."""
    groups: list[list] = []
    for symbol in symbols:
        if groups and groups[-1][0] == symbol:
            groups[-1][1] += 1
        else:
            groups.append([symbol, 1])
    return " ".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in groups)
