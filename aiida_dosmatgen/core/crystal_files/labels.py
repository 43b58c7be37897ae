"""Labelled crystals of other programs: extxyz files with a density of states for each atom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contacts import closest_contacts
from ..crystals import CrystalSet
from ..errors import ContentError
from .structures import read_frames

if TYPE_CHECKING:
    import ase

LEAST_CONTACT = 0.4
"""Of the sum of covalent radii; atoms nearer than that are a mistake, most often fractional positions taken for Cartesian."""

_REFERENCE = r"(?:ref|dft|qm|pbe)[_-]?"
_KNOWN = {"dos", "complete_below", "numbers", "positions", "spacegroup", "unit_cell", "occupancy"}
_SHOWN = 6  # frames or names that a note lists


def read_labels(path: str | Path) -> tuple[CrystalSet, list[str]]:
    """Read crystals with the array ``dos`` (states/eV), and energies, forces and stresses where all of them have those.

    Energies and forces are those of ``energy`` and ``forces``, or of what training sets call ``REF_energy`` and ``REF_forces``.

    As where sets are imported, a crystal without labels that can be learnt from is left out and named, with the reason.

    :return: with the columns ``dos``, ``complete_below``, and ``energy``, ``forces``, ``stress`` or none of these; and what was
        left out, by crystal, in words.
    :raises ContentError: if no labelled crystal is left.
    """
    dropped: dict[int, str] = {}
    read = read_frames(path, dropped)
    if read.frames is None or not any("dos" in frame.arrays for frame in read.frames):
        raise ContentError(f"{path}, crystal 0: no array 'dos'; labelled crystals need a DOS for each atom")
    count = len(read.frames) + len(dropped)
    numbers = [i for i in range(count) if i not in dropped]
    size = Counter(frame.arrays["dos"].shape[1:] for frame in read.frames if "dos" in frame.arrays).most_common(1)[0][0]
    contacts = closest_contacts(read.crystals)
    reasons = [_no_label(frame, size, near) for frame, near in zip(read.frames, contacts, strict=True)]
    dropped |= {number: reason for number, reason in zip(numbers, reasons, strict=True) if reason is not None}
    kept = [i for i, reason in enumerate(reasons) if reason is None]
    if not kept:
        raise ContentError(f"{path}: no labelled crystal among {count}; crystal {min(dropped)}: {dropped[min(dropped)]}")
    frames, numbers = [read.frames[i] for i in kept], [numbers[i] for i in kept]
    notes = list[str]()
    if dropped:
        named = [f"crystal {i} ({dropped[i]})" for i in sorted(dropped)]
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        notes.append(f"left out: {', '.join(named[:_SHOWN])}{more} of {count}")
    limits = [frame.info.get("complete_below") for frame in frames]
    without = [number for number, limit in zip(numbers, limits, strict=True) if limit is None]
    if without:
        notes.append(f"no complete_below, taken as known up to the last energy: {_listed(without, len(frames), count)}")
    crystal: dict[str, np.ndarray] = {"complete_below": np.array([np.inf if x is None else float(x) for x in limits])}
    atom: dict[str, np.ndarray] = {"dos": np.concatenate([np.asarray(frame.arrays["dos"], np.float32) for frame in frames])}
    energies, forces, stresses = (_column(frames, numbers, count, what, notes) for what in ("energy", "forces", "stress"))
    if energies is not None and forces is not None:
        crystal["energy"], atom["forces"] = np.array(energies, float).reshape(-1), np.concatenate(forces)
        if stresses is not None:
            crystal["stress"] = np.stack([_matrix(stress) for stress in stresses])
    elif (energies is None) != (forces is None):
        notes.append(f"{'forces' if energies is None else 'energies'} left out, which are used with the other only")
    others = {key for frame in frames for key in (*frame.arrays, *frame.info)} - _KNOWN
    others = {key for key in others if not re.fullmatch(rf"(?:{_REFERENCE})?(?:energy|forces?|stress)", key, re.IGNORECASE)}
    if others:
        names = sorted(others)
        notes.append(f"not taken: {', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}")
    crystals = read.crystals[kept]
    plain = CrystalSet(*(getattr(crystals, name) for name in ("n_atoms", "numbers", "fractional", "lattices")))
    return plain.with_columns(crystal, atom), notes


# --- parts ----------------------------------------------------------------------------------------------------------------


def _no_label(frame: ase.Atoms, size: tuple[int, ...], contact: float) -> str | None:
    """Say why a crystal has no labels that can be learnt from, None if it has."""
    dos, limit = frame.arrays.get("dos"), frame.info.get("complete_below")
    if dos is None:
        return "no array 'dos'"
    if dos.ndim != 2 or dos.shape[1:] != size or dos.dtype.kind not in "fi":
        values = "×".join(map(str, dos.shape[1:])) or "one"
        return f"its DOS has {values} values for each atom, that of others {'×'.join(map(str, size)) or 'one'}"
    if not np.isfinite(dos).all() or dos.min() < -1e-6 * max(float(dos.max()), 1e-300):
        return "its DOS is negative or not finite"
    if dos.max() <= 0:
        return "its DOS is zero everywhere"
    try:
        if limit is not None and np.isnan(float(limit)):
            raise ValueError
    except (TypeError, ValueError):
        return f"complete_below must be an energy in eV, not {str(limit)[:40]!r}"
    if contact < LEAST_CONTACT:
        return f"atoms as near as {contact:.2f} of their covalent radii; are positions fractional where Cartesian ones belong?"
    return None


def _column(frames: Sequence[ase.Atoms], numbers: Sequence[int], count: int, what: str, notes: list[str]) -> list[Any] | None:
    """Return what all frames have, None if one has not; what is left out for that is noted."""
    values: list[Any] = []
    names: set[str] = set()
    for frame in frames:
        name, value = label_of_frame(frame, what)
        values.append(value)
        names |= set() if value is None else {name}
    without = [number for number, value in zip(numbers, values, strict=True) if value is None]
    if len(without) == len(frames):
        return None
    plural = {"energy": "energies", "forces": "forces", "stress": "stresses"}[what]
    if without:
        notes.append(f"{plural} left out of all crystals, because some have none: {_listed(without, len(frames), count)}")
        return None
    if names != {what}:
        notes.append(f"{plural} from {' and '.join(sorted(names))}")
    return values


def label_of_frame(frame: ase.Atoms, what: str) -> tuple[str, Any]:
    """Return what a frame has of energy, forces or stress, and what it is called there."""
    where = frame.arrays if what == "forces" else frame.info
    wanted = re.compile(_REFERENCE + {"energy": "energy", "forces": "forces?", "stress": "stress"}[what], re.IGNORECASE)
    for key in where:
        if wanted.fullmatch(str(key)):
            return str(key), where[key]
    results = frame.calc.results if frame.calc is not None else {}
    return what, results.get(what)


def _matrix(stress: Any) -> np.ndarray:
    """Return a stress as a matrix, from one of nine numbers or of six in Voigt's order."""
    from ase.stress import voigt_6_to_full_3x3_stress

    values = np.asarray(stress, float)
    return voigt_6_to_full_3x3_stress(values) if values.size == 6 else values.reshape(3, 3)


def _listed(frames: Sequence[int], kept: int, count: int) -> str:
    if len(frames) == kept:
        return "all crystals"
    more = f" and {len(frames) - _SHOWN} more" if len(frames) > _SHOWN else ""
    return f"crystal{'s' * (len(frames) > 1)} {', '.join(map(str, frames[:_SHOWN]))}{more} of {count}"
