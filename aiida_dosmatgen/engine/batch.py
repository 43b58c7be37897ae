"""Crystals as dense padded tensors: what the networks train on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..core.elements import SYMBOLS

if TYPE_CHECKING:
    from torch_geometric.data import Batch


@dataclasses.dataclass(frozen=True)
class DenseBatch:
    """B crystals padded to N atoms, with their labels.

    :param types: index of each atom's element among the checkpoint's elements; anything for padding, shape (B, N).
    :param fractional: fractional coordinates, shape (B, N, 3).
    :param lattices: lattice vectors as rows in Å, shape (B, 3, 3).
    :param mask: True for atoms, False for padding, shape (B, N).
    :param dos: states/eV of each atom, shape (B, N, n).
    :param complete_below: energy in eV up to which the curves of a crystal are complete, shape (B,).
    :param low: energy in eV from which they are known; by default all are, shape (B,).
    :param channels: states/eV of each atom in the channels s, p, d, f, NaN for atoms without, shape (B, N, 4, m); None if no
        crystal has them.
    """

    types: Tensor
    fractional: Tensor
    lattices: Tensor
    mask: Tensor
    dos: Tensor
    complete_below: Tensor
    low: Tensor = None  # type: ignore[assignment]
    channels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.low is None:
            object.__setattr__(self, "low", torch.full_like(self.complete_below, -math.inf))

    def __len__(self) -> int:
        return len(self.lattices)

    @property
    def n_atoms(self) -> Tensor:
        """Atoms of each crystal, shape (B,)."""
        return self.mask.sum(-1)

    def ends_of_atoms(self) -> tuple[Tensor, Tensor]:
        """Return the energies in eV from which and up to which the curve of each atom is known, shapes (atoms,)."""
        low, high = (end[:, None].expand(self.mask.shape)[self.mask] for end in (self.low, self.complete_below))
        return low, high

    def to(self, target: torch.device | str | torch.dtype) -> DenseBatch:
        """Move to a device, or turn all floating point values into a dtype."""

        def move(tensor: Tensor) -> Tensor:
            return tensor if isinstance(target, torch.dtype) and not tensor.is_floating_point() else tensor.to(target)

        return dataclasses.replace(self, **{name: move(tensor) for name, tensor in vars(self).items() if tensor is not None})


def to_dense(batch: Batch) -> DenseBatch:
    """Pad the crystals of a torch_geometric batch to the largest one; padding atoms have type 0 and zeros elsewhere."""
    from torch_geometric.utils import to_dense_batch  # takes longer than torch itself; only training needs it

    fractional, mask = to_dense_batch(batch.fractional, batch.batch)
    types, _ = to_dense_batch(batch.types, batch.batch)
    dos, _ = to_dense_batch(batch.dos, batch.batch)
    channels = to_dense_batch(batch.channels, batch.batch)[0] if "channels" in batch else None
    return DenseBatch(types, fractional, batch.lattice, mask, dos, batch.complete_below, batch.low, channels)


def type_indices(numbers: np.ndarray, elements: Sequence[str]) -> np.ndarray:
    """Return the index of each atom's element among ``elements``, −1 for others, shape (ΣN_i,)."""
    table = np.full(len(SYMBOLS), -1, dtype=np.int64)
    for index, symbol in enumerate(elements):
        table[SYMBOLS.index(symbol)] = index
    known = (numbers >= 0) & (numbers < len(SYMBOLS))
    return np.where(known, table[np.where(known, numbers, 0)], -1)
