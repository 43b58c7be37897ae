"""Forward processes against closed forms, and each single step back against the distribution that it should sample.

The closed forms are in :mod:`..analytic`, which shares nothing with the package. Steps are linear in what goes in, so that most
of them are tested without sampling: their coefficients must satisfy as many equations as there are coefficients.
"""

import itertools
import math

import pytest
import torch

from aiida_dosmatgen.engine.diffusion.noise import EARLIEST, VariancePreserving, WrappedNormal, stratified_times

from ..analytic import LineMixture, TorusMixture, midpoints, normal, torus_width, vp_coefficients

vp = VariancePreserving()
wrapped = WrappedNormal()

LINE = LineMixture((-1.2, 0.9), (0.3, 0.5), (0.3, 0.7))
TORUS = TorusMixture((0.95, 0.35), (0.03, 0.06), (0.6, 0.4))
SYMMETRIC = TorusMixture((0.15, 0.45), (0.05, 0.05), (0.5, 0.5))
AXIS = 0.3  # of the symmetry of SYMMETRIC
PAIRS = [(1.0, 0.7), (0.8, 0.75), (0.5, 0.1), (0.02, 0.0)]


def uneven(start, stop, n):
    """Pairs of times from start to stop, steps of lengths 1, 2, 1, 2, …: a solver must weigh its history by their ratio."""
    lengths = torch.tensor([1.0, 2.0] * (n // 2), dtype=torch.float64)
    times = start + (stop - start) * torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    return itertools.pairwise(times.tolist())


def full(x, t):
    return torch.full((len(x),), t, dtype=torch.float64)


def ratios(errors):
    return [a / b for a, b in itertools.pairwise(errors)]


def test_times_are_stratified():
    """Sorted, each of n drawn times is in its own n-th of (EARLIEST, 1)."""
    times = stratified_times(64, torch.Generator().manual_seed(0)).sort().values
    strata = ((times - EARLIEST) / (1 - EARLIEST) * 64).floor()
    assert strata.tolist() == list(range(64))


# --- variance preserving: the forward process -------------------------------------------------------------------------------


def test_vp_schedule_is_a_quarter_turn():
    """a = cos(πt/2), σ = sin(πt/2): (√3/2, ½) at t = ⅓, and the ends exactly data and exactly noise."""
    for t, a, sigma in ((0.0, 1, 0), (1 / 3, math.sqrt(3) / 2, 0.5), (0.5, math.sqrt(0.5), math.sqrt(0.5)), (1.0, 0, 1)):
        assert vp.scales(t) == pytest.approx((a, sigma), abs=1e-15)
        assert [c.item() for c in vp.coefficients(torch.tensor(t, dtype=torch.float64))] == pytest.approx([a, sigma], abs=1e-15)
    assert vp.scales(0.0) == (1.0, 0.0) and vp.scales(1.0) == (0.0, 1.0)


@pytest.mark.parametrize("t", [0.15, 0.5, 0.85])
def test_vp_marginal_of_a_mixture(t):
    """Data Σ w N(μ, s²) have the marginal Σ w N(aμ, a²s² + σ²): the Wasserstein distance is that of sampling noise alone."""
    n = 40_000
    x0 = LINE.sample(n)
    x = vp.marginal(x0, full(x0, t), normal(n, seed=1))
    marginal = LINE.noised(t)
    assert marginal.distance(x) < 0.012
    assert x.mean().item() == pytest.approx(marginal.mean(), abs=0.015)
    assert x.var().item() == pytest.approx(marginal.variance(), rel=0.02)


def test_vp_velocity_gives_data_and_noise_back():
    """v = dx_t/dθ at angle θ = πt/2, so (x, v) is (x_0, ε) turned by θ: a·x − σ·v = x_0 and σ·x + a·v = ε."""
    x0, noise, t = normal(6, 4), normal(6, 4, seed=1), torch.linspace(0.001, 1, 6, dtype=torch.float64)
    x, v = vp.marginal(x0, t, noise), vp.velocity(x0, t, noise)
    torch.testing.assert_close(vp.data_from_velocity(x, t, v), x0)
    a, sigma = torch.cos(math.pi / 2 * t)[:, None], torch.sin(math.pi / 2 * t)[:, None]
    torch.testing.assert_close(sigma * x + a * v, noise)
    step = 1e-6
    slope = (vp.marginal(x0, t + step, noise) - vp.marginal(x0, t - step, noise)) / (2 * step)
    torch.testing.assert_close(v, slope / (math.pi / 2), rtol=0, atol=1e-8)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.99])
def test_vp_score_of_the_posterior_mean_is_that_of_the_marginal(t):
    """Tweedie: (a·E[x_0|x_t] − x_t)/σ² is the gradient of the mixture's ln p_t, taken by automatic differentiation."""
    x = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(LINE.noised(t).log_density(x).sum(), x)[0]
    data = LINE.posterior_mean(x.detach(), t)
    torch.testing.assert_close(vp.score(x.detach(), full(x, t), data), expected, rtol=0, atol=1e-10)


# --- variance preserving: the steps back ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_vp_ode_step_keeps_data_and_noise(t, s):
    """For known x_0 the flow is x = a·x_0 + σ·ε at fixed ε: the step's two coefficients obey both equations exactly."""
    (a_t, sigma_t), (a_s, sigma_s) = vp_coefficients(t), vp_coefficients(s)
    x0, noise = normal(20), normal(20, seed=1)
    x = vp.ode_step(a_t * x0 + sigma_t * noise, x0, t, s)
    torch.testing.assert_close(x, a_s * x0 + sigma_s * noise, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_vp_ancestral_step_has_the_posteriors_joint_distribution(t, s):
    """x_s = A·x_t + B·x_0 + C·ε with E[x_s] = a_s·x_0, Var[x_s] = σ_s² and Cov[x_s, x_t] = (a_t/a_s)·σ_s²: three equations."""
    (a_t, sigma_t), (a_s, sigma_s) = vp_coefficients(t), vp_coefficients(s)
    unit = torch.eye(3, dtype=torch.float64)
    state, data, noise = vp.ancestral_step(unit[0], unit[1], t, s, unit[2]).tolist()
    assert state * a_t + data == pytest.approx(a_s, abs=1e-14)
    assert state**2 * sigma_t**2 + noise**2 == pytest.approx(sigma_s**2, abs=1e-14)
    assert state * sigma_t**2 == pytest.approx(a_t / a_s * sigma_s**2, abs=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_vp_ode_follows_the_flow_of_a_mixture_at_its_order(order):
    """The flow keeps quantiles, x_s = F_s⁻¹(F_t(x_t)): halved steps divide the error by 2, and by 4 with a history."""
    start, stop, errors = 0.9, 0.2, []
    first = LINE.noised(start).quantile(midpoints(25))
    exact = LINE.noised(stop).quantile(midpoints(25))
    for n in (40, 80, 160, 320):
        x, before = first, None
        for t, s in uneven(start, stop, n):
            data = LINE.posterior_mean(x, t)
            x = vp.ode_step(x, data, t, s, before if order == 2 else None)
            before = (t, data)
        errors.append((x - exact).abs().max().item())
    assert ratios(errors)[-1] == pytest.approx(2**order, rel=0.1), errors
    assert errors[-1] < (0.01 if order == 1 else 0.0005)


def test_vp_ancestral_variance_of_a_gaussian_converges_at_first_order():
    """For data N(μ, s²) the chain is affine, so its moments are exact without sampling; they reach μ and s² as 1/n."""
    mean, std = 0.7, 0.4
    data = LineMixture((mean,), (std,), (1.0,))
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    missing = []
    for n in (100, 200, 400):
        m, v = zero, one  # the prior's
        for t, s in itertools.pairwise([1 - i / n for i in range(n)] + [0.0]):

            def chain(x, noise, t=t, s=s):
                return vp.ancestral_step(x, data.posterior_mean(x, t), t, s, noise)

            slope, amplitude = chain(m + 1, zero) - chain(m, zero), chain(m, one) - chain(m, zero)
            m, v = chain(m, zero), slope**2 * v + amplitude**2
        assert m.item() == pytest.approx(mean, abs=1e-10)
        missing.append(std**2 - v.item())
    assert ratios(missing) == pytest.approx([2, 2], rel=0.1)
    assert 0 < missing[-1] < 0.03 * std**2


# --- wrapped normal: the forward process ------------------------------------------------------------------------------------


def test_widths_are_geometric():
    """σ = 0.005, 0.05 and 0.5 at t = 0, ½ and 1; the step to t = 0 goes to width 0."""
    times = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(wrapped.sigma(times), torch.tensor([0.005, 0.05, 0.5], dtype=torch.float64))
    assert [wrapped.width(t) for t in (0.0, 0.5, 1.0)] == pytest.approx([0, 0.05, 0.5])
    assert wrapped.width(0.0) == 0


def test_widths_must_make_sense():
    with pytest.raises(ValueError, match="sigma_min"):
        WrappedNormal(0.5, 0.1)


@pytest.mark.parametrize("t", [0.3, 0.6, 1.0])
def test_wrapped_marginal_of_a_mixture(t):
    """Each harmonic of the data is damped by exp(−2π²k²σ²), and a histogram of 25 bins has the wrapped density's counts."""
    n, sigma = 100_000, torus_width(t)
    x0 = TORUS.sample(n) + 3  # any image of the data
    x = wrapped.marginal(x0, full(x0, t), normal(n, seed=1))
    assert x.min() >= 0 and x.max() < 1
    for k in (1, 2, 3):
        expected = TORUS.characteristic(k) * math.exp(-2 * (math.pi * k * sigma) ** 2)
        assert abs(torch.exp(2j * math.pi * k * x).mean().item() - expected) < 4 / math.sqrt(n)
    edges = torch.linspace(0, 1, 26, dtype=torch.float64)
    expected = n * TORUS.widened(sigma).probability(0.0, edges).diff()
    counts = torch.histc(x, 25, 0, 1)
    assert ((counts - expected).square() / expected).sum().item() < 60  # χ² of 24 degrees of freedom: p = 7e-5


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.1, 0.25, 0.5])
def test_wrapped_score_is_the_gradient_of_the_log_density(sigma):
    """Against automatic differentiation of the image sum, and for wide kernels of the Fourier series 1 + 2Σ qᵏ² cos 2πkδ."""
    delta = torch.linspace(-2.3, 2.3, 93, dtype=torch.float64, requires_grad=True)
    score = wrapped.score(delta.detach(), torch.tensor(sigma, dtype=torch.float64))
    images = torch.arange(-20, 21, dtype=torch.float64)
    densities = [torch.logsumexp(-0.5 * ((delta[:, None] + images) / sigma) ** 2, -1)]
    if sigma >= 0.1:
        k = torch.arange(1, 30, dtype=torch.float64)
        series = (2 * torch.exp(-2 * (math.pi * k * sigma) ** 2) * torch.cos(2 * math.pi * k * delta[:, None])).sum(-1)
        densities.append(torch.log1p(series))
    for density in densities:
        expected = torch.autograd.grad(density.sum(), delta)[0]
        torch.testing.assert_close(score, expected, rtol=1e-8, atol=1e-8)


def test_score_scale_is_the_root_of_the_fisher_information():
    """∫ p·(d ln p/dx)² dx by quadrature; 1/σ² where narrow, 8π²·exp(−4π²σ²), that of the first harmonic, where wide."""
    x = midpoints(4096)
    for t in (0.0, 0.123, 0.5, 0.81, 0.95, 1.0):
        kernel = TorusMixture((0.5,), (torus_width(t),), (1.0,))
        information = (kernel.density(x) * kernel.score(x).square()).mean().item()
        scale = wrapped.score_scale(torch.tensor([t], dtype=torch.float64)).item()
        assert scale == pytest.approx(math.sqrt(information), rel=5e-4)
    ends = wrapped.score_scale(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert ends == pytest.approx([1 / 0.005, 2 * math.pi * math.sqrt(2) * math.exp(-2 * math.pi**2 * 0.25)], rel=1e-3)


@pytest.mark.parametrize("t", [0.45, 0.75])
def test_targets_average_to_the_score_of_the_marginal(t):
    """Denoising score matching: E[target·scale | x_t] is d ln p_t/dx of the wrapped mixture, whatever the centres were."""
    n, sigma = 200_000, torus_width(t)
    x0, noise = TORUS.sample(n), normal(n, seed=2)
    times = full(x0, t)
    x = wrapped.marginal(x0, times, noise)
    scores = wrapped.target(times, noise) * wrapped.score_scale(times)
    marginal = TORUS.widened(sigma)
    bins = (x * 50).long()
    counts = torch.bincount(bins, minlength=50)
    difference = torch.bincount(bins, scores - marginal.score(x), minlength=50) / counts.clamp_min(1)
    frequent = counts > 500
    assert frequent.sum() > 20
    assert (difference[frequent].abs() * counts[frequent].sqrt() * sigma).max() < 4.5  # standard errors are below 1/σ√n


def test_targets_are_of_the_wrapped_kernel():
    """Noise that differs by whole cells has one target, the wrapped kernel's score: −ε/σ has its mean, but more variance."""
    noise, t = normal(1, 50), torch.tensor([0.95], dtype=torch.float64)
    target = wrapped.target(t, noise)
    kernel = TorusMixture((0.0,), (torus_width(0.95),), (1.0,))
    torch.testing.assert_close(target * wrapped.score_scale(t), kernel.score(torus_width(0.95) * noise))
    torch.testing.assert_close(wrapped.target(t, noise + 2 / torus_width(0.95)), target)


# --- wrapped normal: the steps back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "s"), PAIRS)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_wrapped_ode_step_shrinks_a_known_displacement(t, s, power):
    """Around a known point dδ/dσ = power·δ/σ, so δ_s = δ_t·(σ_s/σ_t)^power exactly; to the point itself at s = 0."""
    delta, sigma = torch.linspace(-0.2, 0.2, 9, dtype=torch.float64), torus_width(t)
    x, data = wrapped.ode_step(0.4 + delta, -delta / sigma**2, t, s, power=power)
    shrink = (torus_width(s) / sigma) ** power if s > 0 else 0.0
    torch.testing.assert_close(x, 0.4 + shrink * delta, rtol=0, atol=1e-13)
    torch.testing.assert_close(data, torch.full_like(data, 0.4), rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [1, 2])
def test_wrapped_ode_follows_the_flow_of_a_mixture_at_its_order(order):
    """The flow keeps the probability from the axis of symmetry: halved steps divide the error by 2, by 4 with a history."""
    start, stop, errors = 1.0, 0.35, []
    first = AXIS + midpoints(30) - 0.5
    exact = SYMMETRIC.flow(first, torus_width(start), torus_width(stop), AXIS)
    for n in (40, 80, 160):
        x, before = first, None
        for t, s in uneven(start, stop, n):
            score = SYMMETRIC.widened(torus_width(t)).score(x)
            x, data = wrapped.ode_step(x, score, t, s, before if order == 2 else None)
            before = (t, data)
        errors.append((x - exact).abs().max().item())
    assert ratios(errors)[-1] == pytest.approx(2**order, rel=0.15), errors
    assert errors[-1] < (0.005 if order == 1 else 0.0003)


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_wrapped_ode_of_a_gaussian_converges_with_any_power(power):
    """For a Gaussian of width w, dδ/dσ = power·σδ/(w² + σ²) has δ ∝ (w² + σ²)^(power/2); the error falls as 1/n²."""
    width, start, stop, errors = 0.03, 0.9, 0.1, []
    exact = ((width**2 + torus_width(stop) ** 2) / (width**2 + torus_width(start) ** 2)) ** (power / 2)
    for n in (40, 80, 160):
        x, before = torch.ones(1, dtype=torch.float64), None
        for t, s in uneven(start, stop, n):
            x, data = wrapped.ode_step(x, -x / (width**2 + torus_width(t) ** 2), t, s, before, power)
            before = (t, data)
        errors.append(abs(x.item() / exact - 1))
    assert ratios(errors)[-1] == pytest.approx(4, rel=0.15), errors
    assert errors[-1] < 0.001


def test_wrapped_ode_of_a_gaussian_with_power_two_is_exact_in_one_step():
    """Along δ ∝ w² + σ² the posterior mean c + δ·w²/(w² + σ²) stands still, so no step is too long."""
    width, (start, stop) = 0.03, (torus_width(0.9), torus_width(0.1))
    delta = torch.linspace(-1, 1, 5, dtype=torch.float64)
    x, data = wrapped.ode_step(delta, -delta / (width**2 + start**2), 0.9, 0.1, power=2.0)
    torch.testing.assert_close(x, delta * (width**2 + stop**2) / (width**2 + start**2), rtol=0, atol=1e-14)
    torch.testing.assert_close(data, delta * width**2 / (width**2 + start**2), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_wrapped_ancestral_step_has_the_posteriors_joint_distribution(t, s):
    """Around a known point δ_s = A·δ_t + C·ε with Var[δ_s] = σ_s² and Cov[δ_s, δ_t] = σ_s²: two equations."""
    sigma_t, sigma_s = torus_width(t), torus_width(s) if s > 0 else 0.0
    delta, noise = torch.tensor([1e-3, 0.0], dtype=torch.float64), torch.tensor([0.0, 1e-3], dtype=torch.float64)
    moved = wrapped.ancestral_step(0.5 + delta, -delta / sigma_t**2, t, s, noise)
    shrink, amplitude = ((moved - 0.5) / 1e-3).tolist()
    assert shrink**2 * sigma_t**2 + amplitude**2 == pytest.approx(sigma_s**2, abs=1e-12)
    assert shrink * sigma_t**2 == pytest.approx(sigma_s**2, abs=1e-12)
    assert amplitude >= 0


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_langevin_steps_keep_a_gaussian_up_to_their_rate(rate):
    """x + δ·score + √(2δ)·ε on N(c, σ²) is an autoregression of slope 1 − rate, stationary at the variance σ²/(1 − rate/2)."""
    t, sigma = 0.6, torus_width(0.6)
    delta, noise = torch.tensor([1e-3, 0.0], dtype=torch.float64), torch.tensor([0.0, 1e-3], dtype=torch.float64)
    moved = wrapped.langevin_step(0.5 + delta, -delta / sigma**2, t, noise, rate)
    slope, amplitude = ((moved - 0.5) / 1e-3).tolist()
    assert slope == pytest.approx(1 - rate, abs=1e-10)
    assert amplitude**2 / (1 - slope**2) == pytest.approx(sigma**2 / (1 - rate / 2), rel=1e-9)


def test_langevin_steps_keep_a_mixture_on_the_torus():
    """From the exact marginal, 50 steps with its score stay within sampling noise of it; a corrector must not move it."""
    t, n = 0.55, 20_000
    marginal = TORUS.widened(torus_width(t))
    x = (marginal.sample(n) % 1)[:, None]
    for i in range(50):
        x = wrapped.langevin_step(x, marginal.score(x), t, normal(n, 1, seed=i + 1), rate=0.05)
    assert marginal.distance(x) < 0.004
    assert TORUS.widened(1.15 * torus_width(t)).distance(x) > 0.004  # the distance sees 15 per cent in σ


def test_stochastic_steps_stay_in_the_cell_and_the_ode_stays_on_its_branch():
    """Wrapping commutes with a periodic score; the multistep ODE would take a wrapped coordinate for a jump of its data."""
    x, noise, zero = midpoints(50), normal(50, seed=4), torch.zeros(50, dtype=torch.float64)
    for moved in (wrapped.ancestral_step(x, zero, 1.0, 0.9, noise), wrapped.langevin_step(x, zero, 0.9, noise)):
        assert moved.min() >= 0 and moved.max() < 1
        assert (moved - x).abs().max() > 0.5  # some did cross the boundary
    moved, _ = wrapped.ode_step(x, zero + 4.0, 1.0, 0.5)
    assert (moved - x).min() > 0.5
