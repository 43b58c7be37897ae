"""Classifier-free guidance: its limits, and that one stacked batch is the same as two."""

import dataclasses

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.conditioning import Condition
from aiida_dosmatgen.engine.denoiser import Denoiser, State
from aiida_dosmatgen.engine.guidance import ClassifierFree

GRID = EnergyGrid(-5.0, 5.0, 21)
B, N = 3, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(["C", "Si"], GRID, width=16, layers=2, frequencies=2).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    state = State(
        torch.randn(B, N, 2, generator=generator).double(),
        torch.rand(B, N, 3, generator=generator).double(),
        torch.randn(B, 6, generator=generator).double(),
    )
    condition = dataclasses.replace(
        Condition.none(B, N, GRID.n, state.types),
        site=torch.rand(B, N, GRID.n, generator=generator).double(),
        site_given=torch.ones(B, N, dtype=torch.bool),
    )
    return state, torch.full((B,), 0.4).double(), condition, torch.ones(B, N, dtype=torch.bool)


def branch(model, state, t, condition, mask):
    return model(state, t, model.encode(condition, mask), mask)


def test_scale_zero_is_the_conditional_branch(model, given):
    state, t, condition, mask = given
    guided = ClassifierFree(model, condition, mask, 0.0)(state, t)
    for a, b in zip(guided, branch(model, state, t, condition, mask), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_is_linear_in_both_branches(model, given, scale):
    state, t, condition, mask = given
    guided = ClassifierFree(model, condition, mask, scale)(state, t)
    conditional, unconditional = branch(model, state, t, condition, mask), branch(model, state, t, condition.dropped(), mask)
    for a, c, u in zip(guided, conditional, unconditional, strict=True):
        assert (c - u).abs().max() > 1e-3
        torch.testing.assert_close(a, (1 + scale) * c - scale * u, rtol=0, atol=1e-10)


def test_nothing_asked_is_unconditional_at_any_scale(model, given):
    state, t, condition, mask = given
    nothing = Condition.none(B, N, GRID.n, state.types)
    for empty in (nothing, condition.dropped()):
        guided = ClassifierFree(model, empty, mask, 2.0)(state, t)
        for a, b in zip(guided, branch(model, state, t, nothing, mask), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_crystals_of_a_batch_do_not_mix(model, given):
    state, t, condition, mask = given
    given_to_one = torch.zeros_like(condition.site_given)
    given_to_one[1] = True
    guided = ClassifierFree(model, dataclasses.replace(condition, site_given=given_to_one), mask, 2.0)(state, t)
    all_of_them = ClassifierFree(model, condition, mask, 2.0)(state, t)
    none_of_them = branch(model, state, t, condition.dropped(), mask)
    for a, b, c in zip(guided, all_of_them, none_of_them, strict=True):
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=1e-10)
        torch.testing.assert_close(a[0], c[0], rtol=0, atol=1e-10)
