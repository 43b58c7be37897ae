"""Distributions of data whose noised marginals, scores, posterior means and probability flows are known in closed form.

Nothing here comes from the package: the schedules are written down again, so that a wrong factor there is a difference here.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

IMAGES = torch.arange(-8, 9, dtype=torch.float64)
"""Of the image sums within one cell; at σ = 0.6, the widest here, what is left out is below e⁻⁶⁰."""


def vp_coefficients(t: float) -> tuple[float, float]:
    """Return (a, σ) of types and lattice: cos and sin of a quarter turn."""
    return math.cos(math.pi * t / 2), math.sin(math.pi * t / 2)


def torus_width(t: float, sigma_min: float = 0.005, sigma_max: float = 0.5) -> float:
    """Return σ of coordinates: geometric."""
    return sigma_min ** (1 - t) * sigma_max**t


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw standard normal numbers in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def midpoints(n: int) -> Tensor:
    """Return the n probabilities (i + ½)/n: a uniform distribution without sampling noise."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def solution(increasing: Callable[[Tensor], Tensor], value: Tensor, low: float, high: float) -> Tensor:
    """Solve increasing(x) = value between low and high, by bisection to the last digits."""
    lower, upper = torch.full_like(value, low), torch.full_like(value, high)
    for _ in range(60):
        middle = (lower + upper) / 2
        below = increasing(middle) < value
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
    return (lower + upper) / 2


@dataclasses.dataclass(frozen=True)
class _Mixture:
    means: tuple[float, ...]
    stds: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def _parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        means, stds, weights = (torch.tensor(v, dtype=torch.float64) for v in (self.means, self.stds, self.weights))
        return means, stds, weights

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draw n numbers, the components in their exact proportions."""
        generator = torch.Generator().manual_seed(seed)
        means, stds, weights = self._parameters
        which = torch.searchsorted(weights.cumsum(0)[:-1].contiguous(), midpoints(n))
        x = means[which] + stds[which] * torch.randn(n, generator=generator, dtype=torch.float64)
        return x[torch.randperm(n, generator=generator)]


class LineMixture(_Mixture):
    """Σ w_m N(μ_m, s_m²) on the line, for x_t = a·x_0 + σ·ε."""

    def noised(self, t: float) -> "LineMixture":
        """Return the marginal at t: Σ w_m N(a·μ_m, a²s_m² + σ²)."""
        a, sigma = vp_coefficients(t)
        stds = tuple(math.hypot(a * s, sigma) for s in self.stds)
        return LineMixture(tuple(a * m for m in self.means), stds, self.weights)

    def mean(self) -> float:
        """Return Σ w_m μ_m."""
        return sum(w * m for w, m in zip(self.weights, self.means, strict=True))

    def variance(self) -> float:
        """Return Σ w_m (s_m² + μ_m²) − mean²."""
        second = sum(w * (s * s + m * m) for w, m, s in zip(self.weights, self.means, self.stds, strict=True))
        return second - self.mean() ** 2

    def cdf(self, x: Tensor) -> Tensor:
        """Return Σ w_m Φ((x − μ_m)/s_m)."""
        means, stds, weights = self._parameters
        return (torch.special.ndtr((x[..., None] - means) / stds) * weights).sum(-1)

    def quantile(self, p: Tensor) -> Tensor:
        """Return x with cdf(x) = p."""
        return solution(self.cdf, p, -20.0, 20.0)

    def log_density(self, x: Tensor) -> Tensor:
        """Return ln p(x)."""
        means, stds, weights = self._parameters
        z = -0.5 * ((x[..., None] - means) / stds).square() - torch.log(stds * math.sqrt(2 * math.pi))
        return torch.logsumexp(z + torch.log(weights), -1)

    def posterior_mean(self, x: Tensor, t: float) -> Tensor:
        """Return E[x_0 | x_t] = Σ r_m(x)·(μ_m + a·s_m²/(a²s_m² + σ²)·(x − a·μ_m))."""
        a, sigma = vp_coefficients(t)
        means, stds, weights = self._parameters
        variance = (a * stds).square() + sigma**2
        z = -0.5 * (x[..., None] - a * means).square() / variance - 0.5 * torch.log(variance)
        share = torch.softmax(z + torch.log(weights), -1)
        return (share * (means + a * stds.square() / variance * (x[..., None] - a * means))).sum(-1)

    def distance(self, x: Tensor) -> float:
        """Return the Wasserstein distance of a sample: the mean distance of its quantiles from the exact ones."""
        return (x.flatten().sort().values - self.quantile(midpoints(x.numel()))).abs().mean().item()


class TorusMixture(_Mixture):
    """Σ w_m of wrapped normal distributions on the circle [0, 1), for x_t = x_0 + σ·ε mod 1."""

    def widened(self, sigma: float) -> "TorusMixture":
        """Return the marginal at σ: variances add."""
        return TorusMixture(self.means, tuple(math.hypot(s, sigma) for s in self.stds), self.weights)

    def characteristic(self, k: int) -> complex:
        """Return E[exp(2πikx)] = Σ w_m exp(2πikμ_m − 2π²k²s_m²)."""
        terms = zip(self.weights, self.means, self.stds, strict=True)
        return sum(w * complex(torch.exp(torch.tensor(2j * math.pi * k * m - 2 * (math.pi * k * s) ** 2))) for w, m, s in terms)

    def _images(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x mod 1 less every image of every centre, and the stds and log weights of those, last axis."""
        means, stds, weights = self._parameters
        shifted = ((x % 1)[..., None, None] - means + IMAGES[:, None]).flatten(-2)
        logarithm = torch.log(weights / (stds * math.sqrt(2 * math.pi)))
        return shifted, stds.repeat(len(IMAGES)), logarithm.repeat(len(IMAGES))

    def density(self, x: Tensor) -> Tensor:
        """Return p(x)."""
        shifted, stds, logarithm = self._images(x)
        return torch.exp(logarithm - 0.5 * (shifted / stds).square()).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        """Return d ln p(x)/dx."""
        shifted, stds, logarithm = self._images(x)
        share = torch.softmax(logarithm - 0.5 * (shifted / stds).square(), -1)
        return -(share * shifted / stds.square()).sum(-1)

    def probability(self, start: float, x: Tensor) -> Tensor:
        """Return ∫ p from start to x, anywhere on the line: one more for each turn."""
        means, stds, weights = self._parameters

        def up_to(y: Tensor) -> Tensor:
            shifted = y[..., None, None] - means + IMAGES[:, None]
            return (torch.special.ndtr(shifted / stds) * weights).sum((-1, -2))

        return up_to(x) - up_to(torch.tensor(start, dtype=x.dtype))

    def flow(self, x: Tensor, sigma: float, to: float, axis: float) -> Tensor:
        """Return where the probability flow takes x, from width σ to another.

        It keeps the probability between any two trajectories. A density symmetric about ``axis`` has no flow there, so this
        is a map of quantiles counted from the axis.
        """
        enclosed = self.widened(sigma).probability(axis, x)
        narrow = self.widened(to)
        return solution(lambda y: narrow.probability(axis, y), enclosed, axis - 3, axis + 3)

    def distance(self, x: Tensor) -> float:
        """Return the Wasserstein distance of a sample on the circle, ∫ |F − G − median(F − G)|."""
        points = midpoints(2000)
        sample = torch.searchsorted((x.flatten() % 1).sort().values, points).to(torch.float64) / x.numel()
        difference = sample - self.probability(0.0, points)
        return (difference - difference.median()).abs().mean().item()
