"""Overlaps of orbitals: against quadrature in space, and under rotations."""

import numpy as np
import pytest
import torch

from aiida_dosmatgen.engine.prediction.tightbinding.overlap import CHANNEL_OF_ORBITAL, _gaussians, bond_frames, two_centre

AXIS = np.linspace(-6, 6, 97)
GRID = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), -1)


def angular(l: int, x: np.ndarray) -> list[np.ndarray]:
    """The orbitals of a shell in the order of the package, as polynomials."""
    if l == 0:
        return [np.ones(x.shape[:-1])]
    if l == 1:
        return [x[..., 0], x[..., 1], x[..., 2]]
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    return [(2 * c * c - a * a - b * b) / np.sqrt(12), a * c, b * c, a * b, (a * a - b * b) / 2]


def orbitals(l: int, zeta: float, centre: np.ndarray) -> list[np.ndarray]:
    """Normalised orbitals on a grid, made of the same Gaussians."""
    x = GRID - centre
    exponents, coefficients = _gaussians(l)
    radial = sum(c * np.exp(-a * zeta**2 * (x**2).sum(-1)) for a, c in zip(exponents, coefficients, strict=True))
    values = [f * radial for f in angular(l, x)]
    return [v / np.sqrt((v**2).sum()) for v in values]


@pytest.mark.parametrize(("l", "k"), [(l, k) for l in range(3) for k in range(3)])
def test_two_centres_by_quadrature(l, k):
    """In a general direction, so that the frames are tried, too."""
    zetas, vector = (1.9, 2.3), np.array([0.9, -0.7, 1.1])
    expected = np.array([[(a * b).sum() for b in orbitals(k, zetas[1], vector)] for a in orbitals(l, zetas[0], np.zeros(3))])
    distance = torch.tensor([np.linalg.norm(vector)])
    s = two_centre(distance, torch.tensor([zetas[0]]).double(), torch.tensor([zetas[1]]).double(), l, k)
    frames = bond_frames(torch.tensor(vector)[None] / distance)
    m = min(l, k)
    order = list(CHANNEL_OF_ORBITAL[: 2 * m + 1])
    found = frames[l][0][:, : 2 * m + 1] @ torch.diag(s[0, order]) @ frames[k][0][:, : 2 * m + 1].T
    np.testing.assert_allclose(found.numpy(), expected, atol=3e-4)
    assert np.abs(expected).max() > 0.05


def test_slater_functions_are_what_the_gaussians_sum_to():
    """The overlap of two 1s functions is known: exp(−ρ)(1 + ρ + ρ²/3), ρ = ζR."""
    rho = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    zeta = torch.full_like(rho, 1.7)
    expected = torch.exp(-rho) * (1 + rho + rho**2 / 3)
    torch.testing.assert_close(two_centre(rho / 1.7, zeta, zeta, 0, 0)[:, 0], expected, atol=0.01, rtol=0)


def test_an_orbital_overlaps_wholly_with_itself():
    near, zeta = torch.tensor([1e-6]).double(), torch.tensor([2.0]).double()
    for l in range(3):
        torch.testing.assert_close(two_centre(near, zeta, zeta, l, l), torch.ones(1, l + 1).double())


def test_frames_are_rotations():
    unit = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    for l, frame in enumerate(bond_frames(unit)):
        torch.testing.assert_close(frame @ frame.mT, torch.eye(2 * l + 1).double().expand(20, -1, -1))
