"""Moments of the surroundings: complete, smooth at the cutoff, and of the promised symmetry."""

import ase.build
import numpy as np
import pytest
import torch

from aiida_dosmatgen.engine.prediction.environment import ORDERS, EnvironmentLayer, PairMoments, spherical_harmonics


def silicon(cell=None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    atoms = ase.build.bulk("Si") if cell is None else ase.build.make_supercell(ase.build.bulk("Si"), cell)
    return (
        torch.tensor(atoms.get_scaled_positions())[None],
        torch.tensor(atoms.cell.array)[None],
        torch.ones(1, len(atoms), dtype=torch.bool),
    )


def test_spherical_harmonics_are_orthonormal():
    # Gauss-Legendre in z and equidistant angles integrate products of l <= 3 exactly
    z, weights = np.polynomial.legendre.leggauss(8)
    phi = 2 * np.pi * np.arange(16) / 16
    x, y = (np.sqrt(1 - z[:, None] ** 2) * f(phi) for f in (np.cos, np.sin))
    points = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], -1).reshape(-1, 3)
    values = spherical_harmonics(torch.tensor(points)).numpy()
    gram = np.einsum("p,pa,pb->ab", np.repeat(weights, 16) / 32, values, values)
    expected = np.diag(np.concatenate([np.full(2 * order + 1, 1 / (2 * order + 1)) for order in range(ORDERS + 1)]))
    np.testing.assert_allclose(gram, expected, atol=1e-12)


def test_moments_count_every_image_within_the_cutoff():
    fractional, lattices, mask = silicon()
    module = PairMoments(cutoff=6.0, radial=8).double()
    moments = module(fractional, lattices, mask)[0, ..., 0]
    shifts = torch.tensor(np.stack(np.meshgrid(*[np.arange(-6, 7.0)] * 3, indexing="ij"), -1).reshape(-1, 3))
    positions = (fractional @ lattices)[0]
    distance = (positions[None, :, None] - positions[:, None, None] + shifts @ lattices[0]).norm(dim=-1)
    near = ((distance > 1e-6) & (distance < 6.0))[..., None]
    terms = 0.5 * (1 + torch.cos(torch.pi * distance / 6))[..., None]
    terms = terms * torch.exp(-0.5 * ((distance[..., None] - module.centres) / module.width) ** 2)
    torch.testing.assert_close(moments, (terms * near).sum(2))


@pytest.mark.parametrize("cell", [[[1, 0, 0], [1, 1, 0], [0, -2, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]])
def test_the_choice_of_the_cell_does_not_matter(cell):
    module = PairMoments().double()
    totals = [module(*silicon(c)).sum(2)[0] for c in (None, cell)]
    torch.testing.assert_close(totals[0].sum(0), totals[1].sum(0), atol=1e-8, rtol=1e-8)


def test_a_neighbour_leaves_smoothly():
    module = PairMoments(cutoff=4.0).double()
    fractional, mask = torch.zeros(1, 1, 3, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    inside, outside = (module(fractional, a * torch.eye(3, dtype=torch.float64)[None], mask) for a in (4 - 1e-6, 4 + 1e-6))
    assert float((inside - outside).abs().max()) < 1e-9


def test_layers_tell_angles_and_not_orientations():
    torch.manual_seed(0)
    module, layer = PairMoments().double(), EnvironmentLayer(12, 6, 16).double()
    hidden = torch.randn(1, 2, 12, dtype=torch.float64)

    def features(angle: float, turn: torch.Tensor | None = None) -> torch.Tensor:
        """A chain of pairs in a wide cell; the second atom of three at an angle."""
        positions = torch.tensor([[0, 0, 0], [2, 0, 0], [2 * np.cos(angle), 2 * np.sin(angle), 0]], dtype=torch.float64)
        lattice = 20 * torch.eye(3, dtype=torch.float64)
        fractional = positions @ torch.linalg.inv(lattice)
        lattice = lattice if turn is None else lattice @ turn
        moments = module(fractional[None], lattice[None], torch.ones(1, 3, dtype=torch.bool))
        return layer(hidden[:, [0, 1, 1]], moments)[0, 0].detach()

    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    torch.testing.assert_close(features(2.0), features(2.0, turn), atol=1e-10, rtol=0)
    assert float((features(2.0) - features(1.7)).abs().max()) > 1e-5
