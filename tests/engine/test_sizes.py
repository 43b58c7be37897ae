"""The distribution of the number of atoms: its frequencies, and what it learns from curves."""

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.sizes import SizeDistribution


def batch_of(sizes, peaks):
    """Crystals whose atoms all have one peak."""
    n = max(sizes)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    curves = np.exp(-0.5 * ((DEFAULT_GRID.points - np.array(peaks)[:, None]) / 0.5) ** 2)
    dos = torch.tensor(curves, dtype=torch.float32)[:, None] * mask[..., None]
    zeros = torch.zeros(len(sizes), n)
    return DenseBatch(
        zeros.long(), torch.zeros(len(sizes), n, 3), torch.eye(3).expand(len(sizes), 3, 3), mask, dos,
        torch.full((len(sizes),), 10.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """Low peaks have two atoms, high ones four or eight, half of each."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    peaks = rng.uniform(-8, -1, 300)
    sizes = [2 if p < -4.5 else int(rng.choice([4, 8])) for p in peaks]
    batch = batch_of(sizes, peaks)
    model = SizeDistribution(DEFAULT_GRID, 8, width=32)
    model.fit([batch])
    untrained = torch.exp(model(*arguments(peaks[:1], given=False))[0])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(batch.dos[:, 0], batch.complete_below, batch.n_atoms, generator).backward()
        optimizer.step()
    return model.eval(), sizes, untrained


def arguments(peaks, given=True):
    batch = batch_of([1] * len(peaks), peaks)
    return batch.dos[:, 0], torch.full((len(peaks),), given), batch.complete_below


def test_it_starts_as_the_frequencies_of_the_training_set(trained):
    _, sizes, untrained = trained
    frequencies = np.bincount(sizes, minlength=9)[1:] / len(sizes)
    np.testing.assert_allclose(untrained.detach().numpy(), frequencies, atol=1e-5)


def test_without_a_curve_it_stays_the_distribution_over_all_crystals(trained):
    model, _, untrained = trained
    hidden = torch.exp(model(*arguments([-7.0, -2.0], given=False))).detach()
    torch.testing.assert_close(hidden[0], hidden[1])
    np.testing.assert_allclose(hidden[0].numpy(), untrained.detach().numpy(), atol=0.05)


def test_a_curve_that_fixes_the_size_is_recognised_and_one_that_does_not_leaves_it_open(trained):
    low, high = torch.exp(trained[0](*arguments([-7.0, -2.0]))).detach().numpy()
    assert low[1] > 0.95
    assert high[3] + high[7] > 0.95 and min(high[3], high[7]) > 0.3


def test_probabilities_sum_to_one_and_sizes_never_seen_are_out(trained):
    probabilities = torch.exp(trained[0](*arguments([-7.0, -2.0, 3.0]))).detach()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))
    assert probabilities[:, [0, 2, 4, 5, 6]].max() < 0.01
