"""Sums over neighbours, and their slopes, by differences."""

import numpy as np
import torch

from aiida_dosmatgen.engine.prediction.tightbinding.bloch import BlochSum, Pairs

PRESENT = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
ATOM_OF_ORBITAL = [0] * 4 + [1] + [2] * 9
KPOINTS = torch.tensor([[0.3, -0.2, 0.5], [0.0, 0.4, 0.1]], dtype=torch.float64)


def some_pairs() -> tuple[Pairs, torch.Tensor]:
    """Forty bonds and their inverses, between three atoms."""
    rng = np.random.default_rng(0)
    i, j = torch.tensor(rng.integers(3, size=(2, 40)))
    vectors, blocks = torch.tensor(rng.normal(size=(40, 3))), torch.tensor(rng.normal(size=(40, 9, 9)))
    there_and_back = Pairs(torch.cat([i, j]), torch.cat([j, i]), torch.cat([vectors, -vectors]))
    return there_and_back, torch.cat([blocks, blocks.mT])


def test_the_sums_are_those_that_the_formula_gives():
    pairs, blocks = some_pairs()
    bloch = BlochSum(pairs, PRESENT)
    assert bloch.atoms.tolist() == ATOM_OF_ORBITAL
    phases = torch.exp(1j * (pairs.vectors @ KPOINTS.T))
    expected = torch.zeros(2, 27, 27, dtype=torch.complex128)
    for i, j, phase, block in zip(pairs.i.tolist(), pairs.j.tolist(), phases, blocks, strict=True):
        expected[:, 9 * i : 9 * i + 9, 9 * j : 9 * j + 9] += phase[:, None, None] * block
    expected = expected[:, bloch.orbitals][:, :, bloch.orbitals]
    np.testing.assert_allclose(bloch.matrices(blocks, KPOINTS), expected, atol=1e-12)
    np.testing.assert_allclose(expected, expected.mH.resolve_conj(), atol=1e-12)


def test_slopes_by_differences():
    pairs, blocks = some_pairs()
    bloch = BlochSum(pairs, PRESENT)
    states = torch.randn(2, 14, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    slopes = bloch.slopes(blocks, KPOINTS)(states)
    for axis in range(3):
        step = 1e-5 * torch.eye(3, dtype=torch.float64)[axis]
        change = (bloch.matrices(blocks, KPOINTS + step) - bloch.matrices(blocks, KPOINTS - step)) / 2e-5
        expected = torch.einsum("kim,kij,kjm->km", states.conj(), change, states)
        np.testing.assert_allclose(slopes[..., axis], expected.real, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(expected.imag, 0, atol=1e-6)
