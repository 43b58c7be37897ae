"""Labelled crystals of other programs: extxyz files with a density of states for each atom."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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

    :return: with the columns ``dos``, ``complete_below``, and ``energy``, ``forces``, ``stress`` or none of these; and what was
        left out, by frame, in words.
    :raises ContentError: naming the frame.
    """
    read = read_frames(path)
    frames = read.frames
    if frames is None or not any("dos" in frame.arrays for frame in frames):
        raise ContentError(f"{path}, crystal 0: no array 'dos'; labelled crystals need a DOS for each atom")
    size = None
    for i, frame in enumerate(frames):
        dos = frame.arrays.get("dos")
        if dos is None:
            raise ContentError(f"{path}, crystal {i}: no array 'dos'; labelled crystals need a DOS for each atom")
        size = dos.shape[1:] if size is None else size
        if dos.ndim != 2 or dos.shape[1:] != size or dos.dtype.kind not in "fi":
            raise ContentError(
                f"{path}, crystal {i}: its DOS has {'×'.join(map(str, dos.shape[1:])) or 'one'} values for each atom, "
                f"that of crystal 0 {'×'.join(map(str, size)) or 'one'}; put all on the same energies"
            )
    check_contacts(read.crystals, lambda i: f"{path}, crystal {i}")
    notes = list[str]()
    limits = [frame.info.get("complete_below") for frame in frames]
    without = [i for i, limit in enumerate(limits) if limit is None]
    if without:
        notes.append(f"no complete_below, taken as known up to the last energy: {_listed(without, len(frames))}")
    crystal: dict[str, np.ndarray] = {"complete_below": np.array([np.inf if x is None else _number(x, path) for x in limits])}
    atom: dict[str, np.ndarray] = {"dos": np.concatenate([np.asarray(frame.arrays["dos"], np.float32) for frame in frames])}
    energies, forces, stresses = (_column(frames, what, notes) for what in ("energy", "forces", "stress"))
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
    plain = CrystalSet(*(getattr(read.crystals, name) for name in ("n_atoms", "numbers", "fractional", "lattices")))
    return plain.with_columns(crystal, atom), notes


def check_contacts(crystals: CrystalSet, where: Callable[[int], str]) -> None:
    """Refuse crystals with atoms on top of each other.

    :param where: says where a crystal is from, by its number in the set.
    :raises ContentError: naming the first.
    """
    contacts = closest_contacts(crystals)
    near = np.flatnonzero(contacts < LEAST_CONTACT)
    if near.size:
        i = int(near[0])
        raise ContentError(
            f"{where(i)} ({crystals.formulas[i]}): atoms are as near as {contacts[i]:.2f} of their covalent radii; "
            "are the positions fractional ones where Cartesian ones in Å belong?"
        )


# --- parts ----------------------------------------------------------------------------------------------------------------


def _column(frames: Sequence[ase.Atoms], what: str, notes: list[str]) -> list[Any] | None:
    """Return what all frames have, None if one has not; what is left out for that is noted."""
    values: list[Any] = []
    names: set[str] = set()
    for frame in frames:
        name, value = label_of_frame(frame, what)
        values.append(value)
        names |= set() if value is None else {name}
    without = [i for i, value in enumerate(values) if value is None]
    if len(without) == len(frames):
        return None
    plural = {"energy": "energies", "forces": "forces", "stress": "stresses"}[what]
    if without:
        notes.append(f"{plural} left out of all crystals, because some have none: {_listed(without, len(frames))}")
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


def _number(value: Any, path: str | Path) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ContentError(f"{path}: complete_below must be an energy in eV, not {str(value)[:40]!r}") from None


def _listed(frames: Sequence[int], count: int) -> str:
    if len(frames) == count:
        return "all crystals"
    more = f" and {len(frames) - _SHOWN} more" if len(frames) > _SHOWN else ""
    return f"crystal{'s' * (len(frames) > 1)} {', '.join(map(str, frames[:_SHOWN]))}{more} of {count}"
