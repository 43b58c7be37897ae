"""Compressed curves, and sparklines."""

from __future__ import annotations

import base64

import numpy as np

from ..core.target import DosTarget
from ..tools.campaign import RankedCrystal, compared

_LEVELS = 65535
_WIDTH, _HEIGHT, _POINTS = 126, 34, 64


def packed(curve: np.ndarray) -> list:
    """Return a curve as [base64 of 16-bit integers, value of one step]: to 1/65535 of its largest value.

    :param curve: not negative, shape (n,).
    """
    step = max(float(np.max(curve)), 1e-12) / _LEVELS
    steps = np.round(np.clip(curve, 0, None) / step).astype("<u2")
    return [base64.b64encode(steps.tobytes()).decode("ascii"), float(f"{step:.6g}")]


def packed_target(target: DosTarget) -> dict:
    """Return a target's energies in eV and its curves in states/eV/atom, the total and those of the sites.

    ``known`` are the energies in eV between which a curve is drawn, here and in :func:`packed_crystal`.
    """
    return {
        "emin": target.grid.emin,
        "emax": target.grid.emax,
        "n": target.grid.n,
        "known": _known(target, *((-np.inf, np.inf) if target.only_wishes else (target.low, target.high))),
        "spoken": _intervals(target) if target.only_wishes else None,
        "windows": [window for one in target.wishes for window in one.windows],
        "total": packed(target.total),
        "sites": [packed(curve) for curve in target.curves] if target.kind == "sites" else [],
        "atoms": [atom + 1 for atom in target.atoms],
    }


def _intervals(target: DosTarget) -> list[list[float]]:
    """Return the energies [low, high] in eV between which the curve of a target says something."""
    points = target.grid.points
    ends = np.flatnonzero(np.diff(np.concatenate([[0], target.spoken(points).astype(int), [0]])))
    return [[float(points[a]), float(points[b - 1])] for a, b in zip(ends[::2], ends[1::2], strict=True)]


def packed_crystal(target: DosTarget, crystal: RankedCrystal) -> dict:
    """Return the curves of a crystal that belong to those of its target: ``predicted`` and ``dft``, as far as there are any.

    Curves of the single sites are given for validated crystals only, that have an atom for each curve of the target.
    """
    windows = {"predicted": crystal.predicted_window, "dft": (crystal.low, crystal.complete_below)}
    found: dict = {"limit": min(crystal.complete_below, target.grid.emax)}
    for name, dos in (("predicted", crystal.predicted), ("dft", crystal.dft)):
        if dos is None:
            continue
        curves = compared(target, crystal, dos)
        found[name] = {"known": _known(target, *windows[name]), "total": packed(curves.mean(0)), "sites": []}
        if crystal.validated and target.kind == "sites" and len(curves) == len(target.curves):
            found[name]["sites"] = [packed(curve) for curve in curves]
    return found


def sparkline(target: DosTarget, crystal: RankedCrystal) -> dict:
    """Return the target and the DFT curve as paths of a small SVG drawing, with its size."""
    assert crystal.dft is not None
    ends = (target.grid.emin, target.grid.emax) if target.only_wishes else (target.low, target.complete_below)
    limit = min(ends[1], crystal.complete_below, target.grid.emax)
    energies = np.linspace(max(ends[0], crystal.low), limit, _POINTS)
    wanted, got = (
        np.interp(energies, target.grid.points, curve)
        for curve in (target.total, compared(target, crystal, crystal.dft).mean(0))
    )
    if target.only_wishes:
        wanted = np.where(target.spoken(energies), wanted, 0.0)
    top = 1.05 * max(wanted.max(), got.max())
    line, area = (_path(curve / top) for curve in (got, wanted))
    return {"line": line, "area": f"{area}V{_HEIGHT}H0Z", "width": _WIDTH, "height": _HEIGHT}


def _known(target: DosTarget, low: float, high: float) -> list[float]:
    """Return the energies between which a curve on the energies of a target is known, as JSON can hold them."""
    return [max(low, target.grid.emin), min(high, target.grid.emax)]


def _path(shares: np.ndarray) -> str:
    x = np.linspace(0, _WIDTH, len(shares))
    return "M" + "L".join(f"{a:.0f} {b:.1f}" for a, b in zip(x, _HEIGHT * (1 - shares), strict=True))
