"""Functions of matrices: values, and derivatives where levels are degenerate, too."""

import math

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.dos import DEFAULT_GRID, project
from aiida_dosmatgen.engine.prediction.tightbinding.spectrum import Spectrum, inverse_square_root, projected_dos

POINTS = torch.tensor(DEFAULT_GRID.points)
ATOMS = torch.tensor([0, 0, 1, 1, 1])


def matrices(seed: int = 0, k: int = 3, n: int = 5) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(k, n, n)) + 1j * rng.normal(size=(k, n, n))
    return torch.tensor(a + a.conj().transpose(0, 2, 1))


def degenerate() -> torch.Tensor:
    """Two levels that meet, in a basis that mixes all orbitals; the third is the highest occupied one."""
    states = torch.linalg.eigh(matrices(1)).eigenvectors
    levels = torch.tensor([-4.0, -4.0, -1.0, 2.0, 2.0], dtype=torch.complex128)
    return (states * levels) @ states.mH


def test_the_curves_are_those_of_core():
    h = matrices()
    levels, states = np.linalg.eigh(h.numpy())
    weights = np.stack([(np.abs(states) ** 2)[:, ATOMS.numpy() == a].sum(1) for a in (0, 1)])
    expected = project(levels, np.ones(3), weights, 4.0)
    found = projected_dos(h, 4.0, POINTS, 0.3, ATOMS, 2)
    np.testing.assert_allclose(found.numpy(), expected.dos, atol=1e-10)
    assert found.max() > 0.1


@pytest.mark.parametrize("make", [matrices, degenerate])
def test_derivatives_by_differences(make):
    """For a gapped spectrum in which one level is the highest occupied: then the zero of energy moves with that one level."""
    h = make()[:1]
    weight = torch.sin(POINTS)[None] * torch.tensor([[1.0], [-0.5]]).double()

    def value(x: torch.Tensor) -> torch.Tensor:
        return (projected_dos(x, 6.0, POINTS, 0.3, ATOMS, 2) * weight).sum()

    leaf = h.clone().requires_grad_()
    value(leaf).backward()
    change = matrices(7)[:1]
    step = 1e-5
    numeric = (value(h + step * change) - value(h - step * change)) / (2 * step)
    analytic = (leaf.grad.conj() * change).real.sum()
    assert float(analytic) == pytest.approx(float(numeric), rel=1e-3)
    assert abs(float(numeric)) > 0.1


def test_inverse_square_roots_and_their_derivatives():
    a = matrices(3)
    s = a @ a.mH + torch.eye(5)
    root = inverse_square_root(s)
    torch.testing.assert_close(root @ s @ root, torch.eye(5).to(s).expand(3, -1, -1))

    def through(x: torch.Tensor) -> torch.Tensor:
        hermitian = 0.5 * (x + x.mH)
        return inverse_square_root(hermitian)

    assert torch.autograd.gradcheck(through, s.requires_grad_(), atol=1e-6)


def test_dependent_orbitals_do_not_blow_up():
    s = torch.ones(1, 2, 2, dtype=torch.complex128)
    assert inverse_square_root(s).abs().max() < 1 / math.sqrt(0.03) + 1


def chain(n_kpoints: int, slopes: bool) -> Spectrum:
    """The band −2·cos k of a chain of atoms at half of the zone, with or without its slopes."""
    step = math.pi / n_kpoints
    k = step * (torch.arange(n_kpoints, dtype=torch.float64) + 0.5)
    changes = torch.zeros(n_kpoints, 1, 3, dtype=torch.float64)
    changes[:, 0, 0] = 2 * torch.sin(k) * step * slopes
    return Spectrum(-2 * torch.cos(k)[:, None], torch.ones(n_kpoints, 1, 1, dtype=torch.complex128), changes)


def test_few_kpoints_with_slopes_know_the_band_of_a_chain():
    """Highest occupied levels and curves, on average over fillings of the band."""
    errors = {}
    for slopes in (True, False):
        few, many = chain(9, slopes), chain(2000, slopes)
        found = []
        for filling in np.arange(0.4, 1.6, 0.03):
            exact = -2 * math.cos(math.pi * filling / 2)  # of a chain without end
            assert float(many.top(filling)) == pytest.approx(exact, abs=5e-3)
            curves = [s.dos(filling, POINTS, 0.1, torch.tensor([0]), 1) for s in (few, many)]
            found.append([abs(float(few.top(filling)) - exact), float((curves[0] - curves[1]).abs().sum())])
        errors[slopes] = np.mean(found, axis=0)
    assert (errors[True] < 0.5 * errors[False]).all(), errors


def test_slopes_spread_a_level_and_lose_nothing_of_it():
    """A level that rises by 2 eV over each of two steps covers what a Gaussian of the same variance does."""
    flat = Spectrum(torch.zeros(1, 1).double(), torch.ones(1, 1, 1).to(torch.complex128), torch.zeros(1, 1, 3).double())
    steep = flat._replace(changes=torch.tensor([[[2.0, 2.0, 0.0]]]).double())
    assert float(steep.top(1.0)) == pytest.approx(0, abs=0.3) and float(steep.top(2.0)) == pytest.approx(1.5)
    weights = steep.dos(2.0, POINTS, 0.3, torch.tensor([0]), 1)[0] * DEFAULT_GRID.spacing / 2
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert float(weights @ POINTS) == pytest.approx(-1.5, abs=1e-6)
    assert float(weights @ (POINTS + 1.5).square()) == pytest.approx(0.3**2 + 8 / 12, abs=1e-5)
