"""Training objective and evaluation of a classifier."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ..batch import to_dense
from ..diffusion.classifier import Classifier


class ClassifierObjective:
    """What a classifier is trained and evaluated by; held-out crystals see the same noise at each evaluation."""

    LEVELS = (0.0, 0.3, 0.6)
    """Times at which it is evaluated. From 0.9 on there is nothing left to see."""

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
