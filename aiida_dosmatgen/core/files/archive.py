"""Numpy archives with a format header, written atomically and read without ever unpickling."""

import contextlib
import io
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from ..errors import ContentError
from .replacing import replacing, write_synced

_HEADER = "__header__"
_MOST_EXPANDED = 200  # times, that a file gets larger as it is unpacked; real sets of crystals do by less than ten
_ALWAYS_READ = 1 << 26  # bytes unpacked; below that no file is too large
NO_ARCHIVE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What ``zipfile`` raises for files that are damaged, encrypted or packed in a way that it does not know."""


def save_arrays(path: str | Path | BinaryIO, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays and a JSON header as a compressed ``npz``; a path appears whole or not at all.

    The bytes depend on the content alone (no time stamps), so equal content has an equal hash.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {_HEADER: np.array(json.dumps(header, sort_keys=True)), **arrays}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED)
    if not isinstance(path, str | Path):
        path.write(buffer.getvalue())
        return
    with replacing(path) as partial:
        write_synced(partial, buffer.getvalue())


def load_arrays(path: str | Path | BinaryIO, kind: str, version: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`save_arrays` wrote.

    :param kind: what the header's ``format`` must say.
    :param version: the newest format version that the caller understands.
    :raises ContentError: for a truncated, foreign or newer file, and one that is made to fill the memory.
    """
    name = str(path) if isinstance(path, str | Path) else "the file"
    refuse_bomb(path, name)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise ContentError(f"{name} does not exist") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError, SyntaxError) as exception:
        said = str(exception).splitlines()[0] if str(exception) else type(exception).__name__
        why = "" if "pickle" in said else f": {said}"  # what numpy does not know it calls a pickle
        raise ContentError(f"{name} is not a whole {kind} file (truncated, or of another kind){why}") from None
    except Exception as exception:  # zlib.error and friends have no common base class
        raise ContentError(f"{name} is damaged and cannot be read: {exception}") from None
    if _HEADER not in arrays:
        raise ContentError(f"{name} is an npz file but has no {kind} header; it was not written by this package")
    header = _header(str(arrays.pop(_HEADER)))
    if header.get("format") != kind:
        raise ContentError(f"{name} holds {header.get('format')!r}, not {kind!r}")
    said = header.get("version", 0)
    if not isinstance(said, int) or said > version:
        raise ContentError(f"{name} has format version {said}, newer than {version}; update aiida-dosmatgen")
    return header, arrays


def refuse_bomb(path: str | Path | BinaryIO, name: str) -> None:
    """Refuse a zip archive of arrays that would fill the memory, from what it says of itself.

    A member that has more than it says is not read to its end, so that what is said is the most there can be.

    :param name: what the message calls it.
    :raises ContentError: in one line.
    """
    packed = unpacked = 0
    with contextlib.suppress(*NO_ARCHIVE), zipfile.ZipFile(path) as archive:  # who reads it says what is wrong
        members = archive.infolist()
        packed, unpacked = sum(one.compress_size for one in members), sum(one.file_size for one in members)
        if unpacked <= max(_ALWAYS_READ, _MOST_EXPANDED * packed):
            packed, unpacked = unpacked, max((_stated_size_of(archive, one) for one in members), default=0)
    if not isinstance(path, str | Path):
        path.seek(0)
    if unpacked > max(_ALWAYS_READ, packed):
        raise ContentError(
            f"{name} has {packed} bytes and says that they are {unpacked}; it is not read, as it is made to fail"
        )


def _stated_size_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    with archive.open(member) as stream:
        return stated_size(stream)


def stated_size(stream: IO[bytes]) -> int:
    """Return the bytes of an array of numpy by its shape; 0 if it is none. Numpy makes room for them before it reads."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError, tokenize.TokenError):
        old = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        return math.prod(shape) * dtype.itemsize
    return 0


def _header(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def is_of_others(path: str | Path) -> bool:
    """Say whether a file is an ``npz`` file that :func:`save_arrays` did not write."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except NO_ARCHIVE:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names) and f"{_HEADER}.npy" not in names
