"""The neighbour search: complete, with images, of many crystals at once, wherever their atoms are."""

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.engine.neighbours import neighbours
from aiida_dosmatgen.engine.prediction.environment import pairs_within

CUTOFFS = np.array([4.0, 3.0, 5.0])


@pytest.fixture
def crystals() -> CrystalSet:
    """Three skewed cells of other sizes; atoms lie outside of them, too, and the last cell has a single one."""
    rng = np.random.default_rng(3)
    n_atoms = np.array([3, 5, 1])
    lattices = 3.5 * np.eye(3) + rng.normal(size=(3, 3, 3))
    return CrystalSet(n_atoms, np.full(9, 6), rng.uniform(-2, 3, (9, 3)), lattices)


def by_all_images(crystals: CrystalSet) -> set[tuple[int, ...]]:
    """All pairs as (i, j, three integers), by looking at every image near."""
    steps = np.arange(-9, 10)
    images = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    found = set()
    for crystal, (first, last) in enumerate(zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True)):
        positions = crystals.positions
        for i in range(first, last):
            for j in range(first, last):
                lengths = np.linalg.norm(positions[j] - positions[i] + images @ crystals.lattices[crystal], axis=1)
                near = images[(lengths < CUTOFFS[crystal]) & (lengths > 1e-9)]
                found |= {(i, j, *image) for image in near.tolist()}
    return found


def test_every_pair_is_found_once(crystals):
    found = neighbours(crystals.positions, crystals.lattices, crystals.n_atoms, CUTOFFS)
    pairs = [(int(i), int(j), *image) for i, j, image in zip(found.i, found.j, found.images.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs) > 80
    assert set(pairs) == by_all_images(crystals)
    assert (np.diff(found.i) >= 0).all()
    lattices = crystals.lattices[crystals.crystal_of_atom[found.i]]
    expected = crystals.positions[found.j] - crystals.positions[found.i] + np.einsum("pa,pab->pb", found.images, lattices)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-12)
    np.testing.assert_allclose(found.lengths, np.linalg.norm(expected, axis=1), atol=1e-12)


def test_padded_crystals_have_the_same_pairs_with_derivatives(crystals):
    mask = torch.arange(5) < torch.tensor(crystals.n_atoms)[:, None]
    fractional = torch.zeros(3, 5, 3, dtype=torch.float64)
    fractional[mask] = torch.tensor(crystals.fractional)
    lattices = torch.tensor(crystals.lattices, requires_grad=True)
    fractional.requires_grad_()
    crystal, i, j, vectors = pairs_within(fractional, lattices, mask, 4.0)
    alone = neighbours(crystals.positions, crystals.lattices, crystals.n_atoms, 4.0)
    assert torch.equal(crystal, torch.tensor(crystals.crystal_of_atom[alone.i]))
    place = mask.flatten().nonzero()[:, 0]
    assert torch.equal(i, place[alone.i]) and torch.equal(j, place[alone.j])
    np.testing.assert_allclose(vectors.detach(), alone.vectors, atol=1e-12)

    def energy(x: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        return torch.exp(-pairs_within(x, cells, mask, 4.0)[3].square().sum(-1)).sum()

    assert torch.autograd.gradcheck(energy, (fractional, lattices))


def test_atoms_on_one_spot_have_no_direction(crystals):
    fractional = torch.zeros(1, 2, 3, dtype=torch.float64)
    vectors = pairs_within(fractional, 3 * torch.eye(3, dtype=torch.float64)[None], torch.ones(1, 2, dtype=torch.bool), 3.5)[3]
    assert len(vectors) == 2 * 2 * 6
    assert (vectors.norm(dim=1) > 2.9).all()
