"""From the bands of a calculation to its density of states: zero of energy, gap, shares of sites, interpolation in k.

A mesh of k-points that is affordable for thousands of crystals shows in a density of states: each point stands for a piece
of the Brillouin zone in which bands move by more than the broadening. Bands are smooth in k, so that periodic cubic splines
through the mesh give them on a mesh several times denser, for next to nothing; states are then counted there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import spglib
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.optimize import brentq
from scipy.special import erfc

from ..curves import Curves, Meaning
from ..errors import ContentError

CHANNELS = ("s", "p", "d", "f")

LEAST_GAP = 0.05
"""eV; a smaller gap on a mesh may be a crossing between its points, so that the crystal counts as a metal."""

_SMEARING = 0.05  # eV, by which the Fermi energy of an interpolated metal is found
_UNSEEN = 0.02  # a state of which the projectors see less is shared equally by the sites
_BIN = 0.01  # eV, into which states are sorted before they are broadened; half of a permille of the usual broadening squared
_SYMPREC = 1e-4  # Å

Cell = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lattice vectors as rows in Å (3, 3), fractional coordinates (n_sites, 3), and atomic numbers (n_sites,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bands:
    """Band energies and projections on a mesh of k-points that contains Γ.

    :param energies: eV, absolute, increasing along the bands, shape (n_spins, n_kpoints, n_bands).
    :param projections: Σ|⟨φ|ψ⟩|² over the orbitals of each site and channel, shape (n_sites, n_channels, n_spins, n_kpoints,
        n_bands), symmetrised over the crystal's operations.
    :param weights: of the k-points, of any normalisation, shape (n_kpoints,).
    :param kpoints: in units of the reciprocal lattice vectors, shape (n_kpoints, 3); None if they are not known.
    :param mesh: the divisions of the mesh along each reciprocal vector; None if there is none.
    :param n_electrons: of the cell.
    """

    energies: np.ndarray
    projections: np.ndarray
    weights: np.ndarray
    n_electrons: float
    kpoints: np.ndarray | None = None
    mesh: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        n_spins, n_kpoints, _ = self.energies.shape
        if n_spins not in (1, 2) or self.projections.shape[2:] != self.energies.shape or self.weights.shape != (n_kpoints,):
            raise ContentError(
                f"energies {self.energies.shape}, projections {self.projections.shape} and weights {self.weights.shape} "
                "do not belong together"
            )

    @property
    def per_band(self) -> float:
        """Electrons that a band of one spin holds."""
        return 2.0 / len(self.energies)

    def shares(self) -> np.ndarray:
        """Return the share of each site and channel in each state; they add up to one, shape as :attr:`projections`.

        A state that the projectors do not see is shared equally by the sites, and in each by the channels that have projectors.
        """
        seen = self.projections.sum((0, 1))
        there = np.any(self.projections > 0, axis=(2, 3, 4))
        there = there | ~np.any(there, axis=1, keepdims=True)
        equal = there / (len(there) * there.sum(1, keepdims=True))
        return np.where(seen > _UNSEEN, self.projections / np.maximum(seen, _UNSEEN), equal[:, :, None, None, None])

    def projected(self, zero: float) -> float:
        """Return the share of the states up to ``zero`` (eV, absolute) that the projectors see."""
        weights = np.where(self.energies <= zero + 1e-6, self.weights[None, :, None], 0.0)
        return float((weights * self.projections.sum((0, 1))).sum() / weights.sum())


def zero_of_energy(energies: np.ndarray, weights: np.ndarray, n_electrons: float, per_band: float) -> tuple[float, float]:
    """Return the zero of energy and the gap in eV: the valence band maximum where there is a gap, else the Fermi energy and 0.

    A Fermi energy is found by a Gaussian smearing of 0.05 eV, so that a partly filled level counts in part.

    :param energies: eV, shape (n_spins, n_kpoints, n_bands).
    :param weights: of the k-points, adding up to one, shape (n_kpoints,).
    :param per_band: electrons that a band of one spin holds.
    :raises ContentError: if the bands cannot hold the electrons.
    """
    held = np.broadcast_to(per_band * weights[None, :, None], energies.shape)
    if held.sum() < n_electrons - 1e-6:
        raise ContentError(f"{energies.shape[2]} bands cannot hold {n_electrons:g} electrons; compute more bands")
    order = np.argsort(energies, axis=None)
    levels, filled = energies.reshape(-1)[order], np.cumsum(held.reshape(-1)[order])
    last = int(np.searchsorted(filled, n_electrons * (1 - 1e-7)))
    last = min(last, len(levels) - 1)
    above = levels[last + 1] if last + 1 < len(levels) else math.inf
    if abs(filled[last] - n_electrons) < 1e-4 and above - levels[last] > LEAST_GAP:
        return float(levels[last]), float(above - levels[last])

    def surplus(level: float) -> float:
        return float((held * 0.5 * erfc((energies - level) / (math.sqrt(2) * _SMEARING))).sum()) - n_electrons

    return float(brentq(surplus, levels[last] - 2.0, levels[last] + 2.0, xtol=1e-6)), 0.0


# --- between the k-points ----------------------------------------------------------------------------------------------------


def irreducible_mesh(mesh: Sequence[int], cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Return the irreducible point of each point of a Γ-centred mesh, shape (n,), and the points' positions, shape (n, 3).

    :param mesh: divisions along each reciprocal vector.
    """
    lattice, fractional, numbers = (np.asarray(part).tolist() for part in cell)
    mapping, grid = spglib.get_ir_reciprocal_mesh(list(mesh), (lattice, fractional, numbers), [0, 0, 0], symprec=_SYMPREC)
    return np.asarray(mapping), np.asarray(grid)


def whole_mesh(bands: Bands, cell: Cell) -> np.ndarray | None:
    """Return the k-point of the calculation that stands for each point of the whole mesh, shape ``mesh``.

    None if some point has no equivalent among them, because the calculation took symmetries that the cell does not have.
    """
    if bands.kpoints is None or bands.mesh is None:
        return None
    mesh = np.asarray(bands.mesh)
    mapping, grid = irreducible_mesh(bands.mesh, cell)
    position = np.full(bands.mesh, -1)
    position[tuple((grid % mesh).T)] = np.arange(len(grid))
    scaled = bands.kpoints * mesh
    if np.abs(scaled - np.rint(scaled)).max() > 1e-3:
        return None
    known = np.full(len(grid), -1)
    known[mapping[position[tuple((np.rint(scaled).astype(int) % mesh).T)]]] = np.arange(len(bands.kpoints))
    found = known[mapping]
    if (found < 0).any():
        return None
    whole = np.empty(bands.mesh, dtype=int)
    whole[tuple((grid % mesh).T)] = found
    return whole


def interpolated(
    bands: Bands, cell: Cell, distance: float | None, meaning: Meaning = "partition"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies, shares and weights on a mesh whose points are at most ``distance`` 1/Å apart (2π included).

    Energies by periodic cubic splines, shares linearly, at the irreducible points of the denser mesh. Bands are taken in the
    order of their energies, so that crossings are rounded off. Where the mesh of the calculation is not known to be whole,
    what is returned is the calculation's own, as it is where ``distance`` is None.

    :param meaning: whether shares or projections are returned.
    :return: shapes (n_spins, n_fine, n_bands), (n_sites, n_channels, n_spins, n_fine, n_bands), (n_fine,); the weights add
        up to one.
    """
    shares = bands.shares() if meaning == "partition" else bands.projections
    weights = bands.weights / bands.weights.sum()
    whole = None if distance is None else whole_mesh(bands, cell)
    if distance is None or whole is None or bands.mesh is None:
        return bands.energies, shares, weights
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(cell[0]).T, axis=1)
    fine = tuple(max(n, math.ceil(length / distance)) for n, length in zip(bands.mesh, lengths, strict=True))
    mapping, grid = irreducible_mesh(fine, cell)
    chosen, counts = np.unique(mapping, return_counts=True)
    points = (grid[chosen] % np.asarray(fine)).T * (np.asarray(bands.mesh) / np.asarray(fine))[:, None]
    n_spins, _, n_bands = bands.energies.shape

    def at(values: np.ndarray, order: int) -> np.ndarray:
        return map_coordinates(values[whole], points, order=order, mode="grid-wrap")

    energies = np.stack([np.stack([at(bands.energies[s, :, b], 3) for b in range(n_bands)], axis=-1) for s in range(n_spins)])
    flat = np.moveaxis(shares, 3, -1).reshape(-1, shares.shape[3])
    dense = np.stack([at(row, 1) if row.any() else np.zeros(len(chosen)) for row in flat])
    dense = np.moveaxis(dense.reshape(*shares.shape[:3], n_bands, len(chosen)), -1, 3)
    return energies, dense, counts / counts.sum()


# --- the density of states ----------------------------------------------------------------------------------------------------


def density_of_states(
    bands: Bands,
    cell: Cell,
    energies: np.ndarray,
    sigma: float,
    distance: float | None = 0.08,
    channels: tuple[str, ...] = CHANNELS,
    meaning: Meaning = "partition",
) -> tuple[Curves, float]:
    """Count the states of a calculation: D_i(E) = Σ w δ(E − ε) p_i / Σ_j p_j, broadened by a Gaussian.

    :param cell: of the calculation.
    :param energies: equidistant, in eV relative to the zero that is found, shape (n,).
    :param sigma: standard deviation of the broadening in eV.
    :param distance: of the points of the interpolated mesh in 1/Å; None counts the calculation's own points.
    :param channels: names of the channels of the projections.
    :param meaning: ``projections`` counts p_i instead, which add up to less than the total.
    :return: the curves, and the zero of energy in eV, absolute.
    """
    levels, shares, weights = interpolated(bands, cell, distance, meaning)
    zero, gap = zero_of_energy(levels, weights, bands.n_electrons, bands.per_band)
    counted = bands.per_band * weights[None, None, None, :, None] * shares
    values = np.stack(
        [_broadened_levels(levels[s] - zero, counted[:, :, s], energies, sigma) for s in range(len(levels))], axis=1
    )
    return Curves(
        values=values,
        energies=energies,
        sigma=sigma,
        low=float(energies[0]),
        high=float(levels[..., -1].min() - zero - 2 * sigma),
        zero="vbm" if gap > 0 else "fermi",
        gap=gap,
        n_electrons=bands.n_electrons,
        channels=channels,
        projected=bands.projected(zero),
        meaning=meaning,
    ), zero


def _broadened_levels(levels: np.ndarray, weights: np.ndarray, energies: np.ndarray, sigma: float) -> np.ndarray:
    """Broaden levels (n_kpoints, n_bands) with weights (n_sites, n_channels, n_kpoints, n_bands) on energies (n,).

    Levels are shared between the two nearest of bins 0.01 eV apart, the bins are broadened, and read off by linear
    interpolation: each of the three changes a curve of σ = 0.3 eV by less than 3·10⁻⁴ of its height.
    """
    margin = 6 * sigma
    start = energies[0] - margin
    n = math.ceil((energies[-1] + margin - start) / _BIN) + 2
    position = (levels.reshape(-1) - start) / _BIN
    inside = (position >= 0) & (position < n - 1)
    left = position[inside].astype(int)
    right_share = position[inside] - left
    out = np.empty((*weights.shape[:2], len(energies)))
    bins = start + _BIN * np.arange(n)
    for site, channel in np.ndindex(weights.shape[:2]):
        w = weights[site, channel].reshape(-1)[inside]
        counts = np.bincount(left, w * (1 - right_share), n) + np.bincount(left + 1, w * right_share, n)
        smooth = gaussian_filter1d(counts / _BIN, sigma / _BIN, mode="constant", truncate=6.0)
        out[site, channel] = np.interp(energies, bins, smooth)
    return out
