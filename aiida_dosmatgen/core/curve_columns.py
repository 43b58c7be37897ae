"""Densities of states as columns of crystals: the one place that says how they are stored.

The atom column ``dos`` has a site's states/eV, shape (…, n), or by spin and channel, (…, 2, 4, n). The crystal columns
``dos_low`` and ``dos_high`` (eV) are the ends of its n energies, ``sigma`` (eV) its broadening, ``low`` and ``high`` (eV) the
ends of what is known, ``gap`` (eV; 0 for a metal, NaN where unknown), ``n_electrons``, ``projected``, and ``meaning``.
Sets of before have ``complete_below`` instead of all of them, on −10 … 10 eV with σ = 0.3 eV.
"""

from __future__ import annotations

import math

import numpy as np

from .crystals import CrystalSet
from .curves import Curves
from .dft.bands import CHANNELS
from .dos import DEFAULT_GRID, DEFAULT_SIGMA
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
        "sigma": curves.sigma,
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

    :param column: of the atoms, ``dos`` or ``predicted_dos``.
    :raises ContentError: if there is none, or it is not finite.
    """
    if column not in crystals.atom_columns:
        raise ContentError(f"the crystals have no column {column!r}; label them first (`dosmatgen label`)")
    crystal = crystals[row]
    values = np.asarray(crystal.atom_columns[column], dtype=np.float64)
    channels: tuple[str, ...] = CHANNELS
    if values.ndim == 2:
        values, channels = values[:, None, None], ("all",)
    if "dos_low" not in crystal.crystal_columns:
        return _of_before(crystal, values, channels)
    one = {name: column[0] for name, column in crystal.crystal_columns.items()}

    def known(name: str) -> float | None:
        value = float(one.get(name, math.nan))
        return value if math.isfinite(value) else None

    gap = known("gap")
    return Curves(
        values,
        np.linspace(float(one["dos_low"]), float(one["dos_high"]), values.shape[-1]),
        float(one["sigma"]),
        float(one["low"]),
        float(one["high"]),
        None if gap is None else "vbm" if gap > 0 else "fermi",
        gap,
        known("n_electrons"),
        channels,
        projected=known("projected"),
        meaning=str(one["meaning"]),  # type: ignore[arg-type]
    )


def _of_before(crystal: CrystalSet, values: np.ndarray, channels: tuple[str, ...]) -> Curves:
    if values.shape[-1] != DEFAULT_GRID.n:
        raise ContentError(
            f"the curves have {values.shape[-1]} energies, and nothing says which; {DEFAULT_GRID.n} are expected"
        )
    high = float(crystal.crystal_columns.get("complete_below", np.array([math.inf]))[0])
    return Curves(
        values,
        DEFAULT_GRID.points,
        DEFAULT_SIGMA,
        DEFAULT_GRID.emin,
        min(high, DEFAULT_GRID.emax),
        channels=channels,
        meaning="projections",
    )
