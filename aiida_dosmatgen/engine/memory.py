"""What to do when memory does not suffice."""

import gc

import torch


def is_out_of_memory(exception: BaseException) -> bool:
    """Say whether an exception is one of the ways in which a device or the machine has no memory left."""
    if isinstance(exception, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(exception, RuntimeError) and "can't allocate memory" in str(exception)


def release(device: torch.device) -> None:
    """Give back what a failed attempt left; call it after its exception is gone, which holds the tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
