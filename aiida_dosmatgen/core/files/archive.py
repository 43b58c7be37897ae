"""Numpy archives with a format header, written atomically and read without ever unpickling."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ContentError
from .replacing import replacing, write_synced

_HEADER = "__header__"


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
    :raises ContentError: for a truncated, foreign or newer file.
    """
    name = str(path) if isinstance(path, str | Path) else "the file"
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
    header = json.loads(str(arrays.pop(_HEADER)))
    if header.get("format") != kind:
        raise ContentError(f"{name} holds {header.get('format')!r}, not {kind!r}")
    if int(header.get("version", 0)) > version:
        raise ContentError(f"{name} has format version {header['version']}, newer than {version}; update aiida-dosmatgen")
    return header, arrays


def is_of_others(path: str | Path) -> bool:
    """Say whether a file is an ``npz`` file that :func:`save_arrays` did not write."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names) and f"{_HEADER}.npy" not in names
