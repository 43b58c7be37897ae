"""Mixed precision, and the operations that keep full precision.

Under :func:`torch.autocast` matrix products are taken in bfloat16, which knows a number to three digits. That is enough for
features, and not for positions: at 5 Å it is a fiftieth of an Å.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def full_precision(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make a function compute in the precision of its arguments, under autocast too."""

    @functools.wraps(function)
    def computed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with contextlib.ExitStack() as contexts:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    contexts.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return computed
