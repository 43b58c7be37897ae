"""Work chains that keep a bounded number of children at a time."""

from __future__ import annotations

from typing import Any


def at_least_one(value: int | None, _: Any) -> str | None:
    """Refuse a window without a place in it."""
    return f"max_concurrent is {value}; it must be 1 or more" if value is not None and value < 1 else None
