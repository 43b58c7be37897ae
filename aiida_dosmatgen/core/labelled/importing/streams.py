"""Records of JSON files, one after the other."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ...errors import ContentError

_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_CHUNK = 1 << 20  # characters
_LONGEST = 1 << 29  # characters of a record; a DOS of two hundred atoms in all its orbitals has a tenth
_BETWEEN = " \t\r\n,\x1e\ufeff"  # of a list, or of lines of JSON


class JsonRecord(NamedTuple):
    """One record: what it is called in messages, its content, and its text."""

    where: str
    content: Any
    text: str


def unpacked(path: Path) -> TextIO:
    """Open a text file, packed by gzip, bzip2 or xz or not.

    :raises ContentError: if it is not there or cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(6)
        for magic, opener in _PACKED.items():
            if start.startswith(magic):
                return io.TextIOWrapper(opener(path, "rb"), encoding="utf-8")  # type: ignore[operator]
        return open(path, encoding="utf-8")
    except FileNotFoundError:
        raise ContentError(f"{path} does not exist") from None
    except OSError as exception:
        raise ContentError(f"{path} cannot be read: {exception.strerror}") from None


def json_records(path: Path, is_record: Callable[[Mapping[str, Any]], bool]) -> Iterator[JsonRecord]:
    """Return the records of a file: of a list, of lines, of an object of records, or the one record that the file is.

    :param is_record: says whether an object is a record, and not one of records by their names.
    :raises ContentError: naming the record at which the JSON is broken.
    """
    decoder, buffer, place, number = json.JSONDecoder(), "", 0, 0
    with unpacked(path) as stream:
        while True:
            while place < len(buffer) and buffer[place] in _BETWEEN + ("[]" if not number else "]"):
                place += 1
            try:
                if place == len(buffer):
                    raise json.JSONDecodeError("no record", buffer, place)
                content, end = decoder.raw_decode(buffer, place)
                if isinstance(content, int | float) and end == len(buffer):
                    raise json.JSONDecodeError("a number that may continue", buffer, place)
            except RecursionError:
                raise ContentError(f"{path}, record {number}: lists within lists without an end") from None
            except json.JSONDecodeError as exception:
                if len(buffer) - place > _LONGEST:
                    raise ContentError(f"{path}, record {number} has more than {_LONGEST} characters; it is not read") from None
                try:
                    more = stream.read(max(_CHUNK, len(buffer) - place))
                except (UnicodeDecodeError, OSError, EOFError, lzma.LZMAError, zlib.error) as fault:
                    raise ContentError(f"{path}, record {number}: cannot be read on ({fault}); copy the file again") from None
                if more:
                    buffer, place = buffer[place:] + more, 0
                    continue
                if place < len(buffer):
                    raise ContentError(
                        f"{path}, record {number} is not valid JSON: {exception.msg}; is the file whole?"
                    ) from None
                return
            except ValueError as exception:  # a number of thousands of digits
                raise ContentError(f"{path}, record {number}: {str(exception).partition(';')[0]}") from None
            text = buffer[place:end]
            place = end
            if number == 0 and _holds_records(content, is_record):
                for name, record in content.items():
                    yield JsonRecord(f"{path.name}, record {name}", record, json.dumps(record))
            else:
                yield JsonRecord(f"{path.name}, record {number}", content, text)
            number += 1


def _holds_records(content: Any, is_record: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Say whether an object is one of records by their names, and no record itself."""
    return (
        isinstance(content, dict)
        and len(content) > 0
        and not is_record(content)
        and all(isinstance(value, dict) and is_record(value) for value in content.values())
    )
