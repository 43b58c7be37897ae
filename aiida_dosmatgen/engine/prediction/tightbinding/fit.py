"""What the parameters of tight binding are fitted to: the densities of states themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ....core.dos import DEFAULT_GRID
from ...batch import DenseBatch
from ...training.dataset import to_dense
from .model import TightBinding

_EVERY = 4  # points of the grid; curves are broadened over six of them
_POINTS = torch.tensor(DEFAULT_GRID.points[::_EVERY])


class TightBindingObjective:
    """The mean absolute deviation of the per-atom curves, over the energies below which no band is missing."""

    def loss(self, model: TightBinding, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, in states/eV/atom, at random k-points."""
        dense = to_dense(batch)
        dos = model(dense.types, dense.fractional, dense.lattices, dense.mask, _POINTS, generator)
        deviation, counted = _compared(dos, dense)
        return {"loss": deviation / counted}

    @torch.no_grad()
    def evaluate(self, model: TightBinding, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the same ``loss`` of :meth:`.TightBinding.curves`."""
        total = points = 0.0
        for batch in batches:
            dense = to_dense(batch)
            dos = torch.zeros_like(dense.dos)
            for crystal, n in enumerate(dense.mask.sum(1).tolist()):
                found = model.curve(dense.types[crystal, :n], dense.fractional[crystal, :n], dense.lattices[crystal])
                if found is not None:
                    dos[crystal, :n] = torch.from_numpy(found)
            deviation, counted = _compared(dos[..., ::_EVERY], dense)
            total, points = total + float(deviation), points + float(counted)
        return {"loss": total / points}


def _compared(dos: Tensor, dense: DenseBatch) -> tuple[Tensor, Tensor]:
    """Return the sum of the absolute deviations over what is complete, and the number of points."""
    counted = (dense.complete_below.double()[:, None, None] >= _POINTS) & dense.mask[..., None]
    deviation = (dos - dense.dos[..., ::_EVERY]).double().abs()
    return torch.where(counted, deviation, 0.0).sum(), counted.sum().double()
