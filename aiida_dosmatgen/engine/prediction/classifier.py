"""The classifier: densities of states of noised crystals, to guide a sampler with (arXiv:2504.06249).

At time t a crystal is known only as far as its noise allows, so the best answer in mean absolute error is the median of the
curves that its possible origins have. At t = 0 this is a predictor of crystals as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...core.dos import DEFAULT_GRID, EnergyGrid
from ..batch import DenseBatch
from ..diffusion.conditioning import Condition, curve_statistics, total_curve
from ..diffusion.denoiser import TIME_FEATURES, TYPE_SCALE, State, clean_state, diffuse, embed_time
from ..diffusion.lattice import LatticeScaler
from ..diffusion.network import CrystalNetwork
from ..diffusion.noise import EARLIEST, VariancePreserving, WrappedNormal, like, stratified_times
from ..training.dataset import to_dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.checkpoint_header import CheckpointHeader

__all__ = ["Classifier", "ClassifierObjective"]

_DROPOUT = 0.1  # of the features that the curves are made from; noise on the crystals already keeps it from learning by heart
_CLEAN_SHARE = 0.2  # of the training crystals: the end of the way back is where it has to be exact
_ROUNDING = 1e-12  # under the square root of a distance, which has no gradient at zero


class Classifier(nn.Module):
    """Predicts the curve of each atom of crystals noised by the forward processes of :class:`..diffusion.denoiser.Denoiser`.

    A curve is the mean curve of the elements that the atom may be, given its noised type vector alone, plus what the network
    says in units of each bin's standard deviation. Invariant to rotations, translations and the choice of images, equivariant
    to permutations, and differentiable with respect to the whole state.

    :param elements: chemical symbols in the order of the type vectors.
    :param grid: energies of the curves.
    :param width: size of the hidden features.
    :param layers: rounds of messages.
    :param frequencies: harmonics of the fractional differences.
    """

    def __init__(
        self,
        elements: Sequence[str],
        grid: EnergyGrid = DEFAULT_GRID,
        *,
        width: int = 128,
        layers: int = 3,
        frequencies: int = 8,
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.grid = grid
        self.types = VariancePreserving()
        self.coordinates = WrappedNormal()
        self.lattices = LatticeScaler()
        self.embed_types = nn.Linear(len(self.elements), width)
        self.embed_crystal = nn.Sequential(nn.Linear(TIME_FEATURES + 6, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.network = CrystalNetwork(width, width=width, layers=layers, frequencies=frequencies)
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

    @classmethod
    def from_header(cls, header: CheckpointHeader) -> Classifier:
        """Make the untrained model that a checkpoint's header describes."""
        sizes = {k: v for k, v in header.architecture.items() if k in ("width", "layers", "frequencies")}
        return cls(header.elements, header.grid, **sizes)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.embed_types.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Its arithmetic."""
        return self.embed_types.weight.dtype

    def fit_statistics(self, batches: Iterable[DenseBatch]) -> None:
        """Set the statistics of lattices and curves from training crystals; curves count as far as they are complete."""
        many = list(batches)
        self.lattices.fit(torch.cat([b.lattices for b in many]), torch.cat([b.n_atoms for b in many]))
        sites = [(b.types[b.mask], b.dos[b.mask], b.complete_below[:, None].expand(b.mask.shape)[b.mask]) for b in many]
        for k in range(len(self.elements)):
            mean, _ = curve_statistics(self.points, ((dos[types == k], edge[types == k]) for types, dos, edge in sites))
            self.mean_curves[k] = mean
        self.site_std.copy_(curve_statistics(self.points, ((dos, edge) for _, dos, edge in sites))[1])
        self.total_std.copy_(curve_statistics(self.points, ((total_curve(b.dos, b.mask), b.complete_below) for b in many))[1])

    # --- prediction -------------------------------------------------------------------------------------------------

    def forward(self, state: State, t: Tensor, mask: Tensor) -> Tensor:
        """Predict the DOS of each atom.

        :param state: B crystals, noised to t; lattices in the units of this model's own
            :class:`..diffusion.lattice.LatticeScaler`.
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
        context = self.embed_crystal(torch.cat([embed_time(t), lattice], -1))
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
        complete = (self.points.to(curves) <= wanted.complete_below.to(curves)[:, None]).to(curves.dtype)

        def norms(difference: Tensor, std: Tensor, given: Tensor, counted: Tensor) -> Tensor:
            # what is not given may be anything, even NaN, and must not reach the gradient
            standardised = torch.where(given[..., None], difference, 0.0) / std.to(curves)
            return torch.sqrt((standardised.square() * counted).sum(-1) * self.grid.spacing + _ROUNDING) * given

        sites = norms(curves - wanted.site.to(curves), self.site_std, wanted.site_given & mask, complete[:, None])
        total = norms(total_curve(curves, mask) - wanted.total.to(curves), self.total_std, wanted.total_given, complete)
        return sites.sum(-1) + total

    # --- training ---------------------------------------------------------------------------------------------------

    def compared(self, batch: DenseBatch) -> Tensor:
        """Select the points that count: of real atoms, and below the end of the complete bands; (B, N, n) of 0 and 1."""
        complete = self.points.to(batch.dos) <= batch.complete_below[:, None, None]
        return (complete & batch.mask[..., None]).to(batch.dos.dtype)

    def noised(self, batch: DenseBatch, t: Tensor, generator: torch.Generator | None = None) -> State:
        """Draw noised crystals at times t (B,); those at t = 0 have no noise at all."""
        clean = clean_state(batch, len(self.elements), self.lattices, self.dtype)
        noised, _ = diffuse(clean, t, self.types, self.coordinates, generator)
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


class ClassifierObjective:
    """What a classifier is trained and judged by; held-out crystals see the same noise at each evaluation."""

    LEVELS = (0.0, 0.3, 0.6)
    """Times at which it is judged. From 0.9 on there is nothing left to see."""

    _REPEATS = 2
    _SEED = 20_250_409

    def loss(self, model: Classifier, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``."""
        return {"loss": model.loss(to_dense(batch), generator)}

    @torch.no_grad()
    def evaluate(self, model: Classifier, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the errors on crystals, in states/eV per atom.

        ``dos_mae`` of crystals without noise, ``dos_mae_baseline`` of the true elements' mean curves, ``dos_mae_ratio`` of the
        two; ``dos_mae_ratio_t0.3`` … at other times; and the ``loss`` to choose the best epoch by, the mean over all times.
        """
        generator = torch.Generator().manual_seed(self._SEED)
        errors = dict.fromkeys(self.LEVELS, 0.0)
        baseline = points = 0.0
        for batch in batches:
            dense = to_dense(batch)
            weights = model.compared(dense)
            baseline += float(((model.mean_curves[dense.types] - dense.dos).abs() * weights).sum())
            points += float(weights.sum())
            for level in self.LEVELS:
                t = torch.full((len(dense),), level, dtype=model.dtype, device=model.device)
                repeats = self._REPEATS if level else 1
                for _ in range(repeats):
                    curves = model(model.noised(dense, t, generator), t, dense.mask).clamp_min(0)
                    errors[level] += float(((curves - dense.dos).abs() * weights).sum()) / repeats
        ratios = {level: error / max(baseline, 1e-12) for level, error in errors.items()}
        return {
            "loss": sum(errors.values()) / len(errors) / max(points, 1.0),
            "dos_mae": errors[0.0] / max(points, 1.0),
            "dos_mae_baseline": baseline / max(points, 1.0),
            "dos_mae_ratio": ratios[0.0],
            **{f"dos_mae_ratio_t{level:g}": ratio for level, ratio in ratios.items() if level},
        }
