"""What is in a file: its bytes, unpacked, and its text, whatever wrote it."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ContentError

MOST_BYTES = 200_000_000
"""Size of a file, unpacked, above which it is refused: no file of curves is as large, and memory is not endless."""

_PACKED: dict[bytes, Callable[[io.BytesIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),  # the minus sign, and hyphens that stand for it
        **dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " "),  # spaces that do not break, or are thin or wide
        **dict.fromkeys("\ufeff\u200b\u200e\u200f\u2060", None),  # marks that nobody sees
        **dict.fromkeys(map(chr, range(0x80, 0xA0))),  # control characters that no text has
    }
)


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file, unpacked if it is one of gzip, bzip2 or xz.

    :raises ContentError: if it is not there, cannot be read or unpacked, or is too large.
    """
    check_path(path)
    if Path(path).is_fifo() and not str(path).startswith(("/dev/", "/proc/")):
        raise ContentError(f"{path} is a pipe that may never end; give a file")
    try:
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None
    return unpacked(content, str(path))


def check_path(path: str | Path) -> None:
    """Refuse what cannot be the name of a file.

    :raises ContentError: for a name that is too long, or holds a null character.
    """
    try:
        Path(path).stat()
    except (OSError, ValueError) as exception:
        if isinstance(exception, ValueError) or exception.errno == errno.ENAMETOOLONG:
            raise ContentError(f"{str(path)[:80]!r} cannot be the name of a file: {exception.args[-1]}") from None


def unpacked(content: bytes, name: str) -> bytes:
    """Return content as it was before gzip, bzip2 or xz packed it.

    :raises ContentError: if it is damaged, too large or empty.
    """
    for start, opener in _PACKED.items():
        if content.startswith(start):
            try:
                content = opener(io.BytesIO(content)).read(MOST_BYTES + 1)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as exception:
                raise ContentError(f"{name} is packed and damaged ({exception}); copy it again") from None
            break
    if len(content) > MOST_BYTES:
        raise ContentError(
            f"{name} has more than {MOST_BYTES // 1_000_000} MB, too many for densities of states; of VASP give the DOSCAR"
        )
    if not content.strip():
        raise ContentError(f"{name} is empty")
    return content


def plain(text: str) -> str:
    """Return text with plain minus signs and spaces, without marks that nobody sees."""
    return text if text.isascii() else text.translate(_LOOKALIKES)


def text_of(content: bytes, name: str) -> str:
    """Return text with plain minus signs and spaces, from UTF-8, UTF-16 or Latin-1, with or without a byte order mark.

    :raises ContentError: if it is no text.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in content[:4]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    text = plain(text)
    if any(ord(letter) < 32 and letter not in "\t\n\r\f\v\x1a" for letter in text[:4096]):
        raise ContentError(f"{name} is not a text file")
    return text.rstrip("\x1a\0")
