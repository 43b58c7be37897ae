"""The fit of tight binding, the first part of the training of a predictor: to the densities of states themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Batch

from ...core.crystals import CrystalSet
from ...core.dos import DEFAULT_GRID
from ..batch import DenseBatch, to_dense
from ..prediction.tightbinding import TightBinding
from .dataset import LabelledDataset
from .loop import Outcome, Schedule, Trainer

STATE_FILE = "tight-binding-state.safetensors"

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
    low, high = (end.double()[:, None, None] for end in (dense.low, dense.complete_below))
    counted = (low <= _POINTS) & (high >= _POINTS) & dense.mask[..., None]
    deviation = (dos - dense.dos[..., ::_EVERY]).double().abs()
    return torch.where(counted, deviation, 0.0).sum(), counted.sum().double()


def fit(
    model: TightBinding,
    training: CrystalSet,
    held_out: CrystalSet,
    epochs: int,
    *,
    seed: int,
    folder: Path,
    fingerprint: str,
    allows: Callable[[float], bool] = lambda seconds: True,
    progress: Callable[[int, str], None] = lambda done, note: None,
) -> Outcome:
    """Fit the parameters of a model in place; fewer epochs are done than asked for if time ran out.

    :param held_out: crystals to choose the best epoch by; may be empty.
    :param folder: of :data:`STATE_FILE`, which stays there: the fit is not done again when the training is continued.
    :param fingerprint: text that says which training this is.
    :param allows: says whether something that takes so many seconds still fits into the time.
    """
    trainer = Trainer(
        model.requires_grad_(True),
        TightBindingObjective(),
        LabelledDataset(training, model.elements),
        LabelledDataset(held_out, model.elements) if len(held_out) else None,
        Schedule(epochs, batch_size=16, learning_rate=0.01, ema=0.99),
        seed=seed,
        folder=folder,
        fingerprint=fingerprint,
        state_file=STATE_FILE,
        keep_state=True,
    )
    outcome = trainer.run(allows, progress)
    model.load_state_dict(outcome.model.state_dict())
    model.requires_grad_(False)
    return outcome
