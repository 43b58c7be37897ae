"""Novelty: one where the training set is, growing with the distance from it."""

import pytest
import torch

from aiida_dosmatgen.engine.prediction.novelty import Novelty


@pytest.fixture
def known():
    generator = torch.Generator().manual_seed(0)
    types = torch.arange(600) % 2
    # two elements, each with its own mean and its own correlations
    mix = torch.randn(2, 5, 5, generator=generator) * torch.tensor([1.0, 0.1])[:, None, None]
    features = torch.einsum("aij,aj->ai", mix[types], torch.randn(600, 5, generator=generator)) + 3.0 * types[:, None]
    novelty = Novelty(3, 5)
    novelty.fit(features, types)
    return novelty, features, types


def test_the_training_set_is_not_new(known):
    novelty, features, types = known
    factors = novelty(features, types)
    assert factors.min() == 1
    assert 0.02 < (factors > 1).float().mean() < 0.08
    assert 0.4 < float(novelty.distance(features, types).square().mean()) < 1.2


def test_it_grows_with_the_distance(known):
    novelty, features, types = known
    far = [float(novelty(features + shift, types).mean()) for shift in (0.0, 3.0, 10.0, 30.0)]
    assert far == sorted(far)
    assert far[-1] == pytest.approx(3 * far[-2], rel=0.1)
    # what is usual for one element is new for the other
    assert novelty(features[types == 1], types[types == 0]).mean() < novelty(features[types == 0], types[types == 1]).mean()
    assert novelty(features[types == 0], types[types == 1]).mean() > 3


def test_few_atoms_are_treated_with_care():
    novelty = Novelty(2, 4)
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(novelty(x, torch.zeros(1, dtype=torch.long)), torch.ones(1))  # before it knows anything
    novelty.fit(x, torch.zeros(1, dtype=torch.long))  # one atom of one element, none of the other
    assert all(torch.isfinite(buffer).all() for buffer in novelty.buffers())
    assert torch.equal(novelty(x, torch.zeros(1, dtype=torch.long)), torch.ones(1))
    assert novelty(x + 1, torch.ones(1, dtype=torch.long)) > 1
