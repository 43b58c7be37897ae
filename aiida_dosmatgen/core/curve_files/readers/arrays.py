"""Arrays of numpy: ``.npy`` and ``.npz`` files that hold energies as well as a density of states."""

from __future__ import annotations

import io

import numpy as np

from ...errors import ContentError
from ...files.archive import refuse_bomb, stated_size
from ..found import Found
from .records import found_in_record
from .table import Table
from .text import found_in_table

_NUMPY = b"\x93NUMPY"
_NO_ENERGIES = (
    "it holds no energies, as those of DeePMD; give them beside it: "
    'numpy.savez("dos.npz", energies=..., total=...) with one list, or sites=... with one for each atom'
)


def is_array(content: bytes) -> bool:
    """Say whether the content of a file is a ``.npy`` file, or a ``.npz`` file of such."""
    return content.startswith(_NUMPY) or (content.startswith(b"PK\x03\x04") and b".npy" in content[:200])


def read_array(content: bytes, name: str) -> Found:
    """Read columns or rows of energies and curves, or arrays by their names.

    :raises ContentError: if there are no energies among them.
    """
    arrays: dict[str, np.ndarray]
    refuse_bomb(io.BytesIO(content), name)
    if stated_size(io.BytesIO(content)) > len(content):
        raise ContentError(f"{name} says that it has more numbers than are in it; it was cut, or is no array of numpy")
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as exception:  # of a damaged archive, header or number: they have no common base class
        reason = " ".join(str(exception).split())[:80]
        raise ContentError(f"{name} is no array of numbers that numpy can read ({reason})") from None
    array: np.ndarray = next(iter(arrays.values()), np.empty(0))
    if len(arrays) > 1:
        return _by_names(arrays, name)
    if array.dtype.names:
        return _by_names({str(key): array[str(key)] for key in array.dtype.names}, name)
    _check_numbers(array, name)
    if array.ndim != 2 or min(array.shape) < 2 or not any(_has_order(line) for line in (array[:, 0], array[0])):
        raise ContentError(f"{name} is an array of {' x '.join(map(str, array.shape))} numbers; {_NO_ENERGIES}")
    if not _has_order(array[:, 0]):
        array = array.T
    found = found_in_table(Table(array.astype(float), list(range(1, len(array) + 1)), None, "", []), name)
    found.kind = "array of numpy"
    return found


def _by_names(arrays: dict[str, np.ndarray], name: str) -> Found:
    for array in arrays.values():
        _check_numbers(array, name)
    lists = {key: array.tolist() for key, array in arrays.items() if array.ndim == 1 or key == "sites"}
    numbers = {key: float(array) for key, array in arrays.items() if array.ndim == 0 and array.dtype.kind in "iuf"}
    other = [key for key, array in arrays.items() if array.ndim > 1 and key != "sites"]
    if other:
        raise ContentError(
            f"{name}: the array {other[0]!r} has {arrays[other[0]].ndim} dimensions; give lists of one length, as energies and "
            "total, or sites with a list for each atom"
        )
    found = found_in_record({**lists, **numbers}, name)
    found.kind = "arrays of numpy"
    return found


def _check_numbers(array: np.ndarray, name: str) -> None:
    if array.dtype.kind not in "iuf":
        raise ContentError(f"{name} holds an array of {array.dtype.name}, not of real numbers")


def _has_order(line: np.ndarray) -> bool:
    """Say whether numbers rise or fall throughout, as energies do."""
    steps = np.diff(line)
    return bool((steps > 0).all() or (steps < 0).all())
