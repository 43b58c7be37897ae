"""Model files of torch: inspected, never loaded."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..core.errors import ContentError


def check_model_file(path: Path) -> None:
    """Check that a file is a whole torch archive, without unpickling it.

    :raises ContentError: for a missing, empty, truncated or foreign file.
    """
    if not path.is_file():
        raise ContentError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise ContentError(f"{path} is empty")
    with open(path, "rb") as stream:
        start = stream.read(4)
    if start != b"PK\x03\x04":
        raise ContentError(f"{path} is not a torch model file (a zip archive with data.pkl); give a MACE .model file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ContentError(f"{path} is truncated or damaged; copy it again") from None
    if not any(name.split("/")[-1] == "data.pkl" for name in names):
        raise ContentError(f"{path} is a zip archive but not a torch model file (it has no data.pkl)")
