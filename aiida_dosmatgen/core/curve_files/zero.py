"""The zero of energy of what was found, and the gap."""

from __future__ import annotations

import numpy as np

from ..curves import Zero
from ..errors import ContentError
from .edges import band_edges
from .found import Found

_IN_GAP = 0.1  # eV above the valence band maximum; an energy nearer than that is the maximum itself
_PROBES = (0.2, 0.4, 0.7, 1.0)  # eV above a valence band maximum, that a broadening may reach
_BEYOND = 1.0  # eV beyond its energies, where the zero of a curve of occupied states alone may be
_METAL = 0.05  # of the largest value; where fewer states are at the Fermi energy, a broadened curve may hide a gap


def zero_of(found: Found, name: str, zero: float | None) -> tuple[float, Zero | None, float | None]:
    """Return the energy in eV that becomes zero, what it is, and the gap; None for what the file does not tell.

    :param zero: the energy to take, whatever the file tells: the Fermi energy or the valence band maximum. Where it is in a
        gap, the maximum below is taken.
    :raises ContentError: if there are no states below.
    """
    total, notes = found.states.summed, found.notes
    if zero is not None:
        _check_inside(zero, "zero", found, name, _BEYOND)
        edges = band_edges(found.energies, total, zero, found.sigma)
        if edges is not None and zero - edges[0] > _IN_GAP:
            notes.append(f"{zero:g} eV, as asked for, is in a gap; zero at the valence band maximum, {edges[0]:.3f} eV")
            return edges[0], "vbm", _gap(edges)
        notes.append(f"zero at {zero:g} eV, as asked for")
        edges = edges or _edges_near(found, total, zero)
        return zero, "fermi" if edges is None else "vbm", _gap(edges) if edges else 0.0
    if found.edges is not None:
        _check_inside(found.edges[0], "valence band maximum", found, name)
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
        edges = band_edges(found.energies, total, 0.0, found.sigma)
        if edges is not None and edges[0] < -_IN_GAP:
            found.warnings.append(
                f"no states from {edges[0]:.2f} to 0 eV; if 0 eV is the Fermi energy, --zero 0 takes the valence band maximum"
            )
        return 0.0, None, None
    found.fermi = fermi
    _check_inside(fermi, "Fermi energy", found, name)
    if not (total[found.energies <= fermi + 1e-6] > 0).any():
        raise ContentError(f"{name}: there are no states below the Fermi energy of {fermi:g} eV")
    edges = band_edges(found.energies, total, fermi, found.sigma)
    said = f"Fermi energy {fermi:g} eV" if found.zero is None else "energies relative to the Fermi energy"
    if edges is None:
        notes.append(f"{said}, which is zero")
        metal = np.interp(fermi, found.energies, total) > _METAL * total.max()
        if not metal:
            found.warnings.append(
                f"few states at the Fermi energy, as in a narrow gap{'' if found.sigma else ' or with a broadening'}; "
                f"{'' if found.sigma else '--sigma S tells, '}--zero E is the valence band maximum"
            )
        return fermi, "fermi", 0.0 if metal else None
    gap = _gap(edges)
    notes.append(f"{said} in a gap{f' of {gap:.2f} eV' if gap else ''}; zero at the valence band maximum, {edges[0]:.3f} eV")
    return edges[0], "vbm", gap


def _check_inside(energy: float, what: str, found: Found, name: str, beyond: float = 0.0) -> None:
    low, high = found.energies[[0, -1]]
    if not low - beyond < energy < high + beyond:
        raise ContentError(f"{name}: the {what} of {energy:g} eV is outside of the energies, {low:g} to {high:g} eV")


def _edges_near(found: Found, total: np.ndarray, zero: float) -> tuple[float, float | None] | None:
    """Return the edges of a gap that begins at ``zero``, into which a broadened curve reaches; None if there is none."""
    for probe in _PROBES:
        edges = band_edges(found.energies, total, zero + probe, found.sigma)
        if edges is not None and abs(edges[0] - zero) <= _IN_GAP:
            return edges
    return None


def _gap(edges: tuple[float, float | None]) -> float | None:
    return None if edges[1] is None else max(edges[1] - edges[0], 0.0)
