"""Work chains that keep a bounded number of children at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def at_least_one(name: str) -> Callable[[int | None, Any], str | None]:
    """Return a validator that refuses numbers below one."""

    def validate(value: int | None, _: Any) -> str | None:
        return f"{name} is {value}; it must be 1 or more" if value is not None and value < 1 else None

    return validate
