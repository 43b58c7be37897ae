"""Smaller batches if memory does not suffice."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

T = TypeVar("T")


NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED", "OutOfMemoryError", "MemoryError")
"""What messages say that mean it: of torch's allocator on the CPU, of CUDA and its libraries, and names of exceptions."""


def is_out_of_memory(exception: BaseException) -> bool:
    """Say whether an exception is one of the ways in which a device or the machine has no memory left."""
    if isinstance(exception, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(exception, RuntimeError) and any(text in str(exception) for text in NO_MEMORY)


def release(device: torch.device) -> None:
    """Give back what a failed attempt left; call it after its exception is gone, which holds the tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def halving(attempt: Callable[[int], T], size: int, device: torch.device, what: str) -> tuple[T, int]:
    """Return what an attempt with a size gives, and the size: halved, and halved again, where memory does not suffice.

    :param attempt: called with the number of ``what`` to take at a time; it must not leave traces where it fails.
    """
    while True:
        try:
            return attempt(size), size
        except (RuntimeError, MemoryError) as exception:
            if size <= 1 or not is_out_of_memory(exception):
                raise
        release(device)
        half = (size + 1) // 2
        logger.warning("out of memory with %d %s at a time; continuing with %d", size, what, half)
        size = half
