"""How a condition steers the sampler. A guidance is made once for a batch and called at each step."""

from typing import Protocol

import torch
from torch import Tensor

from .conditioning import Condition
from .denoiser import Denoiser, Encoded, Output, State


class Guidance(Protocol):
    """What a sampler needs: predictions for a state at a time."""

    def __call__(self, state: State, t: Tensor) -> Output:
        """Predict for B crystals at times t, shape (B,)."""
        ...


class ClassifierFree:
    """(1 + w)·conditional − w·unconditional, on logits, score and velocity (arXiv:2207.12598).

    Both branches run as one stacked batch. With w = 0, or if nothing is asked of any crystal, only one branch runs.

    :param model: the denoiser.
    :param condition: of the B crystals of the batch.
    :param mask: True for atoms, shape (B, N).
    :param scale: w ≥ 0.
    """

    def __init__(self, model: Denoiser, condition: Condition, mask: Tensor, scale: float) -> None:
        self.model, self.mask = model, mask
        self.scale = 0.0 if condition.empty else scale
        self.encoded = model.encode(condition, mask)
        if self.scale:
            null = model.encode(condition.dropped(), mask)
            self.encoded = Encoded(*(torch.cat(pair) for pair in zip(self.encoded, null, strict=True)))

    def __call__(self, state: State, t: Tensor) -> Output:
        """Return the guided prediction."""
        output = self.model(state, t, self.encoded, self.mask)
        if not self.scale:
            return output
        guided = []
        for both in output:
            conditional, unconditional = both.chunk(2)
            guided.append((1 + self.scale) * conditional - self.scale * unconditional)
        return Output(*guided)
