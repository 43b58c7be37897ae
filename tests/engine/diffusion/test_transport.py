"""The projection onto exact compositions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.constraints.assignment import supported
from aiida_dosmatgen.engine.diffusion.steering.transport import project


@st.composite
def problems(draw):
    """Logits from nearly equal to hundreds apart, a composition, and the pairs that occur with it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_atoms, n_elements = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0, 100.0, 500.0]))
    elements = rng.integers(0, n_elements, n_atoms)
    allowed = rng.random((n_atoms, n_elements)) < 0.6
    allowed[np.arange(n_atoms), elements] = True
    counts = np.bincount(elements, minlength=n_elements)
    logits = torch.from_numpy(scale * rng.normal(size=(1, n_atoms, n_elements)))
    return logits, torch.from_numpy(supported(allowed, counts))[None], torch.from_numpy(counts)[None]


@settings(max_examples=80)
@given(problems())
def test_the_result_has_the_composition(problem):
    logits, allowed, counts = problem
    p = project(logits, allowed, counts).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(p.sum(1), counts.double(), rtol=0, atol=1e-6)
    assert (p[~allowed] == 0).all()


@settings(max_examples=30)
@given(problems())
def test_the_result_is_nearest_in_relative_entropy(problem):
    """Of all matrices with these margins it alone is exp(logits + u_i + g_k): it keeps the logits' mixed differences."""
    logits, allowed, counts = problem
    difference = (project(logits, allowed, counts) - logits)[0]
    for k in range(difference.shape[1]):
        for other in range(k):
            both = allowed[0, :, k] & allowed[0, :, other]
            step = difference[both, k] - difference[both, other]
            assert step.numel() == 0 or (step.max() - step.min()) < 1e-8 * (1 + step.abs().max())


def test_two_atoms_of_two_elements_in_closed_form():
    """p_11 is the logistic function of half the mixed difference of the logits."""
    logits = torch.tensor([[[0.3, -1.0], [2.0, 0.5]]], dtype=torch.float64)
    p = project(logits, torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([[1, 1]])).exp()
    mixed = logits[0, 0, 0] - logits[0, 0, 1] - logits[0, 1, 0] + logits[0, 1, 1]
    assert p[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-mixed / 2)), abs=1e-6)


def test_probabilities_that_have_the_composition_stay():
    p = torch.tensor([[[0.5, 0.3, 0.2], [0.3, 0.3, 0.4], [0.2, 0.4, 0.4]]], dtype=torch.float64)
    found = project(p.log(), torch.ones_like(p, dtype=torch.bool), torch.tensor([[1, 1, 1]]))
    torch.testing.assert_close(found.exp(), p, rtol=0, atol=1e-7)


def test_crystals_of_a_batch_do_not_influence_each_other():
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([0.1, 1.0, 30.0, 300.0])[:, None, None]
    logits = scales * torch.randn(4, 6, 3, generator=generator, dtype=torch.float64)
    counts = torch.tensor([[2, 2, 2], [6, 0, 0], [1, 0, 5], [3, 2, 1]])
    allowed = (counts > 0)[:, None].expand(4, 6, 3)
    together = project(logits, allowed, counts)
    for i in range(4):
        torch.testing.assert_close(project(logits[i : i + 1], allowed[i : i + 1], counts[i : i + 1])[0], together[i])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_precision_of_the_logits_is_kept(dtype):
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    counts = torch.tensor([[2, 2, 1]] * 2)
    found = project(logits, torch.ones(2, 5, 3, dtype=torch.bool), counts)
    assert found.dtype == dtype
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double().exp().sum(1), counts.double(), rtol=0, atol=0.03)


def test_logits_that_are_not_finite_end_the_iteration():
    logits = torch.full((1, 2, 2), torch.nan)
    assert project(logits, torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([[1, 1]])).shape == (1, 2, 2)
