"""Noised crystals, and the trunk of the models that see them: the denoiser and the classifier."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ...core.dos import DEFAULT_SIGMA, EnergyGrid
from ..batch import DenseBatch
from .lattice import LatticeScaler
from .network import CrystalNetwork
from .noise import VariancePreserving, WrappedNormal

if TYPE_CHECKING:
    from ...core.files.checkpoint_header import CheckpointHeader

__all__ = ["TYPE_SCALE", "NoisedCrystalModel", "State", "embed_time"]

TYPE_SCALE = 2.0
"""Length of the one-hot vectors. At 2 the noise hides which of some ten elements an atom is over the first half of the way
back, and composition settles before the coordinates do."""

_TIME_FREQUENCIES = 16
_TIME_FEATURES = 2 * _TIME_FREQUENCIES + 1


class State(NamedTuple):
    """B noised crystals.

    :param types: scaled one-hot vectors with noise, shape (B, N, n_elements).
    :param fractional: shape (B, N, 3).
    :param lattice: standardised components, shape (B, 6).
    """

    types: Tensor
    fractional: Tensor
    lattice: Tensor


class NoisedCrystalModel(nn.Module):
    """Forward processes of types, coordinates and lattices, and a network that reads the noised crystals and the time.

    A subclass calls :meth:`add_trunk` where the trunk comes among its own layers: the order in which layers are made decides
    which random numbers they start from.

    :param elements: chemical symbols in the order of the type vectors.
    :param grid: energies of the curves.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]]
    """The sizes of the model that a checkpoint's header holds."""

    sigma: float = DEFAULT_SIGMA
    """Broadening in eV of the curves that it learnt."""

    largest: int | None = None
    """Atoms of the largest crystal that it learnt from; None where its checkpoint does not say it."""

    def __init__(self, elements: Sequence[str], grid: EnergyGrid) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.grid = grid
        self.types = VariancePreserving()
        self.coordinates = WrappedNormal()
        self.lattices = LatticeScaler()

    def add_trunk(self, width: int, layers: int, frequencies: int) -> None:
        """Make the embeddings of types, and of time and lattice (before its activation), and the backbone.

        :param width: size of the hidden features.
        :param layers: rounds of messages.
        :param frequencies: harmonics of the fractional differences.
        """
        self.embed_types = nn.Linear(len(self.elements), width)
        self.embed_crystal = nn.Sequential(nn.Linear(_TIME_FEATURES + 6, width), nn.SiLU(), nn.Linear(width, width))
        self.network = CrystalNetwork(width, width=width, layers=layers, frequencies=frequencies)

    @classmethod
    def from_header(cls, header: "CheckpointHeader") -> Self:
        """Make the untrained model that a checkpoint's header describes."""
        sizes = {name: value for name, value in header.architecture.items() if name in cls.ARCHITECTURE}
        model = cls(header.elements, header.grid, **sizes)
        model.sigma, model.largest = header.sigma, header.training.largest
        return model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.embed_types.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Its arithmetic."""
        return self.embed_types.weight.dtype

    def fit_lattices(self, batches: Sequence[DenseBatch]) -> None:
        """Set the mean and standard deviation of lattices from training crystals."""
        self.lattices.fit(torch.cat([b.lattices for b in batches]), torch.cat([b.n_atoms for b in batches]))

    def clean(self, batch: DenseBatch) -> State:
        """Return the state of crystals without noise."""
        one_hot = nn.functional.one_hot(batch.types.clamp_min(0), len(self.elements)).to(self.dtype)
        components = self.lattices.standardise(batch.lattices.double(), batch.n_atoms).to(self.dtype)
        return State(TYPE_SCALE * one_hot, batch.fractional.to(self.dtype), components)

    def diffused(self, clean: State, t: Tensor, generator: torch.Generator | None = None) -> tuple[State, State]:
        """Draw noised crystals at times t (B,), and return them with the standard normal noise that they got.

        :param generator: on the CPU; the noise is drawn in double precision whatever the state has.
        """

        def normal(like_: Tensor) -> Tensor:
            return torch.randn(like_.shape, generator=generator, dtype=torch.float64).to(like_)

        noise = State(*(normal(part) for part in clean))
        noised = State(
            self.types.marginal(clean.types, t, noise.types),
            self.coordinates.marginal(clean.fractional, t, noise.fractional),
            self.types.marginal(clean.lattice, t, noise.lattice),
        )
        return noised, noise


def embed_time(t: Tensor) -> Tensor:
    """Return t and sin, cos of ½·k·πt for k = 1 … 16: resolves a fiftieth of the way, shape (B, 33)."""
    k = torch.arange(1, _TIME_FREQUENCIES + 1, dtype=t.dtype, device=t.device)
    angles = t[:, None] * k * (math.pi / 2)
    return torch.cat([t[:, None], torch.sin(angles), torch.cos(angles)], -1)
