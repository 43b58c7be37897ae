"""Output of projwfc.x: one file for each atomic wave function, and one of sums. dos.x writes a table (``text.py``)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...dft.bands import CHANNELS
from ...elements import ATOMIC_NUMBERS
from ...errors import ContentError
from ..content import read_bytes, text_of
from ..found import Found, Parts, Total, parts_beside
from .notes import fermi_energy
from .table import Table, read_table

_WAVE_FUNCTION = re.compile(
    r"(?P<prefix>.*)\.pdos_atm#(?P<atom>\d+)\((?P<kind>[^)]*)\)_wfc#(?P<wfc>\d+)\((?P<orbital>[spdf])(?:_[^)]*)?\)$"
)
_ABSOLUTE = "its energies are absolute; give --zero with the Fermi energy that pw.x printed, or put the file of dos.x beside it"
_WHOLE = 0.98  # of the projections; the last digits of many files may lose the rest
_HEADING = re.compile(r"^\s*#?\s*(?:ik\s+)?E\s*\(eV\).*?(?:ldos(?:up)?\(E\)|\bpdos(?:up)?\(E\))", re.IGNORECASE)


def is_projwfc(text: str, name: str) -> bool:
    """Say whether a text is one of the files of projwfc.x."""
    return bool(_HEADING.match(text.lstrip("\n")[:400]))


def read_projwfc(text: str, name: str) -> Found:
    """Read one file alone: the total with the share that was projected, or one wave function of one atom."""
    total, local, fermi = _columns(text, name)
    if total is not None:
        energies, values = total
        found = Found("total DOS of projwfc.x", energies, Total(values), fermi=fermi, absolute=_ABSOLUTE)
        if local is not None and values.sum() > 0:
            found.notes.append(f"projections held {100 * float(local[1].sum() / values.sum()):.1f} % of it")
        return found
    if local is None:
        raise ContentError(f"{name}: the heading names neither a total nor a local curve of all its spins")
    energies, values = local
    match = _WAVE_FUNCTION.match(name)
    if match is None:
        states = Parts(values[None, :, None])
    else:
        parts = np.zeros((1, len(values), len(CHANNELS), energies.size))
        parts[0, :, CHANNELS.index(match["orbital"])] = values
        states = Parts(parts, CHANNELS)
    lacks = "it is not a whole site; give the folder, or the .pdos_tot file with the others beside it"
    found = Found("wave function of one atom, of projwfc.x", energies, states, fermi=fermi, lacks=lacks)
    found.notes.append("not the whole site: give the folder, or the .pdos_tot file with the others beside it")
    return found


def sets_in(folder: Path) -> list[Path]:
    """Return the paths without ending of the sets of files in a folder."""
    matches = (_WAVE_FUNCTION.match(path.name) for path in sorted(folder.iterdir()))
    return sorted({folder / match["prefix"] for match in matches if match})


def set_of(path: Path) -> Path | None:
    """Return the path without ending of the set that a ``.pdos_tot`` file belongs to; None if it stands alone."""
    if path.suffix != ".pdos_tot" or not path.is_file():
        return None
    prefix = path.with_suffix("")
    return prefix if prefix in sets_in(path.parent) else None


def read_set(prefix: Path) -> Found:
    """Read all files of a run of projwfc.x, and the Fermi energy from the file of dos.x beside them.

    :param prefix: their path without ending.
    :raises ContentError: if a file is missing or of another run.
    """
    files: dict[int, list[tuple[str, Path]]] = {}
    symbols: dict[int, str] = {}
    for path in sorted(prefix.parent.iterdir()):
        match = _WAVE_FUNCTION.match(path.name)
        if match and match["prefix"] == prefix.name:
            atom = int(match["atom"])
            files.setdefault(atom, []).append((match["orbital"], path))
            symbols[atom] = re.sub(r"(?<=[A-Za-z])[\d_-].*$", "", match["kind"])
    missing = sorted(set(range(1, max(files) + 1)) - set(files))
    if missing:
        raise ContentError(f"{prefix}.pdos_atm# files: those of atom {missing[0]} are missing")
    energies: np.ndarray | None = None
    parts: np.ndarray | None = None
    for atom, wave_functions in sorted(files.items()):
        for orbital, path in wave_functions:
            _, local, _ = _columns(_text(path), path.name)
            if local is None:
                raise ContentError(f"{path} has no column ldos(E)")
            if energies is None or parts is None:
                energies = local[0]
                parts = np.zeros((len(files), len(local[1]), len(CHANNELS), energies.size))
            if (
                local[0].shape != energies.shape
                or not np.allclose(local[0], energies, atol=1e-4)
                or len(local[1]) != parts.shape[1]
            ):
                raise ContentError(f"{path} has other energies or spins than the files before; are they of one run?")
            parts[atom - 1, :, CHANNELS.index(orbital)] += local[1]
    assert energies is not None and parts is not None
    found = Found("set of files of projwfc.x", energies, Parts(parts, CHANNELS), absolute=_ABSOLUTE)
    if all(symbol in ATOMIC_NUMBERS for symbol in symbols.values()):
        found.elements = tuple(symbols[atom] for atom in sorted(symbols))
    total_file = prefix.with_name(f"{prefix.name}.pdos_tot")
    if total_file.is_file():
        total, projected, found.fermi = _columns(_text(total_file), total_file.name)
        if total is not None:
            if total[0].shape != energies.shape or not np.allclose(total[0], energies, atol=1e-4):
                raise ContentError(f"{total_file} has other energies than the files of the atoms; are they of one run?")
            if projected is not None and float(parts.sum()) < _WHOLE * float(projected[1].sum()):
                held = 100 * float(parts.sum() / projected[1].sum())
                found = Found("total DOS of projwfc.x", energies, Total(total[1]), absolute=_ABSOLUTE)
                found.notes.append(f"the files of sites beside it hold {held:.0f} % of its projections: some are missing")
                return _with_fermi(found, prefix)
            found.states = parts_beside(total[1], parts, CHANNELS)
    else:
        found.notes.append("no .pdos_tot beside them: sites hold what the projectors saw, not all of the total")
    return _with_fermi(found, prefix)


def _with_fermi(found: Found, prefix: Path) -> Found:
    for path in [prefix.with_name(f"{prefix.name}.dos"), *sorted(prefix.parent.glob("*.dos"))]:
        if found.fermi is None and path.is_file():
            stated = fermi_energy([_text(path).split("\n", 1)[0]])
            if stated:
                found.fermi = stated[0]
                found.notes.append(f"Fermi energy from {path.name}")
    return found


def _text(path: Path) -> str:
    return text_of(read_bytes(path), path.name)


_Curve = tuple[np.ndarray, np.ndarray]


def _columns(text: str, name: str) -> tuple[_Curve | None, _Curve | None, float | None]:
    """Return energies with the total by spin, the same with projections, and the Fermi energy; None for what is not there."""
    table: Table = read_table(text, name)
    heading = next((note for note in table.notes if re.search(r"\(eV\)", note)), "")
    if re.match(r"ik\b", heading):
        raise ContentError(f"{name} is resolved by k-points (kresolveddos); run projwfc.x without it")
    names = re.findall(r"[A-Za-z]+\(E\)", heading)
    values = table.values
    if len(names) > values.shape[1] - 1:
        raise ContentError(f"{name}: the heading names {len(names)} curves, and there are {values.shape[1] - 1}")

    def pick(*wanted: str) -> _Curve | None:
        found = [values[:, 1 + names.index(word)] for word in wanted if word in names]
        return (values[:, 0], np.stack(found)) if len(found) == len(wanted) else None

    total = pick("dosup(E)", "dosdw(E)") or pick("dos(E)")
    local = pick("ldosup(E)", "ldosdw(E)") or pick("ldos(E)")
    if total is not None:
        projected = pick("pdosup(E)", "pdosdw(E)") or pick("pdos(E)")
        local = projected
    if total is None and local is None:
        raise ContentError(f"{name}: the heading {heading[:60]!r} names neither dos(E) nor ldos(E)")
    stated = fermi_energy(table.notes)
    return total, local, stated[0] if stated else None
