"""What the parameters of tight binding are fitted to: the densities of states themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ...core.dos import DEFAULT_GRID
from ..dataset import to_dense
from .model import TightBinding

_EVERY = 4  # points of the grid; curves are broadened over six of them


class TightBindingObjective:
    """The mean absolute deviation of the per-atom curves, over the energies below which no band is missing."""

    def loss(self, model: TightBinding, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, in states/eV/atom, at random k-points."""
        total, points = self._deviation(model, batch, generator)
        return {"loss": total / points}

    @torch.no_grad()
    def evaluate(self, model: TightBinding, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the same ``loss`` at the k-points of :meth:`.TightBinding.curves`."""
        sums = [torch.stack(self._deviation(model, batch, None)) for batch in batches]
        total, points = torch.stack(sums).sum(0).tolist()
        return {"loss": total / points}

    def _deviation(self, model: TightBinding, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        dense = to_dense(batch)
        points = torch.tensor(DEFAULT_GRID.points[::_EVERY])
        counted = (points <= dense.complete_below.double()[:, None, None]) & dense.mask[..., None]
        dos = model(dense.types, dense.fractional, dense.lattices, dense.mask, points, generator)
        deviation = (dos - dense.dos[..., ::_EVERY].double()).abs()
        return torch.where(counted, deviation, 0.0).sum(), counted.sum().double()
