"""The energies of models, Gaussian broadening of levels, and sums of projections as labels before 0.3 have them.

What is called a density of states is :class:`.curves.Curves`, and :func:`.curves.compare` compares two of them.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .errors import ContentError

_SPIN = 2.0  # states per band of a run without spin polarisation


@dataclasses.dataclass(frozen=True)
class EnergyGrid:
    """``n`` equidistant energies from ``emin`` to ``emax`` in eV, relative to the highest occupied level."""

    emin: float = -10.0
    emax: float = 10.0
    n: int = 400

    def __post_init__(self) -> None:
        if not (math.isfinite(self.emin) and math.isfinite(self.emax) and self.emin < self.emax and self.n >= 2):
            raise ContentError(f"no energy grid from {self.emin} to {self.emax} eV with {self.n} points")

    @property
    def points(self) -> np.ndarray:
        """Energies in eV, shape (n,)."""
        return np.linspace(self.emin, self.emax, self.n)

    @property
    def spacing(self) -> float:
        """Distance of two points in eV."""
        return (self.emax - self.emin) / (self.n - 1)


DEFAULT_GRID = EnergyGrid()
DEFAULT_SIGMA = 0.3
"""Standard deviation of the Gaussian broadening in eV."""


def highest_occupied_level(eigenvalues: np.ndarray, weights: np.ndarray, n_electrons: float) -> float:
    """Fill the bands from below, and return the energy in eV of the last state that holds an electron.

    For an insulator this is the valence band maximum, for a metal the Fermi energy within the spacing of the mesh. Unlike the
    Fermi energy of a smeared calculation it does not move inside a gap.

    :param eigenvalues: band energies in eV, shape (n_kpoints, n_bands), without spin polarisation.
    :param weights: k-point weights of any normalisation, shape (n_kpoints,).
    :raises ContentError: if the bands cannot hold the electrons.
    """
    eigenvalues, weights = np.asarray(eigenvalues, float), np.asarray(weights, float)
    order = np.argsort(eigenvalues, axis=None)
    filled = np.cumsum(np.repeat(_SPIN * weights / weights.sum(), eigenvalues.shape[1])[order])
    last = int(np.searchsorted(filled, n_electrons - 1e-4))
    if last >= filled.size:
        raise ContentError(f"{eigenvalues.shape[1]} bands cannot hold {n_electrons:g} electrons; compute more bands")
    return float(eigenvalues.ravel()[order][last])


def complete_below(eigenvalues: np.ndarray, reference: float) -> float:
    """Return the energy in eV, relative to ``reference``, below which no band is missing: the minimum of the highest band."""
    return float(np.min(np.asarray(eigenvalues)[:, -1]) - reference)


def gaussian_dos(
    energies: np.ndarray, weights: np.ndarray, grid: EnergyGrid = DEFAULT_GRID, sigma: float = DEFAULT_SIGMA
) -> np.ndarray:
    """Broaden levels into curves: D(E) = Σ_s w_s exp(−(E−ε_s)²/2σ²)/(σ√2π).

    :param energies: level energies in eV relative to the grid's zero, shape (n_levels,).
    :param weights: weights of the levels, shape (…, n_levels).
    :param sigma: standard deviation in eV.
    :return: states/eV, shape (…, grid.n).
    :raises ContentError: if ``sigma`` is not positive.
    """
    energies, weights = np.asarray(energies, float).ravel(), np.asarray(weights, float)
    if sigma <= 0:
        raise ContentError(f"the broadening is {sigma} eV; it must be positive")
    near = (energies > grid.emin - 6 * sigma) & (energies < grid.emax + 6 * sigma)
    z = (grid.points[None, :] - energies[near, None]) / sigma
    return weights[..., near] @ (np.exp(-0.5 * z**2) / (sigma * math.sqrt(2 * math.pi)))


@dataclasses.dataclass(frozen=True)
class ProjectedDOS:
    """The density of states of one crystal, resolved by atom.

    :param dos: states/eV for each atom, shape (n_atoms, grid.n).
    :param complete_below: energy in eV, relative to the highest occupied level, below which no band is missing from the curve:
        the minimum of the highest band, less 2σ for the tails of the missing ones.
    :param highest_occupied: the highest occupied level, absolute, in eV.
    :param electrons: Σ of the projections up to the highest occupied level.
    """

    dos: np.ndarray
    complete_below: float
    highest_occupied: float
    electrons: float


def project(
    eigenvalues: np.ndarray,
    weights: np.ndarray,
    projections: np.ndarray,
    n_electrons: float,
    grid: EnergyGrid = DEFAULT_GRID,
    sigma: float = DEFAULT_SIGMA,
) -> ProjectedDOS:
    """Turn band energies and atomic projections into per-atom curves, aligned by the highest occupied level.

    :param eigenvalues: eV, shape (n_kpoints, n_bands), without spin polarisation.
    :param weights: k-point weights of any normalisation, shape (n_kpoints,).
    :param projections: Σ over the orbitals of each atom of |⟨φ|ψ⟩|², shape (n_atoms, n_kpoints, n_bands).
    :raises ContentError: if shapes disagree or the bands cannot hold the electrons.
    """
    eigenvalues, weights, projections = (np.asarray(a, float) for a in (eigenvalues, weights, projections))
    if projections.shape[1:] != eigenvalues.shape or weights.shape != eigenvalues.shape[:1]:
        raise ContentError(
            f"projections {projections.shape}, eigenvalues {eigenvalues.shape} and k-point weights {weights.shape} "
            "do not belong together"
        )
    top = highest_occupied_level(eigenvalues, weights, n_electrons)
    state_weights = (_SPIN * weights / weights.sum())[None, :, None] * projections
    flat = state_weights.reshape(len(projections), -1)
    occupied = eigenvalues.ravel() <= top + 1e-6
    return ProjectedDOS(
        dos=gaussian_dos(eigenvalues.ravel() - top, flat, grid, sigma),
        complete_below=complete_below(eigenvalues, top) - 2 * sigma,
        highest_occupied=top,
        electrons=float(flat[:, occupied].sum()),
    )


def check_electrons(electrons: float, n_electrons: float, tolerance: float = 0.1) -> str | None:
    """Say what is wrong if the DOS up to the highest occupied level does not hold the electrons, or None.

    Projections on atomic orbitals lose a few per cent of the charge; an empty or truncated DOS loses far more.

    :param tolerance: accepted relative deviation.
    """
    if math.isfinite(electrons) and abs(electrons - n_electrons) <= tolerance * n_electrons:
        return None
    return (
        f"the DOS up to the highest occupied level holds {electrons:.2f} of {n_electrons:g} electrons; "
        "check the occupations and the number of bands of the calculation"
    )
