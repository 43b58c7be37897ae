"""Bands that can be written down: free electrons, and a crystal of two levels."""

import numpy as np
import pytest
from scipy.constants import angstrom, electron_volt, hbar, m_e

from aiida_dosmatgen.core.dft.bands import Bands, density_of_states, irreducible_mesh, whole_mesh, zero_of_energy
from aiida_dosmatgen.core.dft.settings import kpoints_mesh
from aiida_dosmatgen.core.errors import ContentError

ENERGIES = np.arange(-14, 10.01, 0.05)
KINETIC = hbar**2 / (2 * m_e) / angstrom**2 / electron_volt  # eV Å²


def metal(a, structure, n_electrons, distance):
    """Free electrons in a primitive bcc or fcc cell, on a Γ-centred mesh, perfectly projected on s."""
    bcc = a / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    fcc = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    lattice = bcc if structure == "bcc" else fcc
    cell = (lattice, np.zeros((1, 3)), np.array([11]))
    mesh = kpoints_mesh(lattice, distance)
    mapping, grid = irreducible_mesh(mesh, cell)
    chosen, counts = np.unique(mapping, return_counts=True)
    kpoints = grid[chosen] / np.asarray(mesh)
    reciprocal = 2 * np.pi * np.linalg.inv(lattice).T
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    squares = (((kpoints[:, None] + shifts) @ reciprocal) ** 2).sum(-1)
    energies = KINETIC * np.sort(squares, axis=1)[None, :, :8]
    projections = np.zeros((1, 4, *energies.shape))
    projections[:, 0] = 1.0
    return Bands(energies, projections, counts / counts.sum(), n_electrons, kpoints, mesh), cell


METALS = {"Li": (3.51, "bcc", 1), "Na": (4.29, "bcc", 1), "K": (5.33, "bcc", 1), "Ca": (5.58, "fcc", 2), "Al": (4.05, "fcc", 3)}


@pytest.mark.parametrize("name", METALS)
def test_degenerate_levels_of_metals_are_filled_in_part(name):
    a, structure, n = METALS[name]
    bands, cell = metal(a, structure, n, 0.2)
    curves, zero = density_of_states(bands, cell, ENERGIES, 0.3)
    volume = abs(np.linalg.det(cell[0]))
    fermi = KINETIC * (3 * np.pi**2 * n / volume) ** (2 / 3)
    assert curves.zero == "fermi"
    assert curves.gap == 0
    assert zero == pytest.approx(fermi, abs=0.03)
    # the broadening moves as many states out of what lies below zero as into it, but for the slope of the curve
    assert curves.electrons == pytest.approx(n, rel=0.05)


def test_interpolation_brings_a_coarse_mesh_near_a_dense_one():
    coarse, cell = metal(4.05, "fcc", 3, 0.3)
    dense, _ = metal(4.05, "fcc", 3, 0.06)
    exact, _ = density_of_states(dense, cell, ENERGIES, 0.3, distance=None)
    plain, _ = density_of_states(coarse, cell, ENERGIES, 0.3, distance=None)
    smooth, _ = density_of_states(coarse, cell, ENERGIES, 0.3)
    errors = [np.abs(c.total - exact.total)[ENERGIES < 3].mean() for c in (plain, smooth)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.02


def two_levels(gap):
    """A valence level at 1 eV and an empty one above it, shared unequally by two sites, on one k-point."""
    energies = np.array([[[1.0, 1.0 + gap]]])
    projections = np.zeros((2, 4, 1, 1, 2))
    projections[0, 1, 0, 0], projections[1, 0, 0, 0] = (0.6, 0.1), (0.2, 0.005)
    return Bands(energies, projections, np.ones(1), 2.0), (
        5 * np.eye(3),
        np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
        np.array([14, 6]),
    )


def test_sites_are_a_partition_of_the_total():
    bands, cell = two_levels(2.0)
    curves, zero = density_of_states(bands, cell, ENERGIES, 0.3)
    assert (zero, curves.zero, curves.gap) == (1.0, "vbm", 2.0)
    assert np.trapezoid(curves.total, ENERGIES) == pytest.approx(4, abs=1e-3)
    below = ENERGIES < 1
    assert np.trapezoid(curves.sites[0][below], ENERGIES[below]) == pytest.approx(2 * 0.75, abs=0.01)
    assert curves.projected == pytest.approx(0.8)
    assert curves.high == pytest.approx(2.0 - 0.6)


def test_states_that_no_projector_sees_are_shared_equally():
    bands, cell = two_levels(2.0)
    blind = Bands(bands.energies, bands.projections * [1, 1e-3], bands.weights, 2.0)
    curves, _ = density_of_states(blind, cell, ENERGIES, 0.3)
    above = ENERGIES > 1
    held = np.trapezoid(curves.sites[:, above], ENERGIES[above], axis=-1)
    assert held[0] == pytest.approx(held[1], rel=1e-3)
    assert held.sum() == pytest.approx(2, abs=0.01)
    assert curves.values[0, 0, [0, 2, 3]].max() == 0  # channels without projectors


def test_a_gap_that_may_be_a_crossing_is_none():
    zero, gap = zero_of_energy(np.array([[[1.0, 1.02]]]), np.ones(1), 2.0, 2.0)
    assert gap == 0
    assert zero == pytest.approx(1.01, abs=0.01)


def test_spins_are_counted_by_themselves():
    energies = np.array([[[-1.0, 3.0]], [[1.0, 4.0]]])
    assert zero_of_energy(energies, np.ones(1), 1.0, 1.0) == (-1.0, 2.0)
    assert zero_of_energy(energies, np.ones(1), 2.0, 1.0) == (1.0, 2.0)


def test_too_few_bands_are_refused():
    with pytest.raises(ContentError, match="compute more bands"):
        zero_of_energy(np.array([[[0.0]]]), np.ones(1), 3.0, 2.0)


def test_a_mesh_with_holes_is_not_interpolated():
    bands, cell = metal(4.05, "fcc", 3, 0.6)
    assert whole_mesh(bands, cell) is not None
    holes = Bands(bands.energies[:, 1:], bands.projections[..., 1:, :], bands.weights[1:], 3, bands.kpoints[1:], bands.mesh)
    assert whole_mesh(holes, cell) is None
