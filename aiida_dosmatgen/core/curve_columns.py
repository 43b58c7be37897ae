"""Densities of states as columns of crystals: the one place that says how they are stored.

The atom column ``dos`` has a site's states/eV, shape (…, n), or by spin and channel, (…, 2, 4, n). The crystal columns
``dos_low`` and ``dos_high`` (eV) are the ends of its n energies, ``sigma`` (eV) its broadening, ``low`` and ``high`` (eV) the
ends of what is known, ``gap`` (eV; 0 for a metal, NaN where unknown), ``n_electrons``, ``projected``, and ``meaning``.
Sets of before have ``complete_below`` instead of all of them, on −10 … 10 eV with σ = 0.3 eV.

The atom column ``projections`` (…, n) has the plain sums of projections on the same energies; ``resolved`` (2, 4, n) the curves
by spin and channel on the energies of a model, where ``dos`` has their sums. Predictions, ``predicted_dos``, have columns of
their own: ``predicted_dos_low``, ``predicted_dos_high``, ``predicted_sigma``, ``predicted_meaning``; those of models that know
channels also ``predicted_channels`` (4, m), at m energies between the same ends, of which σ needs no more.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from .crystals import CrystalSet
from .curves import Curves, Meaning
from .dft.bands import CHANNELS
from .dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from .errors import ContentError


def with_curves(crystal: CrystalSet, curves: Curves, dtype: type = np.float32) -> CrystalSet:
    """Return one crystal with its density of states.

    :param dtype: of the stored curves.
    :raises ContentError: if the curves are not of its sites.
    """
    if len(crystal) != 1 or len(curves) != len(crystal.numbers) or not curves.resolved:
        raise ContentError(f"{len(curves)} curves do not belong to {len(crystal)} crystals with {len(crystal.numbers)} atoms")
    values: np.ndarray = curves.values.astype(dtype)
    if curves.channels == ("all",) and values.shape[1] == 1:
        values = values[:, 0, 0]
    elif curves.channels != CHANNELS:
        raise ContentError(f"channels {' '.join(curves.channels)} cannot be stored; sum them, or give {' '.join(CHANNELS)}")
    numbers = {
        "dos_low": curves.energies[0],
        "dos_high": curves.energies[-1],
        "sigma": math.nan if curves.sigma is None else curves.sigma,
        "low": curves.low,
        "high": curves.high,
        "gap": math.nan if curves.gap is None else curves.gap,
        "n_electrons": math.nan if curves.n_electrons is None else curves.n_electrons,
        "projected": math.nan if curves.projected is None else curves.projected,
    }
    columns = {name: np.array([float(value)]) for name, value in numbers.items()}
    return crystal.with_columns(crystal={**columns, "meaning": np.array([curves.meaning])}, atom={"dos": values})


def curves_of(crystals: CrystalSet, row: int = 0, column: str = "dos") -> Curves:
    """Return the density of states of one crystal of a set.

    :param column: of the atoms, ``dos``, ``projections``, ``predicted_dos`` or ``predicted_channels``.
    :raises ContentError: if there is none, or it is not finite.
    """
    if column not in crystals.atom_columns:
        raise ContentError(f"the crystals have no column {column!r}; label them first (`dosmatgen label`)")
    first, last = crystals.offsets[row], crystals.offsets[row + 1]
    values = np.asarray(crystals.atom_columns[column][first:last], dtype=np.float64)
    one = {name: values[row] for name, values in crystals.crystal_columns.items()}
    channels: tuple[str, ...] = CHANNELS
    if values.ndim == 2:
        values, channels = values[:, None, None], ("all",)
    elif values.ndim == 3:
        values = values[:, None]
    predicted = "predicted_" if column.startswith("predicted_") else ""
    ends = [f"{predicted}dos_low", f"{predicted}dos_high"]
    if ends[0] not in one:
        return _of_before(values, channels, math.inf if predicted else float(one.get("complete_below", math.inf)))

    def known(name: str) -> float | None:
        value = math.nan if predicted else float(one.get(name, math.nan))
        return value if math.isfinite(value) else None

    low, high = (float(one[name]) for name in ends)
    sigma, gap = float(one[f"{predicted}sigma"]), known("gap")
    meaning = "projections" if column == "projections" else str(one[f"{predicted}meaning"])
    if meaning not in get_args(Meaning):
        raise ContentError(f"crystal {row}: its curves mean {meaning!r}; known is {', '.join(get_args(Meaning))}")
    limits = known("low"), known("high")
    return Curves(
        values,
        np.linspace(low, high, values.shape[-1]),
        sigma if math.isfinite(sigma) else None,
        low if limits[0] is None else limits[0],
        high if limits[1] is None else limits[1],
        None if gap is None else "vbm" if gap > 0 else "fermi",
        gap,
        known("n_electrons"),
        channels,
        projected=known("projected"),
        meaning=meaning,  # type: ignore[arg-type]
    )


def with_energies(
    crystals: CrystalSet, grid: EnergyGrid, sigma: float = DEFAULT_SIGMA, meaning: Meaning = "projections"
) -> CrystalSet:
    """Return crystals whose curves say what the header of their set says of them all; those that say it themselves as they are.

    :param grid: the energies of the column ``dos``.
    """
    if "dos_low" in crystals.crystal_columns:
        return crystals
    n = len(crystals)
    columns = crystals.crystal_columns
    limits = {
        "low": columns.get("low", np.full(n, grid.emin)),
        "high": columns.get("high", columns.get("complete_below", np.full(n, grid.emax))),
    }
    return crystals.with_columns(
        crystal={
            "dos_low": np.full(n, grid.emin),
            "dos_high": np.full(n, grid.emax),
            "sigma": np.full(n, float(sigma)),
            "low": np.maximum(limits["low"], grid.emin),
            "high": np.minimum(limits["high"], grid.emax),
            "meaning": np.full(n, meaning),
        }
    )


def has_channels(crystals: CrystalSet) -> bool:
    """Say whether the curves of the sites are stored by spin and channel."""
    return crystals.atom_columns["dos"].ndim == 4


def on_energies(crystals: CrystalSet, grid: EnergyGrid, sigma: float, resolved: bool = False) -> CrystalSet:
    """Return crystals whose curves are on one grid with one broadening, spins and channels summed, as models learn them.

    Sharper curves are broadened. What is known of each is in ``low`` and ``high`` (eV), the latter also in the former column
    ``complete_below``.

    :param resolved: whether to keep spins and channels besides, in the column ``resolved``.
    :raises ContentError: in one line, if a curve is broader already, is not known on the grid, or has no channels to keep.
    """
    if resolved and not has_channels(crystals):
        raise ContentError("the curves of the crystals have no channels s, p, d and f; label them by a recipe that keeps them")
    before = "dos_low" not in crystals.crystal_columns
    plain = crystals.atom_columns["dos"].ndim == 2 and crystals.atom_columns["dos"].shape[1] == grid.n
    if before and plain and (grid, sigma) == (DEFAULT_GRID, DEFAULT_SIGMA):
        return crystals
    curves, parts = [], []
    for i in range(len(crystals)):
        try:
            one = curves_of(crystals, i)
            curves.append(one.summed().broadened(sigma).on(grid.points))
            if resolved:
                parts.append(one.broadened(sigma).on(grid.points).values.astype(np.float32))
        except ContentError as exception:
            raise ContentError(
                f"crystal {i} ({crystals.formulas[i]}): {exception}; the model has curves from {grid.emin:g} to "
                f"{grid.emax:g} eV with a broadening of {sigma:g} eV"
            ) from None
    high = np.array([one.high for one in curves])
    columns = {
        "dos_low": np.full(len(curves), grid.emin),
        "dos_high": np.full(len(curves), grid.emax),
        "sigma": np.full(len(curves), float(sigma)),
        "low": np.array([one.low for one in curves]),
        "high": high,
        "complete_below": high,
        "meaning": np.array([one.meaning for one in curves]),
    }
    sites = np.concatenate([one.sites for one in curves]) if curves else np.zeros((0, grid.n))
    by_channel = {"resolved": np.concatenate(parts)} if parts else {}
    return crystals.with_columns(crystal=columns, atom={"dos": sites.astype(np.float32), **by_channel})


def meaning_of(crystals: CrystalSet) -> Meaning:
    """Return what the sites' curves of a set hold.

    :raises ContentError: if it is not the same for all crystals.
    """
    meanings = np.unique(crystals.crystal_columns.get("meaning", np.array(["projections"]))).tolist()
    if len(meanings) != 1 or meanings[0] not in get_args(Meaning):
        raise ContentError(f"the curves of the crystals do not mean the same: {', '.join(map(str, meanings)) or 'nothing'}")
    return meanings[0]  # type: ignore[no-any-return]


def _of_before(values: np.ndarray, channels: tuple[str, ...], high: float) -> Curves:
    if values.shape[-1] != DEFAULT_GRID.n:
        raise ContentError(
            f"the curves have {values.shape[-1]} energies, and nothing says which; {DEFAULT_GRID.n} are expected"
        )
    return Curves(
        values,
        DEFAULT_GRID.points,
        DEFAULT_SIGMA,
        DEFAULT_GRID.emin,
        min(high, DEFAULT_GRID.emax),
        channels=channels,
        meaning="projections",
    )
