"""The hash of a safetensors file, inside the file.

The format has no checksum: a byte that changes in a copy changes a weight, or a word of the header, and nobody notices. So
the ``__metadata__`` carries the key ``sha256``: the SHA-256 of the whole file, computed as if its own 64 digits were zeros.
It tells damage, not malice: who changes a file on purpose can seal it again.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Any, BinaryIO

KEY = "sha256"
UNSEALED = "0" * 64
"""The value of the key before the file is sealed."""

_CHUNK = 1 << 20  # bytes


def seal(content: bytes) -> bytes:
    """Return a safetensors file with its hash in place of :data:`UNSEALED`.

    :param content: the file, its metadata with ``"sha256": UNSEALED``.
    :raises ValueError: if the metadata have no such entry.
    """
    (length,) = struct.unpack_from("<Q", content)
    # quotes inside the other metadata are escaped, so nothing else looks like this
    place = re.search(rf'"{KEY}":\s*"({UNSEALED})"'.encode(), content[8 : 8 + length])
    if place is None:
        raise ValueError(f"the metadata have no entry {KEY!r} of {len(UNSEALED)} zeros")
    start, stop = place.start(1) + 8, place.end(1) + 8
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[stop:]


def is_intact(stream: BinaryIO, value: Any) -> bool:
    """Whether a safetensors file has the hash that it carries.

    :param stream: the whole file; it can seek.
    :param value: what its metadata say under :data:`KEY`.
    """
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        return False
    stream.seek(0)
    start = stream.read(8)
    text = stream.read(*struct.unpack("<Q", start))
    if text.count(value.encode()) != 1:
        return False
    digest = hashlib.sha256(start + text.replace(value.encode(), UNSEALED.encode()))
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest() == value
