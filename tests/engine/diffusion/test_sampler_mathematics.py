"""The sampler's loops against scores that are known in closed form: do they reach the data, and at which order?

The real :func:`solve` runs with a guidance that answers from :mod:`..analytic` in place of a network. Three kinds of proof:

- the deterministic solver maps each number of the prior to one of the data, and the exact map is known: pointwise errors;
- for Gaussian data the stochastic sampler is affine in its noise, so running it on one unit of noise at a time gives the exact
  mean and variance of what it samples: no sampling error either;
- for mixtures, the distance of a sample from the data, with fixed seeds.
"""

import itertools
import math

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser, Output, State
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve

from ..analytic import LineMixture, TorusMixture, midpoints, torus_width, vp_coefficients

LATTICE = LineMixture((-1.2, 0.9), (0.3, 0.5), (0.3, 0.7))
TORUS = TorusMixture((0.95, 0.35), (0.03, 0.06), (0.6, 0.4))
SYMMETRIC = TorusMixture((0.15, 0.45), (0.05, 0.05), (0.5, 0.5))
AXIS = 0.3  # of the symmetry of SYMMETRIC
SHARES = (0.2, 0.5, 0.3)
CENTRE, WIDTH = 0.5, 0.1  # of Gaussian coordinates taken as numbers on the line
LENGTH = 2.0  # of the vectors that stand for elements


@pytest.fixture(scope="module")
def model():
    """The processes and parametrisations are those of the denoiser; its network is not asked."""
    return Denoiser(["C", "Si", "Ge"], EnergyGrid(-5.0, 5.0, 21), width=8, layers=1, frequencies=1).double().eval()


class Known:
    """Exact predictions for coordinates, lattice components and elements that are all independent.

    :param line: take coordinates for numbers on the line, N(CENTRE, WIDTH²), rather than on the torus.
    """

    def __init__(self, model, lattice=LATTICE, torus=TORUS, shares=SHARES, line=False):
        self.model, self.lattice, self.torus, self.line = model, lattice, torus, line
        self.log_shares = torch.log(torch.tensor(shares, dtype=torch.float64))
        self.times = []

    def __call__(self, state, t):
        time = t[0].item()
        self.times.append(time)
        a, sigma = vp_coefficients(time)
        if self.line:
            score = -(state.fractional - CENTRE) / (WIDTH**2 + torus_width(time) ** 2)
        else:
            score = self.torus.widened(torus_width(time)).score(state.fractional)
        data = self.lattice.posterior_mean(state.lattice, time)
        return Output(
            # ln of share · N(x; a·LENGTH·e_k, σ²), up to what all k have in common
            self.log_shares + LENGTH * a / sigma**2 * state.types,
            score / self.model.coordinates.score_scale(t)[:, None, None],
            (a * state.lattice - data) / sigma,
        )


class Prior:
    """Noise of which only the prior is drawn, here given: what a deterministic solver may ask for."""

    def __init__(self, types, fractional, lattice):
        self.state = State(types, fractional, lattice)

    def prior(self):
        return self.state


class Impulses:
    """Noise of a batch in which crystal 0 has none, and each other one has a single unit of it, in one draw of the run.

    The units are small, so that coordinates stay far from the boundary: the sampler is then affine in them.

    :param draws: how many draws there are after the prior, steps and corrector steps together.
    """

    UNIT = 1e-3

    def __init__(self, draws):
        self.size, self.drawn = draws + 2, 0

    def _pulse(self):
        self.drawn += 1
        pulse = torch.zeros(self.size, dtype=torch.float64)
        pulse[self.drawn] = self.UNIT
        return pulse

    def _state(self, pulse, fractional):
        return State(pulse[:, None, None].expand(-1, 1, 3), fractional, pulse[:, None].expand(-1, 6))

    def prior(self):
        pulse = self._pulse()
        return self._state(pulse, CENTRE + math.hypot(WIDTH, 0.5) * pulse[:, None, None].expand(-1, 1, 3))

    def normal(self):
        pulse = self._pulse()
        return self._state(pulse, pulse[:, None, None].expand(-1, 1, 3))

    def coordinates(self):
        return self._pulse()[:, None, None].expand(-1, 1, 3)

    def moments(self, x):
        """Return mean and variance of what the sampler gives for normal noise, and the response to each draw."""
        response = (x[1:] - x[0]) / self.UNIT
        return x[0].item(), response.square().sum().item(), response


def random_noise(model, n_crystals, n_atoms):
    generators = [generator_of(11, i) for i in range(n_crystals)]
    return Noise(generators, n_atoms, len(model.elements), torch.float64, torch.device("cpu"))


def ratios(errors):
    return [a / b for a, b in itertools.pairwise(errors)]


# --- the deterministic solver: exact maps -----------------------------------------------------------------------------------


def quantiles(n_crystals, n_atoms):
    """A prior in which lattice components and coordinates are equidistant quantiles."""
    lattice = torch.special.ndtri(midpoints(n_crystals * 6)).reshape(n_crystals, 6)
    fractional = (AXIS - 0.5 + midpoints(n_crystals * n_atoms * 3)).reshape(n_crystals, n_atoms, 3)
    return Prior(torch.zeros(n_crystals, n_atoms, 3, dtype=torch.float64), fractional, lattice)


def test_ode_takes_normal_quantiles_to_those_of_a_mixture(model):
    """x_1 ↦ F⁻¹(Φ(x_1)) for lattice components, at second order.

    Of the steps at both ends the k-th has a history of another length in ln(a/σ), which leaves an error of h²/k: in all
    h²·ln n, so that halved steps divide the largest error by a little less than 4; a first-order solver gives at most 2.
    """
    noise, errors = quantiles(5, 1), []
    exact = LATTICE.quantile(midpoints(30)).reshape(5, 6)
    for steps in (50, 200, 400, 800):
        end = solve(model, Known(model, torus=SYMMETRIC), noise, steps=steps, sampler="ode")
        errors.append((end.lattice - exact).abs().max().item())
    assert all(2.9 < r < 4 for r in ratios(errors)[1:]), errors
    assert errors[0] < 0.006 and errors[-1] < 0.0001


def test_ode_with_power_one_is_the_probability_flow_of_coordinates(model):
    """From uniform, a density symmetric about an axis flows by quantiles counted from it; then the last step goes to E[x_0|x].

    So the exact end of n steps is the posterior mean at σ(1/n) of the exact flow until then; the error falls as 1/n².
    """
    noise, errors = quantiles(4, 3), []
    for steps in (40, 80, 160):
        end = solve(model, Known(model, torus=SYMMETRIC), noise, steps=steps, sampler="ode", coordinate_power=1.0)
        sigma = torus_width(1 / steps)
        before = SYMMETRIC.flow(noise.prior().fractional, 0.5, sigma, AXIS)
        exact = before + sigma**2 * SYMMETRIC.widened(sigma).score(before)
        errors.append((end.fractional - exact).abs().max().item())
    assert all(3.4 < r < 4.2 for r in ratios(errors)), errors
    assert errors[-1] < 0.0002


def test_ode_with_power_one_samples_a_mixture_on_the_torus(model):
    """Equidistant coordinates become the data's distribution, up to 0.7 per cent of non-uniformity in the true prior."""
    noise = quantiles(10, 50)
    end = solve(model, Known(model, torus=TORUS), noise, steps=100, sampler="ode", coordinate_power=1.0)
    assert TORUS.distance(end.fractional) < 0.004
    narrow = TorusMixture(TORUS.means, (0.03, 0.05), TORUS.weights)
    assert TORUS.distance(end.fractional) < 0.5 * narrow.distance(end.fractional)  # 0.01 in one width would be noticed


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_ode_with_power_two_shrinks_a_gaussian_exactly(model, steps):
    """dδ/dσ = 2σδ/(w² + σ²) ends at δ·w²/(w² + σ_max²), whatever the number of steps: sharper than the data by design."""
    delta = torch.linspace(-0.3, 0.3, 6, dtype=torch.float64).reshape(1, 2, 3)
    noise = Prior(torch.zeros(1, 2, 3, dtype=torch.float64), CENTRE + delta, torch.zeros(1, 6, dtype=torch.float64))
    end = solve(model, Known(model, line=True), noise, steps=steps, sampler="ode", coordinate_power=2.0)
    exact = CENTRE + delta * WIDTH**2 / (WIDTH**2 + 0.25)
    torch.testing.assert_close(end.fractional, exact, rtol=0, atol=1e-12)


def test_ode_divides_the_prior_of_two_elements_at_the_quantile_of_their_shares(model):
    """Of two elements with shares p and 1 − p, along (e_1 − e_2)/√2, the first takes u > Φ⁻¹(1 − p): at second order in 1/n."""
    share, n, errors = 0.3, 4001, []
    exact = torch.special.ndtri(torch.tensor(1 - share, dtype=torch.float64))
    u = exact + torch.linspace(-0.05, 0.05, n, dtype=torch.float64)
    types = torch.stack([u / math.sqrt(2), -u / math.sqrt(2), torch.zeros_like(u)], -1)[None]
    noise = Prior(types, torch.zeros(1, n, 3, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64))
    for steps in (20, 40, 80):
        known = Known(model, torus=SYMMETRIC, shares=(share, 1 - share, 1e-300))
        end = solve(model, known, noise, steps=steps, sampler="ode").types
        first = end.argmax(-1)[0] == 0
        assert (first.int().diff() >= 0).all() and first.any() and not first.all()  # one boundary
        errors.append((u[first].min() - exact).abs().item())
    assert all(r > 2.6 for r in ratios(errors)), errors  # 2 at first order
    assert errors[-1] < 0.001


# --- the stochastic sampler: exact moments for Gaussian data ------------------------------------------------------------------


def moments_of_gaussian_data(model, steps, corrector_steps):
    """Mean and variance of a lattice component with data N(0.7, 0.4²), and of a coordinate with data N(CENTRE, WIDTH²)."""
    noise = Impulses(steps + corrector_steps * (steps - 1))
    known = Known(model, LineMixture((0.7,), (0.4,), (1.0,)), line=True)
    end = solve(model, known, noise, steps=steps, sampler="ancestral", corrector_steps=corrector_steps)
    assert noise.drawn == noise.size - 1  # all noise was asked for
    return noise.moments(end.lattice[:, 0]), noise.moments(end.fractional[:, 0, 0])


def test_ancestral_variance_of_a_gaussian_lattice_converges_at_first_order(model):
    """Mean and variance of N(μ, s²) are reached, the variance from below as 1/n: each step leaves out Var[x_0|x_t]."""
    errors = []
    for steps in (80, 160, 320):
        (mean, variance, _), _ = moments_of_gaussian_data(model, steps, 0)
        assert mean == pytest.approx(0.7, abs=1e-9)
        errors.append(1 - variance / 0.4**2)
    assert ratios(errors) == pytest.approx([2, 2], rel=0.1), errors
    assert 0 < errors[-1] < 0.04


@pytest.mark.parametrize("corrector_steps", [0, 1, 2])
def test_ancestral_variance_of_gaussian_coordinates_has_the_error_of_first_order(model, corrector_steps):
    """The relative error of the variance is −ln(σ_max/σ_min)/n, and +ln(σ_max/σ_min)/2cn with c Langevin steps of rate r.

    Compared with what n steps can reach at most: with V = w² + σ² at σ(1/n), the last step takes V to (w²/V)²·V, and the
    stationary variance of the Langevin steps is V/(1 − rσ²/2V).
    """
    errors, rate = {}, 0.2 if corrector_steps else 0.0
    for steps in (320, 640):
        _, (mean, variance, response) = moments_of_gaussian_data(model, steps, corrector_steps)
        assert mean == pytest.approx(CENTRE, abs=1e-12)
        square = torus_width(1 / steps) ** 2
        total = WIDTH**2 + square
        reachable = WIDTH**4 / total / (1 - rate * square / (2 * total))
        errors[steps] = steps * (variance / reachable - 1)
        assert (response[-1] == 0) and (response[-steps // 2 : -1].abs() > 0).all()  # all noise counts but the last
    expected = math.log(100) * (1 / (2 * corrector_steps) if corrector_steps else -1)
    assert errors[640] == pytest.approx(expected, rel=0.3 if corrector_steps else 0.02)
    assert abs(errors[640] - expected) < 0.8 * abs(errors[320] - expected)


def test_corrector_moves_at_the_time_that_the_predictor_reached(model):
    """Two steps: noise at t = ½, σ = 0.05, enters with √(2·0.2)·σ, then shrinks by w²/(w² + σ²) to the posterior mean."""
    _, (_, _, response) = moments_of_gaussian_data(model, 2, 1)
    assert response[2].item() == pytest.approx(math.sqrt(0.4) * 0.05 * WIDTH**2 / (WIDTH**2 + 0.05**2), rel=1e-9)


@pytest.mark.parametrize(("sampler", "corrector_steps"), [("ode", 1), ("ancestral", 0), ("ancestral", 2)])
def test_evaluations_are_at_equal_steps_of_time(model, sampler, corrector_steps):
    """Predictions are asked at 1, 1 − 1/n, …, 1/n; correctors ask again at the time that the predictor has reached."""
    known = Known(model)
    solve(model, known, random_noise(model, 2, 2), steps=5, sampler=sampler, corrector_steps=corrector_steps)
    repeats = 1 + (corrector_steps if sampler == "ancestral" else 0)
    expected = [1.0] + [t for t in (0.8, 0.6, 0.4, 0.2) for _ in range(repeats)]
    assert known.times == pytest.approx(expected)


# --- both samplers on mixtures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corrector_steps", [0, 1])
def test_ancestral_sampling_of_mixtures_converges(model, corrector_steps):
    """Distances of lattice components (line) and coordinates (torus) from the data fall with the steps to sampling noise."""
    lattice, torus = [], []
    for steps in (5, 20, 100):
        noise = random_noise(model, 600, 3)
        end = solve(model, Known(model), noise, steps=steps, sampler="ancestral", corrector_steps=corrector_steps)
        lattice.append(LATTICE.distance(end.lattice))
        torus.append(TORUS.distance(end.fractional))
    assert lattice[0] > 1.5 * lattice[1] > 2 * lattice[2], lattice
    assert torus[0] > 1.5 * torus[1], torus
    assert lattice[2] < 0.035 and torus[2] < 0.005, (lattice, torus)


@pytest.mark.parametrize("sampler", ["ode", "ancestral"])
def test_elements_come_in_their_shares(model, sampler):
    """Independent atoms with shares p_k: each frequency is within four standard errors √(p(1 − p)/n) of it."""
    n_crystals, n_atoms = 200, 20
    known = Known(model)
    end = solve(model, known, random_noise(model, n_crystals, n_atoms), steps=60, sampler=sampler, corrector_steps=0)
    torch.testing.assert_close(end.types.amax(-1), torch.full((n_crystals, n_atoms), LENGTH).double(), rtol=0, atol=1e-2)
    frequencies = end.types.argmax(-1).flatten().bincount(minlength=3) / (n_crystals * n_atoms)
    for frequency, share in zip(frequencies.tolist(), SHARES, strict=True):
        assert abs(frequency - share) < 4 * math.sqrt(share * (1 - share) / (n_crystals * n_atoms))
