"""Training objective and evaluation of a denoiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ..batch import to_dense
from ..diffusion.conditioning import Dropout
from ..diffusion.denoiser import Denoiser

_REPEATS = 4  # draws of time and noise for each held-out crystal
_EVALUATION_SEED = 20_200_619


class DenoiserObjective:
    """The denoiser's own loss; held-out crystals see the same times, noise and dropped conditions at each evaluation.

    :param dropout: which conditions are dropped.
    """

    def __init__(self, dropout: Dropout) -> None:
        self.dropout = dropout

    def loss(self, model: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` and its parts."""
        total, parts = model.loss(to_dense(batch), generator, self.dropout)
        return {"loss": total, **parts}

    @torch.no_grad()
    def evaluate(self, model: Denoiser, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the mean ``loss`` and its parts over the crystals."""
        generator = torch.Generator().manual_seed(_EVALUATION_SEED)
        sums: dict[str, float] = {}
        n = 0
        for batch in batches:
            for _ in range(_REPEATS):
                for name, value in self.loss(model, batch, generator).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * batch.num_graphs
                n += batch.num_graphs
        return {name: value / n for name, value in sums.items()}
