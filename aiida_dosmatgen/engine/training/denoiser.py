"""Training objective and evaluation of a denoiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ..batch import to_dense
from ..diffusion.augmentation import Dropout
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
        """Return the mean ``loss`` and its parts over the crystals.

        Of a model that proposes compositions, ``element_recall``, ``element_recall_5`` and ``element_recall_20`` too: the
        share of atoms whose element is the likeliest, or among the likeliest 5 or 20, given the curves of all sites.
        """
        generator = torch.Generator().manual_seed(_EVALUATION_SEED)
        found: list[Tensor] = []
        sums: dict[str, float] = {}
        n = 0
        for batch in batches:
            if model.composition is not None:
                found.append(_ranks(model, batch))
            for _ in range(_REPEATS):
                for name, value in self.loss(model, batch, generator).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * batch.num_graphs
                n += batch.num_graphs
        metrics = {name: value / n for name, value in sums.items()}
        if found:
            ranks = torch.cat(found)
            for name, count in (("element_recall", 1), ("element_recall_5", 5), ("element_recall_20", 20)):
                metrics[name] = float((ranks < count).double().mean())
        return metrics


def _ranks(model: Denoiser, batch: Batch) -> Tensor:
    """Return how many elements the network finds likelier than the right one, of each atom of a batch."""
    assert model.composition is not None
    dense = to_dense(batch)
    everything = Dropout(0.0, 0.0, 0.0, 0.0)(dense, torch.Generator().manual_seed(_EVALUATION_SEED))
    condition = dataclasses.replace(everything, complete_below=dense.complete_below, low=dense.low).to(model.dtype)
    logits = model.composition(condition, dense.mask)
    right = logits.gather(-1, dense.types[..., None])
    return (logits > right).sum(-1)[dense.mask]
