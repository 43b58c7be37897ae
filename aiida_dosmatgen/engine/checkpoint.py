"""Models in files: safetensors with a header that says what they are; never a pickle."""

from __future__ import annotations

import importlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from ..core.errors import ContentError
from ..core.files import checksum
from ..core.files.checkpoint_header import TRAINING_CRYSTALS, CheckpointHeader, open_checkpoint, read_header
from ..core.files.replacing import replacing, write_synced
from ..core.screening.training_crystals import TrainingCrystals

_MODELS = {
    "denoiser": (".diffusion.denoiser", "Denoiser"),
    "classifier": (".diffusion.classifier", "Classifier"),
    "predictor": (".prediction.predictor", "Predictor"),
}
"""Where the class of each kind of checkpoint is. It is imported when a model of its kind is built: a checkpoint is opened in
packages that know nothing of each other."""


def save_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file with its hash inside (:mod:`..core.files.checksum`); it appears whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = checksum.with_checksum(
        _in_order(safetensors.torch.save(contiguous, {**metadata, checksum.KEY: checksum.PLACEHOLDER}))
    )
    with replacing(path) as partial:
        write_synced(partial, content)


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file: the library writes them in random order, but equal models are equal files."""
    (length,) = struct.unpack_from("<Q", content)
    entries = json.loads(content[8 : 8 + length])
    entries["__metadata__"] = dict(sorted(entries["__metadata__"].items()))
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(length) + content[8 + length :]


def build_model(header: CheckpointHeader) -> nn.Module:
    """Make the untrained model that a header describes."""
    module, name = _MODELS[header.kind]
    return getattr(importlib.import_module(module, __package__), name).from_header(header)


def save_model(
    path: str | Path, model: nn.Module, header: CheckpointHeader, learnt_from: TrainingCrystals | None = None
) -> None:
    """Write a model's tensors with its header, atomically.

    :param learnt_from: the crystals that it learnt from; None leaves them out.
    """
    tensors = model.state_dict()
    if learnt_from is not None:
        tensors = {**tensors, TRAINING_CRYSTALS: torch.frombuffer(bytearray(learnt_from.to_bytes()), dtype=torch.uint8)}
    save_tensors(path, tensors, header.to_metadata())


def load_model(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None, kind: str | None = None
) -> tuple[Any, CheckpointHeader]:
    """Read a model, ready to be evaluated.

    :param dtype: arithmetic of the model; None for single precision.
    :param kind: the kind that it must be of; None takes any.
    :raises ContentError: if the file is no checkpoint or is damaged, or its tensors are not those of the model that its
        header describes.
    """
    with open_checkpoint(path) as stream:
        content = stream.read()  # once, so that what is loaded is what was checked
    header = read_header(io.BytesIO(content), str(path))
    if kind not in (None, header.kind):
        raise ContentError(f"{path} is a {header.kind}, but a {kind} is needed here")
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as exception:
        raise ContentError(f"{path} is damaged: {exception}") from None
    try:
        model = build_model(header)
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if name != TRAINING_CRYSTALS})
    except (RuntimeError, TypeError, KeyError, ValueError) as exception:
        reason = " ".join(str(exception).split())
        raise ContentError(f"{path}: the tensors are not those of the {header.kind} it describes: {reason[:300]}") from None
    return model.to(device=device, dtype=dtype).eval(), header
