"""What is minimised when a force field learns, and what is reported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from ase.units import GPa
from torch import Tensor
from torch_geometric.data import Batch

from ....core.job import BatchedTraining
from .graphs import mace_input

_LARGE_FORCE, _LARGE_STRESS = 2.0, 20.0  # eV/Å, GPa
_ROUNDED = {"energy": 0.02, "force": 0.05, "stress": 0.5}  # eV, eV/Å, GPa: below, the loss is a parabola


class ForceFieldObjective:
    """Rounded absolute errors of energies, forces and stresses; see :class:`BatchedTraining`.

    :param n_elements: of the network.
    """

    def __init__(self, options: BatchedTraining, n_elements: int) -> None:
        self.n_elements = n_elements
        self.factors = {"energy": options.energy_weight, "force": options.force_weight, "stress": options.stress_weight}

    def loss(self, model: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss, and the errors it is made of."""
        errors = self._errors(model, batch, training=True)
        weights = {"energy": batch.weight, "force": batch.weight[batch.batch][:, None], "stress": batch.weight[:, None, None]}
        known = ~torch.isnan(batch.stress).any(-1).any(-1)
        if not known.any():
            errors["stress"] = errors["stress"] * 0
        large = {
            "energy": torch.ones_like(batch.energy),
            "force": 1 / (1 + batch.forces.norm(dim=1, keepdim=True) / _LARGE_FORCE),
            "stress": 1 / (1 + batch.stress.nan_to_num().abs().amax((1, 2), keepdim=True) / GPa / _LARGE_STRESS),
        }
        large["stress"] = large["stress"] * known[:, None, None]
        parts = {}
        for name, error in errors.items():
            rounded = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=_ROUNDED[name])
            parts[name] = (weights[name] * large[name] * rounded).mean()
        return {"loss": sum(self.factors[name] * part for name, part in parts.items())} | parts

    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """Return mean absolute errors in eV/atom, eV/Å and GPa, and their weighted sum as ``loss``."""
        sums, counts = dict.fromkeys(_ROUNDED, 0.0), dict.fromkeys(_ROUNDED, 0)
        for batch in batches:
            for name, error in self._errors(model, batch, training=False).items():
                seen = error.detach().abs()
                seen = seen[torch.isfinite(seen)]
                sums[name] += float(seen.sum())
                counts[name] += seen.numel()
        means = {name: sums[name] / counts[name] if counts[name] else 0.0 for name in sums}
        loss = sum(self.factors[name] * value for name, value in means.items())
        return {"loss": loss, **{f"{name}_mae": value for name, value in means.items()}}

    def _errors(self, model: Any, batch: Batch, training: bool) -> dict[str, Tensor]:
        output = model(mace_input(batch, self.n_elements), training=training, compute_force=True, compute_stress=True)
        atoms = batch.ptr[1:] - batch.ptr[:-1]
        stress = (output["stress"] - batch.stress) / GPa
        return {
            "energy": (output["interaction_energy"] - batch.energy) / atoms,
            "force": output["forces"] - batch.forces,
            "stress": torch.nan_to_num(stress) if training else stress,
        }
