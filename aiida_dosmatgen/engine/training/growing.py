"""A checkpoint that is trained further on elements and sizes that it did not know: what it learnt stays, and the rest is added.

New elements come after those of the parent, so that each tensor of the larger model holds that of the parent as its beginning.
What is said of a new element starts from what a new model would start from, and its statistics are those of the new crystals.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ...core.files.checkpoint_header import CheckpointHeader
from ..checkpoint import build_model
from ..descriptors import descriptors
from ..prediction.tightbinding import TightBinding

_SHARED = ("bond", "reach", "correction")
"""Parameters of tight binding that do not belong to elements."""


def larger(parent: CheckpointHeader, elements: Sequence[str], max_atoms: int | None) -> CheckpointHeader:
    """Return the header of the model that knows further elements, and crystals of up to so many atoms.

    :param elements: symbols, known ones among them.
    :param max_atoms: of a kind of model whose architecture says it; None leaves it.
    """
    architecture = dict(parent.architecture)
    if max_atoms is not None and "max_atoms" in architecture:
        architecture["max_atoms"] = max(max_atoms, architecture["max_atoms"])
    new = [symbol for symbol in elements if symbol not in parent.elements]
    return parent.model_copy(update={"elements": [*parent.elements, *new], "architecture": architecture})


def grown(model: Any, header: CheckpointHeader) -> tuple[Any, set[str]]:
    """Return the model of a larger header (:func:`larger`) with what a smaller one has learnt, and which tensors have grown.

    :param model: of any kind that checkpoints have.
    :raises ValueError: if it is not a smaller one of the same kind.
    """
    result = build_model(header)
    state, names = result.state_dict(), set[str]()
    for name, old in model.state_dict().items():
        fits = name in state and state[name].ndim == old.ndim
        if not fits or any(new < n for new, n in zip(state[name].shape, old.shape, strict=True)):
            raise ValueError(f"{name} of the parent does not fit into the larger model")
        if state[name].shape != old.shape:
            names.add(name)
            if name == "sizes.frequencies":
                state[name].fill_(float(old.min()))  # as little as the parent gives a size that it has not seen
        state[name][tuple(slice(n) for n in old.shape)] = old
    result.load_state_dict(state)
    tight_binding = getattr(result, "tight_binding", None)
    if tight_binding is not None:
        _likened(tight_binding, len(model.tight_binding.elements))
    return result, names


@torch.no_grad()
def fit_new(model: Any, names: set[str], known: int, fit: Callable[[Any], None]) -> None:
    """Set the statistics of the elements that were added, and leave those of the others.

    :param names: of the tensors that have grown.
    :param known: how many elements the parent had.
    :param fit: sets all statistics of a model from the training crystals.
    """
    fresh = copy.deepcopy(model)
    fit(fresh)
    new = dict(fresh.named_buffers())
    for name, buffer in model.named_buffers():
        if name in names and len(buffer) == len(model.elements):
            buffer[known:] = new[name][known:]


def only_new(tight_binding: nn.Module, known: int) -> None:
    """Let a fit of tight binding change the parameters of the elements from ``known`` on alone."""
    tight_binding.requires_grad_(True)
    for name, parameter in tight_binding.named_parameters():
        if name.split(".")[0] in _SHARED:
            parameter.register_hook(torch.zeros_like)
        else:
            parameter.register_hook(lambda gradient: torch.cat([torch.zeros_like(gradient[:known]), gradient[known:]]))


def _likened(tight_binding: TightBinding, known: int) -> None:
    """Give new elements the features of elements like them: a linear function of descriptors, fitted to the known ones."""
    embedding, about = tight_binding.embedding.data, descriptors(tight_binding.elements)
    if known < len(about):
        embedding[known:] = about[known:] @ torch.linalg.pinv(about[:known], rtol=1e-2) @ embedding[:known]
