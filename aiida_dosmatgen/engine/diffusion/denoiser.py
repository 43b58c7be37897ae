"""The denoiser: joint diffusion of types, coordinates and lattice on one network, conditioned on densities of states."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...core.dos import DEFAULT_GRID, EnergyGrid
from ..batch import DenseBatch
from .augmentation import Dropout, stretched, varied
from .composition import CompositionNetwork
from .condition import Condition
from .conditioning import Conditioning
from .noise import like, stratified_times
from .noised import TYPE_SCALE, NoisedCrystalModel, State, embed_time
from .sizes import SizeDistribution

__all__ = ["TYPE_SCALE", "Denoiser", "Encoded", "Output", "State"]

_LARGEST_LOGIT = 30.0


class Encoded(NamedTuple):
    """An embedded condition: what is added to nodes (B, N, width) and to the context (B, width)."""

    nodes: Tensor
    context: Tensor


class Output(NamedTuple):
    """What the network says of a :class:`State`.

    :param logits: of the elements, shape (B, N, n_elements).
    :param score: of the coordinates over its root mean square at that time, mean over the atoms removed, shape (B, N, 3).
    :param velocity: of the lattice components, shape (B, 6).
    """

    logits: Tensor
    score: Tensor
    velocity: Tensor


class _PairHead(nn.Module):
    """A vector for each atom from scalars for each pair: Σ_j Σ_r c_r(h_i, h_j, e_ij)·V_ij,r / N, V odd under i ↔ j."""

    def __init__(self, width: int, n_vectors: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(width, width, bias=False)
        self.sender = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(width, width)
        self.coefficients = nn.Linear(width, n_vectors)

    def forward(self, hidden: Tensor, embedded: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
        x = self.pair(embedded) + self.receiver(hidden)[:, :, None] + self.sender(hidden)[:, None]
        coefficients = self.coefficients(nn.functional.silu(x)) * weights[:, None, :, None]
        return torch.einsum("bijr,bijrx->bix", coefficients, vectors)


class Denoiser(NoisedCrystalModel):
    """Predicts data from noised crystals, given what is asked of them.

    Types are predicted as logits and trained by cross entropy (arXiv:2211.15089), the lattice as velocity, coordinates as the
    scaled score of the wrapped normal. The distribution of crystals does not change when all coordinates are shifted, so the
    sum of its score over the atoms is zero; prediction and target are both projected on that, which takes the noise out of
    the loss that no network could predict.

    :param elements: chemical symbols that can be generated, in the order of the one-hot vectors.
    :param grid: energies of the curves.
    :param width: size of the hidden features.
    :param layers: rounds of messages.
    :param frequencies: harmonics of the fractional differences.
    :param max_atoms: the largest number of atoms that :attr:`sizes` gives a probability.
    :param n_curves: training crystals, which :attr:`sizes` remembers the curves of.
    :param stride: curves by channel have every so many energies of the grid; 0 takes no channels.
    :param composition: width of the network for p(elements | curves), :attr:`composition`; 0 has none.
    """

    ARCHITECTURE = ("width", "layers", "frequencies", "max_atoms", "n_curves", "stride", "composition")

    def __init__(
        self,
        elements: Sequence[str],
        grid: EnergyGrid = DEFAULT_GRID,
        *,
        width: int = 192,
        layers: int = 5,
        frequencies: int = 8,
        max_atoms: int = 20,
        n_curves: int = 0,
        stride: int = 0,
        composition: int = 0,
    ) -> None:
        super().__init__(elements, grid)
        self.stride = stride
        self.conditioning = Conditioning(grid, width, stride)
        self.sizes = SizeDistribution(grid, max_atoms, n_curves)
        self.add_trunk(width, layers, frequencies)
        self.type_head = nn.Linear(width, len(self.elements))
        self.lattice_head = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 6))
        self.node_head = nn.Linear(width, 3)
        self.pair_head = _PairHead(width, self.network.geometry.n_vectors)
        for head in (self.type_head, self.lattice_head[-1], self.node_head, self.pair_head.coefficients):
            for parameter in head.parameters():
                nn.init.zeros_(parameter)
        self.composition = CompositionNetwork(elements, grid, width=composition, stride=stride) if composition else None

    def fit_statistics(self, batches: Iterable[DenseBatch]) -> None:
        """Set the mean and standard deviation of lattices and curves, and the sizes, from training crystals."""
        many = list(batches)
        self.sizes.fit(many)
        self.fit_lattices(many)
        self.conditioning.fit(many)
        if self.composition is not None:
            self.composition.fit(many)

    # --- prediction -------------------------------------------------------------------------------------------------

    def encode(self, condition: Condition, mask: Tensor) -> Encoded:
        """Embed a condition, once for all steps of a sampling run."""
        return Encoded(*self.conditioning(condition, mask))

    def forward(self, state: State, t: Tensor, encoded: Encoded, mask: Tensor) -> Output:
        """Predict.

        :param state: B crystals.
        :param t: diffusion times, shape (B,).
        :param encoded: embedded conditions of the B crystals, or of several branches of the same B stacked, (k·B, …): the
            geometry is computed once for all of them. The output is stacked alike.
        :param mask: True for atoms, shape (B, N).
        """
        branches = len(encoded.context) // len(t)
        n_atoms = mask.sum(-1)
        lattices = self.lattices.lattices(state.lattice, n_atoms)
        pairs = self.network.geometry(state.fractional, lattices, mask)
        embedded = self.network.embed(pairs)
        crystal = self.embed_crystal(torch.cat([embed_time(t), state.lattice], -1))
        # the posterior over independent atoms; the network has only to add what the other atoms and the condition tell
        a, sigma = self.types.coefficients(t)
        prior = state.types * like(TYPE_SCALE * a / sigma.square(), state.types)
        prior = prior - prior.amax(-1, keepdim=True)
        nodes = self.embed_types(state.types)

        def repeat(x: Tensor) -> Tensor:
            return x.repeat(branches, *[1] * (x.ndim - 1)) if branches > 1 else x

        many, embedded = repeat(mask), repeat(embedded)
        context = nn.functional.silu(repeat(crystal) + encoded.context)
        hidden = self.network.propagate(repeat(nodes) + encoded.nodes, embedded, many, context)

        present = many.to(hidden.dtype)
        share = present / present.sum(-1, keepdim=True).clamp_min(1)
        score = self.node_head(hidden) + self.pair_head(hidden, embedded, repeat(pairs.vectors), share)
        score = score - torch.einsum("bn,bnx->bx", share, score)[:, None]
        pooled = torch.cat([torch.einsum("bn,bnw->bw", share, hidden), context], -1)
        return Output(
            (self.type_head(hidden) + repeat(prior).clamp_min(-_LARGEST_LOGIT)).to(state.types.dtype),
            (score * present[..., None]).to(state.fractional.dtype),
            self.lattice_head(pooled).to(state.lattice.dtype),
        )

    def data_types(self, logits: Tensor) -> Tensor:
        """Return the expected scaled one-hot vectors."""
        return TYPE_SCALE * torch.softmax(logits, -1)

    # --- training ---------------------------------------------------------------------------------------------------

    def noised(self, batch: DenseBatch, t: Tensor, generator: torch.Generator | None = None) -> tuple[State, Output]:
        """Draw noised crystals at times t, and what should be predicted of them (logits: the scaled one-hot vectors)."""
        clean = self.clean(batch)
        state, noise = self.diffused(clean, t, generator)
        target = self.coordinates.target(t, noise.fractional) * batch.mask.to(self.dtype)[..., None]
        mean = target.sum(1, keepdim=True) / batch.n_atoms.clamp_min(1)[:, None, None]
        velocity = self.types.velocity(clean.lattice, t, noise.lattice)
        return state, Output(clean.types / TYPE_SCALE, target - mean, velocity)

    def loss(
        self,
        batch: DenseBatch,
        generator: torch.Generator | None = None,
        dropout: Dropout | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss of a batch, and its parts (detached).

        :param generator: on the CPU; times, noise and dropped conditions come from it.
        :param dropout: which conditions are dropped.
        """
        condition = (dropout or Dropout())(batch, generator)
        if self.training:
            condition = stretched(condition, self.grid, generator)
            if self.composition is not None:
                condition = varied(condition, self.grid, generator)
        condition = condition.to(self.dtype)
        t = stratified_times(len(batch), generator).to(self.device, self.dtype)
        state, target = self.noised(batch, t, generator)
        output = self(state, t, self.encode(condition, batch.mask), batch.mask)
        present = batch.mask.to(self.dtype)
        atoms = present.sum()
        cross_entropy = nn.functional.cross_entropy(
            output.logits.flatten(0, 1), target.logits.argmax(-1).flatten(), reduction="none"
        )
        types = (cross_entropy * present.flatten()).sum() / atoms
        squares = ((output.score - target.score).square().mean(-1) * present).sum()
        coordinates = squares / atoms
        lattice = (output.velocity - target.velocity).square().mean()
        total = types + coordinates + lattice
        parts = {"types": types, "coordinates": coordinates, "lattice": lattice}
        if self.composition is not None:  # it shares no weights with the rest
            parts["composition"] = self.composition.loss(condition, batch.types, batch.mask, generator)
            total = total + parts["composition"]
        return total, {name: value.detach() for name, value in parts.items()}
