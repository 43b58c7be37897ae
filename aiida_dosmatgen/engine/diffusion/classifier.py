"""The classifier: densities of states of noised crystals, to guide a sampler with (arXiv:2504.06249).

At time t a crystal is known only as far as its noise allows, so the best answer in mean absolute error is the median of the
curves that its possible origins have. At t = 0 this is a predictor of crystals as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ...core.dos import DEFAULT_GRID, EnergyGrid
from ...core.target.wishes import Bounds
from ..batch import DenseBatch
from .condition import Condition, curve_statistics, known, total_curve
from .noise import EARLIEST, like, stratified_times
from .noised import TYPE_SCALE, NoisedCrystalModel, State, embed_time

__all__ = ["Classifier"]

_DROPOUT = 0.1  # of the features that the curves are made from; noise on the crystals already keeps it from learning by heart
_CLEAN_SHARE = 0.2  # of the training crystals: the end of the way back is where it has to be exact
_ROUNDING = 1e-12  # under the square root of a distance, which has no gradient at zero


class Classifier(NoisedCrystalModel):
    """Predicts the curve of each atom of crystals noised by the forward processes of :class:`.denoiser.Denoiser`.

    A curve is the mean curve of the elements that the atom may be, given its noised type vector alone, plus what the network
    says in units of each bin's standard deviation. Invariant to rotations, translations and the choice of images, equivariant
    to permutations, and differentiable with respect to the whole state.

    :param elements: chemical symbols in the order of the type vectors.
    :param grid: energies of the curves.
    :param width: size of the hidden features.
    :param layers: rounds of messages.
    :param frequencies: harmonics of the fractional differences.
    """

    ARCHITECTURE = ("width", "layers", "frequencies")

    def __init__(
        self,
        elements: Sequence[str],
        grid: EnergyGrid = DEFAULT_GRID,
        *,
        width: int = 128,
        layers: int = 3,
        frequencies: int = 8,
    ) -> None:
        super().__init__(elements, grid)
        self.add_trunk(width, layers, frequencies)
        last = nn.Linear(2 * width, grid.n)
        self.head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Dropout(_DROPOUT), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.points: Tensor
        self.mean_curves: Tensor
        self.site_std: Tensor
        self.total_std: Tensor
        self.register_buffer("points", torch.tensor(grid.points), persistent=False)
        self.register_buffer("mean_curves", torch.zeros(len(self.elements), grid.n))
        self.register_buffer("site_std", torch.ones(grid.n))
        self.register_buffer("total_std", torch.ones(grid.n))

    def fit_statistics(self, batches: Iterable[DenseBatch]) -> None:
        """Set the statistics of lattices and curves from training crystals; curves count as far as they are complete."""
        many = list(batches)
        self.fit_lattices(many)
        sites = [(b.types[b.mask], b.dos[b.mask], *b.ends_of_atoms()) for b in many]
        for k in range(len(self.elements)):
            of_element = ((dos[types == k], low[types == k], high[types == k]) for types, dos, low, high in sites)
            self.mean_curves[k] = curve_statistics(self.points, of_element)[0]
        totals = ((total_curve(b.dos, b.mask), b.low, b.complete_below) for b in many)
        self.site_std.copy_(curve_statistics(self.points, (site[1:] for site in sites))[1])
        self.total_std.copy_(curve_statistics(self.points, totals)[1])

    # --- prediction -------------------------------------------------------------------------------------------------

    def forward(self, state: State, t: Tensor, mask: Tensor) -> Tensor:
        """Predict the DOS of each atom.

        :param state: B crystals, noised to t; lattices in the units of this model's own
            :class:`.lattice.LatticeScaler`.
        :param t: diffusion times; 0 is a crystal without noise, shape (B,).
        :param mask: True for atoms, shape (B, N).
        :return: states/eV, shape (B, N, n); may dip below zero.
        """
        return self.curves(self.probabilities(state.types, t), state.fractional, state.lattice, t, mask)

    def probabilities(self, types: Tensor, t: Tensor) -> Tensor:
        """Return P(element | noised type vector) of each atom by itself, all elements being as likely, shape (B, N, K)."""
        a, sigma = self.types.coefficients(t.clamp_min(EARLIEST))
        return torch.softmax(types * like(TYPE_SCALE * a / sigma.square(), types), -1)

    def curves(self, probabilities: Tensor, fractional: Tensor, lattice: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """Predict as :meth:`forward`, from the probabilities of the elements: all that the network reads of the types."""
        lattices = self.lattices.lattices(lattice, mask.sum(-1))
        context = nn.functional.silu(self.embed_crystal(torch.cat([embed_time(t), lattice], -1)))
        hidden = self.network(self.embed_types(probabilities), fractional, lattices, mask, context)
        count = mask.sum(-1).clamp_min(1).to(hidden.dtype)[:, None, None]
        mean = hidden.sum(1, keepdim=True) / count  # the zero of energy belongs to the whole crystal
        deviation = self.head(torch.cat([hidden, mean.expand_as(hidden)], -1))
        return probabilities @ self.mean_curves.to(probabilities) + self.site_std.to(deviation) * deviation

    def distance(self, curves: Tensor, wanted: Condition, mask: Tensor) -> Tensor:
        """Return how far predicted curves are from what is asked for.

        For each given curve ‖f − y‖ = (∫ (f − y)²/s² dE)^½ over the energies where it is complete, with s the standard
        deviation over the training set at each energy. Those of single sites are summed, and so is that of the total curve,
        which is compared with the mean over the atoms. Atoms without a curve do not count.

        :param curves: states/eV, shape (B, N, n).
        :param wanted: targets of the B crystals.
        :param mask: True for atoms, shape (B, N).
        :return: eV^½, shape (B,), at least in single precision.
        """
        curves = curves.to(torch.promote_types(curves.dtype, torch.float32))
        complete = known(self.points.to(curves), wanted.low.to(curves), wanted.complete_below.to(curves)).to(curves.dtype)
        said = complete * wanted.said

        def norms(difference: Tensor, std: Tensor, given: Tensor, counted: Tensor) -> Tensor:
            # what is not given may be anything, even NaN, and must not reach the gradient
            standardised = torch.where(given[..., None], difference, 0.0) / std.to(curves)
            return torch.sqrt((standardised.square() * counted).sum(-1) * self.grid.spacing + _ROUNDING) * given

        sites = norms(curves - wanted.site.to(curves), self.site_std, wanted.site_given & mask, complete[:, None])
        total = norms(total_curve(curves, mask) - wanted.total.to(curves), self.total_std, wanted.total_given, said)
        return sites.sum(-1) + total

    def distance_from_bounds(self, curves: Tensor, bounds: Bounds, mask: Tensor, weights: Tensor) -> Tensor:
        """Return how far predicted totals are from fulfilling inequalities.

        For each a·f ≤ b it is the norm, as of :meth:`distance`, of the smallest change of the curve that fulfils it,
        max(0, a·f − b) / (∫ a² s² dE)^½, with a a density over the energies.

        :param curves: states/eV, shape (B, N, n).
        :param bounds: m inequalities for the states/eV/atom of the crystal.
        :param mask: True for atoms, shape (B, N).
        :param weights: of the inequalities, shape (m,).
        :return: eV^½, the weighted sum, shape (B,), at least in single precision.
        """
        curves = curves.to(torch.promote_types(curves.dtype, torch.float32))
        rows, low, high = (torch.as_tensor(part, dtype=curves.dtype, device=curves.device) for part in vars(bounds).values())
        values = total_curve(curves, mask) @ rows.T
        beyond = torch.relu(low - values) + torch.relu(values - high)
        least = torch.sqrt((rows * self.total_std.to(curves)).square().sum(-1) / self.grid.spacing + _ROUNDING)
        return (beyond / least) @ weights.to(curves)

    # --- training ---------------------------------------------------------------------------------------------------

    def compared(self, batch: DenseBatch) -> Tensor:
        """Select the points that count: of real atoms, and below the end of the complete bands; (B, N, n) of 0 and 1."""
        complete = known(self.points.to(batch.dos), batch.low[:, None], batch.complete_below[:, None])
        return (complete & batch.mask[..., None]).to(batch.dos.dtype)

    def noised(self, batch: DenseBatch, t: Tensor, generator: torch.Generator | None = None) -> State:
        """Draw noised crystals at times t (B,); those at t = 0 have no noise at all."""
        clean = self.clean(batch)
        noised, _ = self.diffused(clean, t, generator)
        exact = t == 0  # the coordinates' narrowest distribution still has a width
        return State(*(torch.where(like(exact, x).bool(), x, y) for x, y in zip(clean, noised, strict=True)))

    def loss(self, batch: DenseBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean |Δ DOS| over atoms and complete points, in states/eV.

        :param generator: on the CPU; times and noise come from it. A part of the crystals has no noise.
        """
        t = stratified_times(len(batch), generator)
        clean = torch.rand(len(batch), generator=generator, dtype=torch.float64) < _CLEAN_SHARE
        t = torch.where(clean, 0.0, t).to(self.device, self.dtype)
        weights = self.compared(batch)
        curves = self(self.noised(batch, t, generator), t, batch.mask)
        return ((curves - batch.dos).abs() * weights).sum() / weights.sum().clamp_min(1)
