"""Six numbers for a lattice: there and back, and what they must not depend on."""

import numpy as np
import torch
from scipy.linalg import logm

from aiida_dosmatgen.engine.diffusion.lattice import LatticeScaler, decode, encode


def lattices(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.eye(3, dtype=torch.float64) + torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)


def test_round_trip_keeps_the_metric():
    cells, n_atoms = lattices(), torch.tensor([1, 2, 3, 4, 8, 20])
    back = decode(encode(cells, n_atoms), n_atoms)
    torch.testing.assert_close(back @ back.transpose(1, 2), cells @ cells.transpose(1, 2))
    torch.testing.assert_close(torch.linalg.det(back), torch.linalg.det(cells).abs())


def test_it_is_the_logarithm_of_the_polar_factor():
    cell = lattices(1)
    stretch = logm(cell[0].numpy() @ cell[0].numpy().T) / 2
    components = encode(cell, torch.tensor([1]))[0].numpy()
    np.testing.assert_allclose(3 * components[0], np.trace(stretch), atol=1e-10)
    off = stretch - np.eye(3) * np.trace(stretch) / 3
    np.testing.assert_allclose((components[1:] ** 2).sum(), (off**2).sum(), atol=1e-10)


def test_orientation_does_not_matter_and_size_is_that_of_an_atom():
    cells, one = lattices(3), torch.ones(3)
    q, _ = torch.linalg.qr(torch.randn(3, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(encode(cells @ q, one), encode(cells, one))
    torch.testing.assert_close(encode(2 * cells, 8 * one), encode(cells, one))  # a 2×2×2 supercell


def test_any_six_numbers_are_a_cell():
    components = 2 * torch.randn(100, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert (torch.linalg.det(decode(components, torch.ones(100))) > 0).all()


def test_scaler_standardises_and_survives_identical_crystals():
    scaler, n_atoms = LatticeScaler().double(), torch.full((200,), 2)
    cells = lattices(200)
    scaler.fit(cells, n_atoms)
    standardised = scaler.standardise(cells, n_atoms)
    torch.testing.assert_close(standardised.mean(0), torch.zeros(6).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(standardised.std(0, correction=0), torch.ones(6).double(), atol=1e-5, rtol=0)
    back = scaler.lattices(standardised, n_atoms)
    torch.testing.assert_close(back @ back.transpose(1, 2), cells @ cells.transpose(1, 2))
    scaler.fit(cells[:1].expand(5, 3, 3), n_atoms[:5])
    assert torch.isfinite(scaler.standardise(cells[:1], n_atoms[:1])).all()
