"""Forward processes with closed-form marginals, and the steps back.

Time t runs from 0 (data) to 1 (prior).

- types and lattice: variance preserving, x_t = a·x_0 + σ·ε with a = cos(πt/2), σ = sin(πt/2): the cosine schedule of
  arXiv:2102.09672 without its offset, so that the prior is reached exactly at t = 1;
- coordinates: variance exploding on the torus, x_t = x_0 + σ·ε mod 1 with σ geometric (arXiv:2309.04475).

Both have the same two ways back: a deterministic step of the probability-flow ODE in the data-prediction form of
DPM-Solver++(2M) (arXiv:2211.01095; without a history it is DDIM, arXiv:2010.02502), and an ancestral step that samples from
the Gaussian posterior q(x_s | x_t, x_0) (arXiv:2006.11239).
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

__all__ = ["VariancePreserving", "WrappedNormal", "stratified_times"]

EARLIEST = 1e-3
"""Smallest time that is trained on; the marginal at t = 0 is the data itself and has no score."""


def stratified_times(n: int, generator: torch.Generator | None = None, earliest: float = EARLIEST) -> Tensor:
    """Draw n times in (earliest, 1), one in each of n equal intervals, in random order, shape (n,), float64."""
    strata = torch.randperm(n, generator=generator).to(torch.float64)
    u = (strata + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    return earliest + (1 - earliest) * u


def like(values: Tensor, x: Tensor) -> Tensor:
    """Give one value for each crystal (B,), or a scalar, the shape that multiplies x (B, …)."""
    values = values.to(x.dtype).to(x.device)
    return values.reshape(-1, *[1] * (x.ndim - 1)) if values.ndim else values


def extrapolate(now: Tensor, before: Tensor | None, step: float, step_before: float) -> Tensor:
    """Estimate the data prediction half a step ahead from this one and the one before, D + (h/2h')·(D − D')."""
    if before is None or not math.isfinite(step_before) or not math.isfinite(step):
        return now
    return now + 0.5 * step / step_before * (now - before)


class VariancePreserving:
    """x_t = cos(πt/2)·x_0 + sin(πt/2)·ε, ε ~ N(0, 1).

    All of x, x_0, ε, v, scores and data predictions have one shape (B, …) and no unit: they are scaled one-hot types (B, N, E),
    and standardised lattices (B, 6). Tensors t have shape (B,), or () for one time of all crystals.
    """

    @staticmethod
    def coefficients(t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, σ) at times t, each of the shape of t."""
        return torch.cos(t * (math.pi / 2)), torch.sin(t * (math.pi / 2))

    @staticmethod
    def scales(t: float) -> tuple[float, float]:
        """Return (a, σ) at a time t, exactly 0 and 1 at the ends."""
        return (0.0 if t == 1 else math.cos(math.pi * t / 2)), math.sin(math.pi * t / 2)

    def marginal(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t for noise ε, shape (B, …)."""
        a, sigma = self.coefficients(t)
        return like(a, x0) * x0 + like(sigma, x0) * noise

    def velocity(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return v = a·ε − σ·x_0 (arXiv:2202.00512), a target of order one at all times, shape (B, …)."""
        a, sigma = self.coefficients(t)
        return like(a, x0) * noise - like(sigma, x0) * x0

    def data_from_velocity(self, x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
        """Return x̂_0 = a·x_t − σ·v, shape (B, …)."""
        a, sigma = self.coefficients(t)
        return like(a, x) * x - like(sigma, x) * velocity

    def score(self, x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        """Return ∇ log p_t(x_t) = (a·x̂_0 − x_t)/σ² for the data prediction x̂_0, shape (B, …); t > 0."""
        a, sigma = self.coefficients(t)
        return (like(a, x) * data - x) / like(sigma, x).square()

    def _log_snr(self, t: float) -> float:
        a, sigma = self.scales(t)
        if a <= 0:
            return -math.inf
        return math.log(a / sigma) if sigma > 0 else math.inf

    def ode_step(self, x: Tensor, data: Tensor, t: float, s: float, before: tuple[float, Tensor] | None = None) -> Tensor:
        """Go from t to s < t along the probability-flow ODE; all crystals have the same times.

        :param x: x_t, shape (B, …).
        :param data: x̂_0 predicted at (x, t), shape (B, …).
        :param before: the time and the data prediction of the step before, for second order; None is DDIM.
        :return: x_s, shape (B, …).
        """
        (a_t, sigma_t), (a_s, sigma_s) = self.scales(t), self.scales(s)
        if before is not None:
            step, step_before = self._log_snr(s) - self._log_snr(t), self._log_snr(t) - self._log_snr(before[0])
            data = extrapolate(data, before[1], step, step_before)
        return (sigma_s / sigma_t) * x + (a_s - a_t * sigma_s / sigma_t) * data

    def ancestral_step(self, x: Tensor, data: Tensor, t: float, s: float, noise: Tensor) -> Tensor:
        """Sample x_s from q(x_s | x_t, x̂_0), s < t; x, ``data`` = x̂_0, standard normal ``noise`` and the result are (B, …)."""
        (a_t, sigma_t), (a_s, sigma_s) = self.scales(t), self.scales(s)
        ratio = a_t / a_s
        between = sigma_t**2 - (ratio * sigma_s) ** 2
        mean = (ratio * sigma_s**2 / sigma_t**2) * x + (a_s * between / sigma_t**2) * data
        return mean + math.sqrt(max(between, 0.0)) * sigma_s / sigma_t * noise


def _images(images: int) -> Tensor:
    """Return the shifts of the images, −images … images, shape (2·images + 1,)."""
    return torch.arange(-images, images + 1, dtype=torch.float64)


def _score(delta: Tensor, sigma: Tensor, shifts: Tensor) -> Tensor:
    """See :meth:`WrappedNormal.score`; a function, so that the table can be kept for all networks of a process."""
    shifted = (delta - torch.round(delta))[..., None] + shifts.to(delta.dtype)
    weights = torch.softmax(-0.5 * (shifted / sigma[..., None]).square(), -1)
    return -(weights * shifted).sum(-1) / sigma.square()


@cache
def _log_rms(sigma_min: float, sigma_max: float, images: int, points: int = 257) -> Tensor:
    """Return ln of the root-mean-square score on a grid of t in [0, 1], shape (points,).

    The trapezoidal rule is exact here (smooth, periodic).
    """
    shifts = _images(images)
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    delta = torch.linspace(-0.5, 0.5, 1025, dtype=torch.float64)[:-1]
    rms = []
    for width in sigma_min * (sigma_max / sigma_min) ** t:
        z = -0.5 * ((delta[:, None] + shifts) / width).square()
        density = torch.exp(z).sum(-1) / (width * math.sqrt(2 * math.pi))
        rms.append(torch.sqrt((density * _score(delta, width, shifts).square()).mean()))
    return torch.log(torch.stack(rms))


class WrappedNormal(nn.Module):
    """x_t = x_0 + σ(t)·ε mod 1, σ(t) = σ_min·(σ_max/σ_min)^t: the wrapped normal distribution around x_0.

    Its log density has the score ∇ log Σ_n exp(−(δ+n)²/2σ²). Networks predict the score over its root mean square at that
    σ (the weight λ_t of DiffCSP, eq. 7, arXiv:2309.04475), which is of order one from 1/σ for narrow to almost nothing for
    nearly uniform distributions.

    Coordinates x have shape (B, N, 3) and, like displacements δ and widths σ, are fractional, in units of the lattice vectors;
    scores are per such a unit, their shape that of x. Tensors t have shape (B,), or () for one time of all crystals.

    :param sigma_min: width at t = 0, in units of the lattice vectors.
    :param sigma_max: width at t = 1, where the prior is uniform to about one per cent.
    :param images: terms of the truncated image sum, −images … images.
    """

    def __init__(self, sigma_min: float = 0.005, sigma_max: float = 0.5, images: int = 5) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"sigma_min {sigma_min} must be positive and below sigma_max {sigma_max}")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.shifts: Tensor
        self.log_rms: Tensor
        self.register_buffer("shifts", _images(images), persistent=False)
        self.register_buffer("log_rms", _log_rms(sigma_min, sigma_max, images).clone(), persistent=False)

    def sigma(self, t: Tensor) -> Tensor:
        """Return σ(t), of the shape of t."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def width(self, t: float) -> float:
        """Return σ(t), and 0 at t = 0: the last step back goes all the way to the data."""
        return 0.0 if t == 0 else self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def score_scale(self, t: Tensor) -> Tensor:
        """Return the root mean square of the score at times t, of the shape of t."""
        position = t.to(torch.float64).to(self.log_rms.device) * (len(self.log_rms) - 1)
        low = position.floor().clamp(0, len(self.log_rms) - 2).long()
        table = self.log_rms.to(torch.float64)
        return torch.exp(torch.lerp(table[low], table[low + 1], position - low)).to(t.dtype)

    def marginal(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t in [0, 1) for standard normal noise, shape (B, N, 3)."""
        return (x0 + like(self.sigma(t), x0) * noise) % 1.0

    def score(self, delta: Tensor, sigma: Tensor) -> Tensor:
        """Return ∇ log p at a displacement δ from the centre, by the image sum; any shapes that broadcast."""
        return _score(delta, sigma, self.shifts)

    def target(self, t: Tensor, noise: Tensor) -> Tensor:
        """Return the scaled score at x_t = x_0 + σ·noise, what a network should predict, shape of ``noise``."""
        sigma = like(self.sigma(t), noise).expand(noise.shape)
        return self.score(sigma * noise, sigma) / like(self.score_scale(t), noise)

    def ode_step(
        self,
        x: Tensor,
        score: Tensor,
        t: float,
        s: float,
        before: tuple[float, Tensor] | None = None,
        power: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Go from t to s < t along dx/dσ = −power·σ·∇ log p; at s = 0 to σ = 0. All crystals have the same times.

        ``power`` 1 is the probability-flow ODE. 2 is the drift of the reverse-time stochastic equation without its noise:
        errors of earlier steps decay instead of being carried along, at the price of samples nearer to the modes.

        :param x: x_t, shape (B, N, 3). It must not be wrapped between steps, or the history means nothing.
        :param score: ∇ log p at (x, t), not scaled, shape (B, N, 3).
        :param before: the time and the data prediction of the step before; None is first order (Euler in ln σ).
        :return: x_s and the data prediction x + σ²·score of this step, shape (B, N, 3) each.
        """
        sigma_t, sigma_s = self.width(t), self.width(s)
        data = x + sigma_t**2 * score
        ahead = data
        if before is not None and sigma_s > 0:
            step, step_before = math.log(sigma_t / sigma_s), math.log(self.width(before[0]) / sigma_t)
            ahead = extrapolate(data, before[1], step, step_before)
        return x + (1 - (sigma_s / sigma_t) ** power) * (ahead - x), data

    def ancestral_step(self, x: Tensor, score: Tensor, t: float, s: float, noise: Tensor) -> Tensor:
        """Sample x_s given x_t: reverse diffusion with the posterior's variance (arXiv:2011.13456, appendix F).

        :param score: ∇ log p at (x, t), not scaled; of the shape of x and of the standard normal noise, (B, N, 3).
        :return: x_s in [0, 1), shape (B, N, 3).
        """
        sigma_t, sigma_s = self.width(t), self.width(s)
        between = sigma_t**2 - sigma_s**2
        return (x + between * score + sigma_s / sigma_t * math.sqrt(between) * noise) % 1.0

    def langevin_step(self, x: Tensor, score: Tensor, t: float, noise: Tensor, rate: float = 0.2) -> Tensor:
        """Take one corrector step at fixed t: x + δ·score + √(2δ)·noise with δ = rate·σ² (arXiv:2011.13456, algorithm 5).

        :param score: ∇ log p at (x, t), not scaled; of the shape of x and of the standard normal noise, (B, N, 3).
        :return: in [0, 1), shape (B, N, 3).
        """
        delta = rate * self.width(t) ** 2
        return (x + delta * score + math.sqrt(2 * delta) * noise) % 1.0
