"""UPF files: what their headers say, and folders with one for each element."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import ContentError

_HEADER = 400_000  # characters of a file in which its header lies, behind what may be long comments


class Upf(NamedTuple):
    """What a UPF file says of itself.

    :param valence: valence electrons.
    :param wavefunctions: atomic wavefunctions, on which states are projected.
    :param norm_conserving: whether four times the cutoff of the wavefunctions is enough for the density.
    """

    path: Path
    element: str
    valence: float
    wavefunctions: int
    sha256: str
    norm_conserving: bool = True


def read_upf(path: Path) -> Upf:
    """Read the header of a UPF file of format 1 or 2.

    :raises ContentError: if it is none.
    """
    return parse_upf(path.read_bytes(), path.resolve())


def parse_upf(content: bytes, path: Path) -> Upf:
    """Read the header of a UPF file of format 1 or 2 from its content.

    :param path: what the file is called.
    :raises ContentError: if it is none.
    """
    head = content[:_HEADER].decode("utf-8", errors="replace")
    element = re.search(r'element\s*=\s*"\s*([A-Za-z]{1,2})\s*"', head) or re.search(
        r"^\s*([A-Za-z]{1,2})\s+Element", head, re.M
    )
    valence = re.search(r'z_valence\s*=\s*"\s*([\d.EeDd+-]+)', head) or re.search(r"([\d.EeDd+-]+)\s+Z valence", head)
    if element is None or valence is None:
        raise ContentError(f"{path} does not say its element and its valence electrons; is it a UPF file?")
    count = re.search(r'number_of_wfc\s*=\s*"\s*(\d+)', head) or re.search(r"(\d+)\s+\d+\s+Number of Wavefunctions", head)
    kind = re.search(r'pseudo_type\s*=\s*"\s*(\w+)', head) or re.search(r"^\s*(NC|US|PAW)\b", head, re.M)
    return Upf(
        path,
        element.group(1).capitalize(),
        float(valence.group(1).replace("D", "E").replace("d", "e")),
        int(count.group(1)) if count else 0,
        hashlib.sha256(content).hexdigest(),
        kind is None or not kind.group(1).upper().startswith(("US", "PAW")),
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
