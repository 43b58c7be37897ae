"""The checksum of a safetensors file, inside the file.

The format has no checksum, so a changed byte of a weight or of the header would go unnoticed. The ``__metadata__`` therefore
has the key ``sha256``: the SHA-256 of the whole file, computed with zeros in place of its own 64 digits. It detects damage,
not malice: whoever changes a file on purpose can compute the checksum again.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Any, BinaryIO

KEY = "sha256"
PLACEHOLDER = "0" * 64
"""The value of the key while the checksum is computed."""

_CHUNK = 1 << 20  # bytes


def with_checksum(content: bytes) -> bytes:
    """Return a safetensors file with its hash in place of :data:`PLACEHOLDER`.

    :param content: the file, its metadata with ``"sha256": PLACEHOLDER``.
    :raises ValueError: if the metadata have no such entry.
    """
    (length,) = struct.unpack_from("<Q", content)
    # quotes inside the other metadata are escaped, so nothing else looks like this
    place = re.search(rf'"{KEY}":\s*"({PLACEHOLDER})"'.encode(), content[8 : 8 + length])
    if place is None:
        raise ValueError(f"the metadata have no entry {KEY!r} of {len(PLACEHOLDER)} zeros")
    start, stop = place.start(1) + 8, place.end(1) + 8
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[stop:]


def is_intact(stream: BinaryIO, value: Any) -> bool:
    """Whether a safetensors file has the checksum that it states.

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
    digest = hashlib.sha256(start + text.replace(value.encode(), PLACEHOLDER.encode()))
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest() == value
