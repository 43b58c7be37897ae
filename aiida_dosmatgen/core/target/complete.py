"""Targets from the projected densities of states of pymatgen: VASP, the Materials Project, and what else it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..curves import LEAST_HELD, Curves
from ..dft.bands import CHANNELS
from ..dos import EnergyGrid, gaussian_dos
from ..errors import ContentError
from .points import checked, energies_for
from .target import DosTarget

if TYPE_CHECKING:
    import pymatgen.electronic_structure.dos

_COARSE = 0.05  # eV; energies further apart put the zero of energy further off than the broadening forgives
_LEAST_SHARE = 0.25  # of the outer electrons; a total that holds less is no DOS of this crystal in states/eV


def target_of_complete_dos(
    dos: pymatgen.electronic_structure.dos.CompleteDos,
    sigma: float,
    gap_tolerance: float,
    grid: EnergyGrid | None = None,
    n_electrons: float | None = None,
) -> tuple[DosTarget, list[str]]:
    """Return the target that a projected density of states makes, and what is to be warned of; arguments as of
    :meth:`.DosTargetData.from_complete_dos`.

    :raises ContentError: if there are no projections on sites, the curves are no DOS, or hold too few electrons.
    """
    if not getattr(dos, "pdos", None):
        raise ContentError("the CompleteDos has no site projections; compute it with a projected DOS")
    spins = sorted(dos.densities, key=int, reverse=True)
    energies, totals = checked(np.asarray(dos.energies, float), np.stack([np.asarray(dos.densities[s], float) for s in spins]))
    total = totals.sum(0)
    zero, gap = _zero_of(energies, total, float(dos.efermi), gap_tolerance)
    values, channels = _projections(dos, spins)
    relative, values = checked(energies - zero, values)
    scaled, seen = _scaled(values, totals, relative)
    spacing = float(np.diff(relative).max())
    held = _electrons(relative, total)
    problem = _missing_electrons(dos, held, n_electrons, cut=bool(total[0] > gap_tolerance))
    if problem:
        raise ContentError(problem)
    about: dict[str, Any] = {
        "zero": "vbm" if gap > 0 else "fermi",
        "gap": gap,
        "n_electrons": n_electrons,
        "channels": channels,
        "projected": seen,
    }
    points = energies_for(float(relative[0]), float(relative[-1]), sigma or None) if grid is None else grid
    if sigma > 0:
        curves = gaussian_dos(relative, scaled * np.gradient(relative), points, sigma)
        ends = float(relative[0]) + 2 * sigma, float(relative[-1]) - 2 * sigma
        found = Curves(curves, points.points, sigma, *ends, **about)
    else:
        flat = [np.interp(points.points, relative, c, left=0.0, right=0.0) for c in scaled.reshape(-1, relative.size)]
        curves = np.stack(flat).reshape(*scaled.shape[:3], points.n)
        found = Curves(curves, points.points, None, float(relative[0]), float(relative[-1]), **about)
    notes = []
    if spacing > _COARSE:
        notes.append(
            f"the energies of the DOS are {spacing:.2f} eV apart, so that its zero of energy may be off by as much; "
            f"compute it with at least {round((relative[-1] - relative[0]) / _COARSE) + 1} energies (NEDOS in VASP)"
        )
    return DosTarget(found), notes


def _projections(dos: Any, spins: list[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the projections, shape (n_sites, n_spins, n_channels, n), and the names of the channels."""
    named = {
        getattr(getattr(orbital, "orbital_type", None), "name", None) for orbitals in dos.pdos.values() for orbital in orbitals
    }
    channels = CHANNELS if named <= set(CHANNELS) else ("all",)
    values = np.zeros((len(dos.structure), len(spins), len(channels), len(dos.energies)))
    for site, of_site in enumerate(dos.structure):
        for orbital, densities in dos.pdos[of_site].items():
            channel = channels.index(orbital.orbital_type.name) if channels == CHANNELS else 0
            for spin, key in enumerate(spins):
                values[site, spin, channel] += np.asarray(densities[key], float)
    return values, channels


def _scaled(values: np.ndarray, totals: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Scale the sites of each spin to its total; return them, and the share of the occupied states that they held."""
    apart = [
        Curves(values[:, s : s + 1], _ruler(energies), None, energies[0], energies[-1], channels=("all",) * values.shape[2])
        for s in range(len(totals))
    ]
    scaled = np.concatenate([one.scaled_to(total).values for one, total in zip(apart, totals, strict=True)], axis=1)
    there = _electrons(energies, totals.sum(0))
    return scaled, _electrons(energies, values.sum((0, 1, 2))) / there if there > 0 else None


def _ruler(energies: np.ndarray) -> np.ndarray:
    """Equidistant stand-ins: the shares at each energy do not depend on where it lies."""
    return np.linspace(energies[0], energies[-1], energies.size)


def _electrons(energies: np.ndarray, curve: np.ndarray) -> float:
    occupied = energies <= 1e-9
    return float(np.trapezoid(curve[occupied], energies[occupied])) if occupied.sum() > 1 else 0.0


def _zero_of(energies: np.ndarray, total: np.ndarray, efermi: float, tolerance: float) -> tuple[float, float]:
    """Return the zero of energy and the gap in eV: the valence band's top where there is a gap, else the Fermi energy, 0."""
    filled = np.flatnonzero((energies <= efermi) & (total > tolerance))
    if not filled.size:
        raise ContentError(f"the DOS has no states below its Fermi energy of {efermi:g} eV")
    last = int(filled[-1])
    metallic = last + 1 < len(energies) and energies[last + 1] > efermi and total[last + 1] > tolerance
    if metallic:
        return float(efermi), 0.0
    empty = np.flatnonzero((energies > efermi) & (total > tolerance))
    top = float(energies[last])
    return top, float(energies[empty[0]] - top) if empty.size else float(energies[-1] - top)


def _missing_electrons(dos: Any, held: float, n_electrons: float | None, cut: bool) -> str | None:
    """Say what is wrong if the total holds far too few electrons, or None.

    :param cut: whether the DOS begins among states, so that electrons are missing for a reason.
    """
    if n_electrons is None:
        if cut:
            return None
        known = float(sum(_outer_electrons(site.specie) for site in dos.structure))
        least, words = _LEAST_SHARE, "outer electrons"
    else:
        known, least, words = n_electrons, LEAST_HELD, "electrons"
    if held >= least * known:
        return None
    return (
        f"the total DOS holds {held:.2f} of {known:g} {words} below its Fermi energy; is it in states/eV, and is the mesh of "
        "energies fine enough?"
    )


def _outer_electrons(specie: Any) -> int:
    """Return the electrons that any potential of an element has in its valence, at least."""
    from pymatgen.core import Element

    element = Element(getattr(specie, "symbol", str(specie)))
    if element.symbol in ("H", "He"):
        return element.Z
    return element.group if element.group <= 2 else element.group - 10 if element.group >= 13 else 1
