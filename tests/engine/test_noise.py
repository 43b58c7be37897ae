"""Forward processes against closed forms; ways back against scores that are known analytically."""

import itertools
import math

import numpy as np
import pytest
import torch

from aiida_dosmatgen.engine.noise import EARLIEST, VariancePreserving, WrappedNormal, stratified_times

vp = VariancePreserving()
wrapped = WrappedNormal()


def grid_of(steps):
    return itertools.pairwise([1 - i / steps for i in range(steps)] + [0.0])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_times_are_stratified():
    times = stratified_times(64, torch.Generator().manual_seed(0)).sort().values
    strata = ((times - EARLIEST) / (1 - EARLIEST) * 64).floor()
    assert strata.tolist() == list(range(64))


# --- variance preserving ----------------------------------------------------------------------------------------------------


def test_marginal_of_a_gaussian():
    """Data N(μ, s²) has the marginal N(aμ, a²s² + σ²)."""
    mean, std, t = 0.7, 0.4, torch.full((200_000,), 0.35, dtype=torch.float64)
    x = vp.marginal(mean + std * normal(200_000), t, normal(200_000, seed=1))
    a, sigma = math.cos(0.35 * math.pi / 2), math.sin(0.35 * math.pi / 2)
    assert x.mean().item() == pytest.approx(a * mean, abs=0.01)
    assert x.std().item() == pytest.approx(math.hypot(a * std, sigma), rel=0.01)


def test_ends_of_the_schedule():
    x0, noise = normal(5, 3), normal(5, 3, seed=1)
    torch.testing.assert_close(vp.marginal(x0, torch.zeros(5), noise), x0)
    torch.testing.assert_close(vp.marginal(x0, torch.ones(5), noise), noise, atol=1e-6, rtol=0)


def test_velocity_gives_the_data_back():
    x0, noise, t = normal(6, 4), normal(6, 4, seed=1), torch.linspace(0.001, 1, 6, dtype=torch.float64)
    x = vp.marginal(x0, t, noise)
    torch.testing.assert_close(vp.data_from_velocity(x, t, vp.velocity(x0, t, noise)), x0)
    a, sigma = vp.coefficients(t)
    torch.testing.assert_close(vp.score(x, t, x0), -noise / sigma[:, None])
    torch.testing.assert_close(vp.velocity(x0, t, noise), a[:, None] * noise - sigma[:, None] * x0)


def gaussian_data(x, t, mean, std):
    """E[x_0 | x_t] for data N(mean, std²)."""
    a, sigma = vp.scales(t)
    return mean + a * std**2 * (x - a * mean) / (a**2 * std**2 + sigma**2)


def gaussian_end(steps, order, mean=0.7, std=0.4):
    """Largest error of the ODE's end points: a Gaussian's flow maps quantile to quantile, x_1 -> mean + std·x_1."""
    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x, before = start, None
    for t, s in grid_of(steps):
        data = gaussian_data(x, t, mean, std)
        x = vp.ode_step(x, data, t, s, before if order == 2 else None)
        before = (t, data)
    return (x - (mean + std * start)).abs().max().item()


def test_ode_of_a_gaussian_converges():
    first = [gaussian_end(n, 1) for n in (40, 80, 160)]
    second = [gaussian_end(n, 2) for n in (80, 160, 320)]
    assert first[0] < 0.05
    assert all(a / b == pytest.approx(2, rel=0.1) for a, b in itertools.pairwise(first))
    assert all(a / b > 2.5 for a, b in itertools.pairwise(second))
    assert second[1] < 0.2 * first[2]


def test_ode_is_exact_for_known_data():
    x = normal(4)
    data = torch.tensor([0.1, -2.0, 3.0, 0.0], dtype=torch.float64)
    for t, s in grid_of(3):
        x = vp.ode_step(x, data, t, s)
    torch.testing.assert_close(x, data)


def test_ancestral_sampling_gives_the_distribution_of_the_data():
    """The posterior's variance leaves out that of x_0, so the width comes out too small, by an amount of first order."""
    mean, std, n = 0.7, 0.4, 40_000
    missing = []
    for steps in (50, 200):
        x = normal(n)
        for i, (t, s) in enumerate(grid_of(steps)):
            x = vp.ancestral_step(x, gaussian_data(x, t, mean, std), t, s, normal(n, seed=i + 1))
        assert x.mean().item() == pytest.approx(mean, abs=0.01)
        missing.append(1 - x.std().item() / std)
    assert missing[1] == pytest.approx(0, abs=0.03)
    assert 2 < missing[0] / missing[1] < 8


# --- wrapped normal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.1, 0.25, 0.5])
def test_score_is_the_gradient_of_the_log_density(sigma):
    delta = torch.linspace(-0.99, 0.99, 67, dtype=torch.float64, requires_grad=True)
    images = torch.arange(-20, 21, dtype=torch.float64)
    log_density = torch.logsumexp(-0.5 * ((delta[:, None] + images) / sigma) ** 2, -1).sum()
    expected = torch.autograd.grad(log_density, delta)[0]
    torch.testing.assert_close(wrapped.score(delta.detach(), torch.tensor(sigma)), expected, rtol=1e-5, atol=1e-9)


def test_score_has_the_period_of_the_lattice():
    delta, sigma = normal(50), torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(wrapped.score(delta + 3, sigma), wrapped.score(delta, sigma), rtol=0, atol=1e-9)


def test_score_of_a_wide_distribution_is_that_of_its_first_harmonic():
    """p ≈ 1 + 2q·cos(2πδ), q = exp(−2π²σ²), so the score's root mean square is 2π·√2·q; a narrow one has 1/σ."""
    scale = wrapped.score_scale(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert scale[0].item() == pytest.approx(2 * math.pi * math.sqrt(2) * math.exp(-2 * math.pi**2 * 0.25), rel=1e-3)
    assert scale[1].item() == pytest.approx(1 / 0.005, rel=1e-6)


def test_targets_have_unit_size_at_all_times():
    t = torch.linspace(0, 1, 12, dtype=torch.float64)
    target = wrapped.target(t, normal(12, 50_000))
    np.testing.assert_allclose(target.square().mean(-1).sqrt().numpy(), 1, rtol=0.02)


def test_marginal_is_wrapped_and_uniform_at_the_end():
    x0 = torch.full((100_000,), 0.2, dtype=torch.float64)
    end = wrapped.marginal(x0, torch.ones(100_000, dtype=torch.float64), normal(100_000))
    assert end.min() >= 0 and end.max() < 1
    # |E exp(2πix)| = exp(−2π²σ²) = 0.007 for a wrapped normal
    phase = torch.exp(2j * math.pi * end).mean().abs().item()
    assert phase == pytest.approx(math.exp(-2 * math.pi**2 * 0.25), abs=0.01)
    t = torch.full((100_000,), 0.5, dtype=torch.float64)
    middle = torch.exp(2j * math.pi * (wrapped.marginal(x0, t, normal(100_000)) - 0.2)).mean()
    assert middle.real.item() == pytest.approx(math.exp(-2 * math.pi**2 * 0.05**2), abs=0.003)
    assert middle.imag.item() == pytest.approx(0, abs=0.003)


def known_score(x, t, centre, width):
    """Score of data that are a wrapped normal of their own: variances add."""
    return wrapped.score(x - centre, torch.tensor(math.hypot(width, wrapped.width(t)), dtype=torch.float64))


def wrapped_end(steps, order, centre=0.3, width=0.04):
    x = torch.linspace(0, 0.999, 41, dtype=torch.float64)
    before = None
    for t, s in grid_of(steps):
        x, data = wrapped.ode_step(x, known_score(x, t, centre, width), t, s, before if order == 2 else None)
        before = (t, data)
    return x


def test_ode_of_a_wrapped_normal_converges():
    reference = wrapped_end(4000, 2)
    first = [(wrapped_end(n, 1) - reference).abs().max().item() for n in (25, 50, 100)]
    second = [(wrapped_end(n, 2) - reference).abs().max().item() for n in (25, 50, 100)]
    assert first[0] / first[1] > 1.5 and first[1] / first[2] > 1.6
    assert second[1] / second[2] > 2.5
    assert second[2] < 0.3 * first[2]


def test_ode_takes_the_uniform_prior_to_the_data():
    x = wrapped_end(100, 2)  # 41 equidistant quantiles of the uniform distribution
    delta = x - 0.3 - torch.round(x - 0.3)
    assert delta.std().item() == pytest.approx(0.04, rel=0.1)
    assert delta.mean().abs().item() < 0.005


def test_ode_goes_all_the_way_to_a_known_point():
    x = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t, s in grid_of(30):
        score = wrapped.score(x - 0.6, torch.tensor(wrapped.width(t), dtype=torch.float64))
        x, _ = wrapped.ode_step(x, score, t, s)
    delta = (x - 0.6) - torch.round(x - 0.6)
    assert delta.abs().max().item() < 1e-9


@pytest.mark.parametrize("corrector_steps", [0, 1])
def test_ancestral_sampling_of_a_wrapped_normal(corrector_steps):
    centre, width, n = 0.9, 0.06, 10_000
    x = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, (t, s) in enumerate(grid_of(150)):
        x = wrapped.ancestral_step(x, known_score(x, t, centre, width), t, s, normal(n, seed=2 * i))
        for _ in range(corrector_steps if s > 0 else 0):
            x = wrapped.langevin_step(x, known_score(x, s, centre, width), s, normal(n, seed=2 * i + 1))
    delta = (x - centre) - torch.round(x - centre)
    assert delta.mean().item() == pytest.approx(0, abs=0.003)
    assert delta.std().item() == pytest.approx(width, rel=0.04)


def test_corrector_keeps_the_distribution():
    """Langevin steps with the exact score leave the marginal at their time as it is."""
    t, n = 0.6, 20_000
    width = wrapped.width(t)
    x = (0.5 + width * normal(n)) % 1
    for i in range(50):
        x = wrapped.langevin_step(x, known_score(x, t, 0.5, 0.0), t, normal(n, seed=i + 1), rate=0.05)
    assert (x - 0.5).std().item() == pytest.approx(width, rel=0.04)


def test_widths_must_make_sense():
    with pytest.raises(ValueError, match="sigma_min"):
        WrappedNormal(0.5, 0.1)
