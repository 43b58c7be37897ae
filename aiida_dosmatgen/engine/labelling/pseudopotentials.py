"""A folder of pseudopotentials, one UPF file for each element."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ...core.errors import ContentError

_HEADER = 400_000  # characters of a file in which its header lies, behind what may be long comments


class Upf(NamedTuple):
    """What a UPF file says of itself.

    :param valence: valence electrons.
    :param wavefunctions: atomic wavefunctions, on which states are projected.
    """

    path: Path
    element: str
    valence: float
    wavefunctions: int
    sha256: str


def read_upf(path: Path) -> Upf:
    """Read the header of a UPF file of format 1 or 2.

    :raises ContentError: if it is none.
    """
    content = path.read_bytes()
    text = content.decode("utf-8", errors="replace")
    head = text[:_HEADER]
    element = re.search(r'element\s*=\s*"\s*([A-Za-z]{1,2})\s*"', head) or re.search(
        r"^\s*([A-Za-z]{1,2})\s+Element", head, re.M
    )
    valence = re.search(r'z_valence\s*=\s*"\s*([\d.EeDd+-]+)', head) or re.search(r"([\d.EeDd+-]+)\s+Z valence", head)
    if element is None or valence is None:
        raise ContentError(f"{path} does not say its element and its valence electrons; is it a UPF file?")
    count = re.search(r'number_of_wfc\s*=\s*"\s*(\d+)', head) or re.search(r"(\d+)\s+\d+\s+Number of Wavefunctions", head)
    return Upf(
        path.resolve(),
        element.group(1).capitalize(),
        float(valence.group(1).replace("D", "E").replace("d", "e")),
        int(count.group(1)) if count else 0,
        hashlib.sha256(content).hexdigest(),
    )


def read_folder(folder: Path) -> dict[str, Upf]:
    """Return the pseudopotential of each element in a folder.

    :raises ContentError: if there is none, or an element has two.
    """
    found: dict[str, Upf] = {}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".upf") if folder.is_dir() else []
    for path in files:
        upf = read_upf(path)
        if upf.element in found:
            raise ContentError(
                f"{folder} has two pseudopotentials of {upf.element}: {found[upf.element].path.name}, {path.name}"
            )
        found[upf.element] = upf
    if not found:
        raise ContentError(f"{folder} has no UPF files; give a folder with one for each element")
    return found
