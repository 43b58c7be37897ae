"""The distribution of the number of atoms: its frequencies, and what it learns from curves."""

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.diffusion.sizes import SizeDistribution, _formulas


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
def fitted():
    """Low peaks have two atoms, high ones four or eight, half of each; every crystal is another compound."""
    rng = np.random.default_rng(0)
    peaks = rng.uniform(-8, -1, 300)
    sizes = [2 if p < -4.5 else int(rng.choice([4, 8])) for p in peaks]
    model = SizeDistribution(DEFAULT_GRID, 8, 300)
    batches = [batch_of(sizes[:100], peaks[:100]), batch_of(sizes[100:], peaks[100:])]
    for k, batch in enumerate(batches):
        batch.types[:] = torch.arange(len(batch))[:, None] + 100 * k
    model.fit(batches)
    return model, sizes


def arguments(peaks, given=True):
    batch = batch_of([1] * len(peaks), peaks)
    return batch.dos[:, 0], torch.full((len(peaks),), given), batch.complete_below


def test_without_a_curve_it_is_the_distribution_over_all_crystals(fitted):
    model, sizes = fitted
    hidden = model(*arguments([-7.0, -2.0], given=False))
    np.testing.assert_allclose(hidden[0].numpy(), np.bincount(sizes, minlength=9)[1:] / len(sizes), atol=1e-5)
    torch.testing.assert_close(hidden[0], hidden[1])


def test_a_curve_that_fixes_the_size_is_recognised_and_one_that_does_not_leaves_it_open(fitted):
    low, high = fitted[0](*arguments([-7.0, -2.0])).numpy()
    assert low[1] > 0.9
    assert high[3] + high[7] > 0.9 and min(high[3], high[7]) > 0.3


def test_far_from_all_crystals_it_returns_to_their_frequencies(fitted):
    model, sizes = fitted
    far = 30 * arguments([6.0])[0]
    probabilities = model(far, torch.ones(1, dtype=torch.bool), torch.tensor([10.0]))[0].numpy()
    np.testing.assert_allclose(probabilities, np.bincount(sizes, minlength=9)[1:] / len(sizes), atol=0.01)


def test_probabilities_sum_to_one_and_sizes_never_seen_are_out(fitted):
    probabilities = fitted[0](*arguments([-7.0, -2.0, 3.0]))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3))
    assert probabilities[:, [0, 2, 4, 5, 6]].max() < 1e-4


def test_what_a_curve_tells_of_its_own_compound_alone_is_ignored():
    """Ten compounds at random places, each with a size of its own: other compounds say nothing, so the kernel has no width."""
    rng = np.random.default_rng(1)
    peaks, sizes = rng.uniform(-8, -1, 10).repeat(20), rng.permutation(np.arange(10) % 5 + 1).repeat(20)
    batch = batch_of(sizes.tolist(), peaks)
    batch.types[:] = torch.arange(10).repeat_interleave(20)[:, None]
    model = SizeDistribution(DEFAULT_GRID, 8, 200)
    model.fit([batch])
    other = SizeDistribution(DEFAULT_GRID, 8, 200)
    batch.types[:] = torch.arange(200)[:, None]
    other.fit([batch])
    sharp = float(other(*arguments(peaks[:1]))[0, sizes[0] - 1])
    assert sharp > 0.9 > float(model(*arguments(peaks[:1]))[0, sizes[0] - 1]) + 0.2


def test_a_formula_is_the_same_in_any_cell():
    batch = batch_of([2, 4, 4], [-3.0, -3.0, -3.0])
    batch.types[:] = torch.tensor([[1, 2, 0, 0], [2, 1, 1, 2], [1, 1, 1, 2]])
    one, doubled, other = _formulas(batch)
    assert one == doubled != other
