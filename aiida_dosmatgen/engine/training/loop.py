"""The trainer of all networks of this package: AdamW, warm-up and cosine decay, averaged weights, restart files.

What happens in epoch e depends on (seed, e) and the state before it alone, so a training that was stopped and resumed ends
where an uninterrupted one does.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from ...core.errors import ContentError
from ...core.files.replacing import replacing
from ..effort import cpu_seconds
from ..memory import halving
from .dataset import LabelledDataset, SizeBuckets
from .state import load_state, save_state

STATE_FILE = "training-state.safetensors"

_WARM_UP = 0.05  # of all steps
_CLIP = 5.0  # largest norm of the gradient
_SECONDS_BETWEEN_SAVES = 60.0
_MOST_BAD_BATCHES = 50  # in a row


class Objective(Protocol):
    """What is minimised, and what is reported."""

    def loss(self, model: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, the scalar to minimise, and further scalars to record."""

    def evaluate(self, model: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """Return ``loss``, by which the best epoch is chosen, and further metrics; the same for the same model."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    :param epochs: passes over the training crystals.
    :param learning_rate: peak of the schedule.
    :param weight_decay: of AdamW, decoupled.
    :param ema: decay of the averaged weights, those that are kept; it starts at 0.1 and grows to this.
    :param precision: ``bfloat16`` takes the matrix products of the loss in it; weights and the optimiser stay in float32.
    :param patience: epochs without a better validation loss after which training stops; None never stops early.
    :param keep: the weights of which epoch are kept.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    ema: float = 0.999
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16"] = "float32"

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step: a linear rise over the first 5 %, then half a cosine down to zero."""
        warm = max(1, round(_WARM_UP * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def decay(self, step: int) -> float:
        """Return the decay of the averaged weights at a step."""
        return min(self.ema, (1 + step) / (10 + step))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training leaves.

    :param model: with the averaged weights of the best epoch.
    :param best_epoch: counted from one; the last one if nothing was held out.
    :param epochs: epochs done, in all runs together.
    :param finished: False if time ran out.
    :param metrics: of the best epoch on the held-out crystals; empty if there are none.
    :param history: one list for each recorded quantity.
    """

    model: nn.Module
    best_epoch: int
    epochs: int
    finished: bool
    metrics: dict[str, float]
    history: dict[str, list]


class Trainer:
    """Train a model on labelled crystals.

    :param held_out: crystals to choose the best epoch by; may be empty.
    :param folder: where the state of the training is kept; one that fits is taken up.
    :param fingerprint: text that says which training this is; the state of another one is left alone.
    :param state_file: name of the file in the folder that holds the state.
    :param keep_state: whether that file stays when the training is over, so that it is not done again.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        training: LabelledDataset,
        held_out: LabelledDataset | None,
        schedule: Schedule,
        *,
        seed: int,
        folder: Path,
        fingerprint: str,
        device: torch.device | str = "cpu",
        state_file: str = STATE_FILE,
        keep_state: bool = False,
    ) -> None:
        self.objective, self.schedule, self.seed, self.device = objective, schedule, seed, torch.device(device)
        self.model = model.to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.best = {k: v.clone() for k, v in self.average.state_dict().items()}
        sizes = [crystal.num_nodes for crystal in training]
        self.sampler = SizeBuckets(sizes, schedule.batch_size, seed)
        self.batches = DataLoader(training, batch_sampler=self.sampler)
        self.held_out = held_out if held_out is not None and len(held_out) else None
        self._at_a_time, self._held_out_at_a_time = schedule.batch_size, 64  # less once memory did not suffice
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.path, self.fingerprint, self.keep_state = folder / state_file, fingerprint, keep_state
        self.epoch, self.best_epoch, self.best_loss = 0, 0, math.inf
        self.metrics: dict[str, float] = {}
        self.history: dict[str, list] = {}
        self._bad_batches = 0

    def run(
        self,
        allows: Callable[[float], bool] = lambda seconds: True,
        progress: Callable[[int, str], None] = lambda done, note: None,
        history_path: Path | None = None,
    ) -> Outcome:
        """Train until the last epoch, until patience is lost, or until time is up.

        :param allows: says whether something that takes so many seconds still fits into the time.
        :param progress: called after each epoch with the epochs done and a note.
        :param history_path: a JSON file that is rewritten as training goes.
        :raises ContentError: if the loss is not finite any more.
        """
        self._resume()
        saved, longest = time.monotonic(), 0.0
        finished = self._is_over()
        while not finished:
            # the first epoch of a run is always done: without it nothing would ever be
            if longest and not allows(1.3 * longest):
                break
            start = time.monotonic()
            record = self._one_epoch()
            longest = max(longest, time.monotonic() - start)
            for key, value in record.items():
                self.history.setdefault(key, []).append(value)
            finished = self._is_over()
            progress(self.epoch, _note(record))
            if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES and not finished:
                self._save(history_path)
                saved = time.monotonic()
        if finished and not self.keep_state:
            self.path.unlink(missing_ok=True)
            _write_history(history_path, self.history)
        else:
            self._save(history_path)
        self.average.load_state_dict(self.best)
        return Outcome(self.average, self.best_epoch, self.epoch, finished, self.metrics, self.history)

    def untrained(self, history_path: Path | None = None) -> Outcome:
        """Return the model as it was given, and write a history without epochs."""
        _write_history(history_path, {})
        return Outcome(self.average, 0, 0, False, {}, {})

    def _is_over(self) -> bool:
        patience = self.schedule.patience
        lost = self.held_out is not None and patience is not None and self.epoch - self.best_epoch >= patience
        return self.epoch >= self.schedule.epochs or lost

    def _one_epoch(self) -> dict[str, Any]:
        start, cpu_start = time.monotonic(), cpu_seconds()
        seed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        sums: dict[str, float] = {}
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)  # on the CPU, so that devices agree
            self.sampler.epoch = self.epoch
            self.model.train()
            for index, batch in enumerate(self.batches):
                step = self.epoch * len(self.sampler) + index
                for name, value in self._step(batch.to(self.device), step, generator).items():
                    sums[name] = sums.get(name, 0.0) + value / len(self.sampler)
        self.epoch += 1
        record: dict[str, Any] = {"epoch": self.epoch, **sums}
        if self.held_out is not None:
            self.average.eval()
            metrics, self._held_out_at_a_time = halving(
                self._evaluate, self._held_out_at_a_time, self.device, "crystals held out"
            )
            record |= {f"validation_{k}": v for k, v in metrics.items()}
            if self.schedule.keep == "last" or metrics["loss"] < self.best_loss:
                self._keep(metrics)
        else:
            self._keep({})
        spent = {"seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds() - cpu_start}
        return {**record, **{name: round(value, 3) for name, value in spent.items()}}

    def _keep(self, metrics: dict[str, float]) -> None:
        self.best = {k: v.clone() for k, v in self.average.state_dict().items()}
        self.best_epoch, self.metrics, self.best_loss = self.epoch, metrics, metrics.get("loss", math.inf)

    def _step(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(step, self.schedule.epochs * len(self.sampler))
        state = generator.get_state()

        def gradient(at_a_time: int) -> dict[str, float]:
            generator.set_state(state)
            return self._gradient(batch, generator, at_a_time)

        losses, self._at_a_time = halving(gradient, self._at_a_time, self.device, "crystals")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        if torch.isfinite(norm) and math.isfinite(losses["loss"]):
            self._bad_batches = 0
            self.optimizer.step()
        else:  # one bad batch must not end a training; many do
            self._bad_batches += 1
            if self._bad_batches > _MOST_BAD_BATCHES:
                raise ContentError("the loss is not finite any more: training diverged; use a lower learning_rate")
        with torch.no_grad():
            decay = self.schedule.decay(step)
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for copy, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
                copy.copy_(buffer)
        return losses

    def _gradient(self, batch: Batch, generator: torch.Generator, at_a_time: int) -> dict[str, float]:
        """Leave the gradient of a batch's loss, computed for so many crystals at a time, and return the loss and its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        if batch.num_graphs <= at_a_time:
            parts = [batch]
        else:
            crystals = batch.to_data_list()
            parts = [Batch.from_data_list(crystals[i : i + at_a_time]) for i in range(0, len(crystals), at_a_time)]
        sums: dict[str, float] = {}
        for part in parts:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.schedule.precision == "bfloat16"):
                losses = self.objective.loss(self.model, part, generator)
            share = part.num_graphs / batch.num_graphs
            (losses["loss"] * share if len(parts) > 1 else losses["loss"]).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + share * float(value.detach())
        return sums

    def _evaluate(self, at_a_time: int) -> dict[str, float]:
        batches = DataLoader(self.held_out, batch_size=at_a_time)
        return self.objective.evaluate(self.average, (batch.to(self.device) for batch in batches))

    # --- the state between runs ---------------------------------------------------------------------------------------------

    def _save(self, history_path: Path | None) -> None:
        tensors = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": {
                f"{index}:{name}": torch.as_tensor(value)
                for index, state in self.optimizer.state_dict()["state"].items()
                for name, value in state.items()
            },
        }
        progress = {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "metrics": self.metrics,
            "history": self.history,
        }
        save_state(self.path, tensors, progress, self.fingerprint)
        _write_history(history_path, self.history)

    def _resume(self) -> None:
        found = load_state(self.path, self.fingerprint, self.device)
        if found is None:
            return
        tensors, progress = found
        self.model.load_state_dict(tensors["model"])
        self.average.load_state_dict(tensors["average"])
        self.best = tensors["best"]
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors["optimizer"].items():
            index, key = name.split(":", 1)
            # counts of steps belong on the CPU: from a GPU each of them would be fetched at each step
            states.setdefault(int(index), {})[key] = value.cpu() if key == "step" else value
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.epoch, self.best_epoch = progress["epoch"], progress["best_epoch"]
        self.best_loss = math.inf if progress["best_loss"] is None else progress["best_loss"]
        self.metrics, self.history = progress["metrics"], progress["history"]


def _note(record: dict[str, Any]) -> str:
    validation = f", validation {record['validation_loss']:.4g}" if "validation_loss" in record else ""
    return f"loss {record['loss']:.4g}{validation}"


def _write_history(path: Path | None, history: dict[str, list]) -> None:
    if path is None:
        return
    with replacing(path) as partial:
        partial.write_text(json.dumps(history), encoding="utf-8")
