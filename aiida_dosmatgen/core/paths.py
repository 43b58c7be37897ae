"""Paths as users write them."""

import os
from pathlib import Path


def user_path(path: str | Path) -> Path:
    """Return a path with ``~`` for the home of a user; a name that only begins so, as ``~copy.csv``, stays as it is."""
    return Path(os.path.expanduser(path))
