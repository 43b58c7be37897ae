"""The restart file of a training. It is written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ...core.files import checksum
from ..checkpoint import save_tensors

_PARTS = ("model", "average", "best", "optimizer")


def save_state(path: Path, tensors: dict[str, dict[str, Tensor]], progress: dict[str, Any], fingerprint: str) -> None:
    """Write a state.

    :param tensors: of the parts ``model``, ``average``, ``best`` and ``optimizer``, by their names.
    :param progress: anything that JSON can hold.
    :param fingerprint: text that says which training this is.
    """
    # shared tensors cannot be stored twice by safetensors
    flat = {f"{part}:{name}": tensors[part][name].detach().clone() for part in _PARTS for name in tensors[part]}
    save_tensors(path, flat, {"training": json.dumps({"fingerprint": fingerprint, **progress})})


def load_state(
    path: Path, fingerprint: str, device: torch.device | str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Read what :func:`save_state` wrote; None if it is not there, damaged, or of another training."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt", device=str(device)) as archive:
            metadata = archive.metadata() or {}
            progress = json.loads(metadata["training"])
            if progress["fingerprint"] != fingerprint:
                return None
            with open(path, "rb") as stream:
                if not checksum.is_intact(stream, metadata.get(checksum.KEY)):
                    return None
            flat = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, KeyError, ValueError):
        return None
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, value in flat.items():
        part, own = name.split(":", 1)
        tensors[part][own] = value
    return tensors, progress
