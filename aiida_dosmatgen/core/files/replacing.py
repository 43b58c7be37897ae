"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a new file, which takes the place of an old one when it is whole.

    Whoever looks at the file sees the one before or the new one; of a new one that fails nothing is left, as on a full disk
    every byte counts.

    :raises OSError: if it cannot be written; of this file, not of the one that is there for the moment.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as exception:
        if exception.filename is not None and os.fspath(exception.filename) == str(partial):
            exception.filename, exception.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file, and wait until it is on the disk."""
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
