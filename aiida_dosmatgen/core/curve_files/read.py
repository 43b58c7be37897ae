"""Read a file of curves, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import ContentError
from ..paths import user_path
from .content import check_path, plain, read_bytes, text_of, unpacked
from .found import Found, ReadCurves
from .made import curves_from
from .other_kinds import refuse_bytes, refuse_text
from .readers import arrays, espresso, records, siesta, text, vasp

Reader = Callable[[str, str], Found]

_READERS: tuple[tuple[str, Callable[[str, str], bool], Reader], ...] = (
    ("JSON of targets, pymatgen, emmet, JARVIS", records.is_record, records.read_record),
    ("vasprun.xml", vasp.is_vasprun, vasp.read_vasprun),
    ("PDOS of SIESTA and ABACUS", siesta.is_pdos, siesta.read_pdos),
    ("DOSCAR of VASP or LOBSTER", vasp.is_doscar, vasp.read_doscar),
    ("projwfc.x", espresso.is_projwfc, espresso.read_projwfc),
    ("text in columns", lambda content, name: True, text.read_text),
)
"""What can be read, how it is known by its content, and what reads it; the first that knows a file takes it.

What is in another way no density of states is in ``other_kinds.py``; arrays of numpy, which are no text, in ``arrays.py``.
"""


def read_curves(path: str | Path, *, zero: float | None = None, sigma: float | None = None) -> ReadCurves:
    """Read densities of states from a file, or from a folder of VASP or projwfc.x.

    :param path: of any kind in the table above, packed by gzip, bzip2 or xz or not.
    :param zero: the energy in eV, as in the file, that becomes zero; by default the valence band maximum or Fermi energy that
        the file tells.
    :param sigma: broadening in eV, if the file does not state it.
    :raises ContentError: one line, if the file cannot be read.
    """
    path = user_path(path)
    check_path(path)
    if path.is_dir():
        return _read_folder(path, zero, sigma)
    beside = espresso.set_of(path)
    if beside is not None:
        return curves_from(espresso.read_set(beside), path.name, zero, sigma)
    return read_content(read_bytes(path), path.name, zero=zero, sigma=sigma)


def read_content(
    content: str | bytes, name: str = "the file", *, zero: float | None = None, sigma: float | None = None
) -> ReadCurves:
    """Read densities of states from the content of a file.

    :param name: of the file, for messages.
    :raises ContentError: as :func:`read_curves`.
    """
    if isinstance(content, bytes):
        content = unpacked(content, name)
        if arrays.is_array(content):
            return curves_from(arrays.read_array(content, name), name, zero, sigma)
        refuse_bytes(content, name)
        content = text_of(content, name)
    else:
        content = plain(content)
    bare = re.sub(r"\.(?:gz|bz2|xz)$", "", name)
    for _, knows, reader in _READERS:
        if reader is text.read_text:
            refuse_text(content, name)
        if knows(content, bare):
            return curves_from(reader(content, bare), name, zero, sigma)
    raise AssertionError("the last reader takes everything")


def _read_folder(folder: Path, zero: float | None, sigma: float | None) -> ReadCurves:
    for pattern in ("vasprun.xml*", "DOSCAR.lobster*", "DOSCAR*"):
        files = sorted(folder.glob(pattern))
        if files:
            return read_curves(files[0], zero=zero, sigma=sigma)
    sets = espresso.sets_in(folder)
    if len(sets) == 1:
        return curves_from(espresso.read_set(sets[0]), folder.name, zero, sigma)
    if sets:
        names = ", ".join(Path(s).name for s in sets[:3])
        raise ContentError(f"{folder} holds files of several runs of projwfc.x ({names}); give the .pdos_tot of one")
    raise ContentError(f"{folder} is a folder without vasprun.xml, DOSCAR or *.pdos_atm# files; give a file of curves")
