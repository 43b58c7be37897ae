"""Curves by the name of a file, or of a crystal in one: what ``dosmatgen compare`` takes."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from ...core.crystals import CrystalSet
from ...core.curve_columns import curves_of
from ...core.curve_files import ReadCurves, read_curves
from ...core.curve_files.found import Unknown
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.files.archive import is_of_others, load_arrays, refuse_bomb
from ...core.labelled.importing.mpdos import read_records
from ...core.labelled.shards import MANIFEST, load_shards
from ...core.paths import user_path
from ...core.target import DosTarget

COLUMNS = ("dos", "predicted_dos")


def curves_named(reference: str, zero: float | None = None, sigma: float | None = None) -> ReadCurves:
    """Read the curves that are meant by ``FILE``, or by ``FILE#K`` for crystal K (from 0) of a set.

    :param zero: the energy in eV, as in the file, that becomes zero; by default what the file tells.
    :param sigma: broadening in eV, if the file does not state it.
    :raises ContentError: if there are none.
    """
    path, row = user_path(reference), None
    match = re.fullmatch(r"(.+)#(\d+)", reference)
    if match and not path.exists():
        path, row = user_path(match[1]), int(match[2])
    if not path.exists():
        raise ContentError(f"{path} does not exist")
    if is_target(path):
        return _shifted(of_target(DosTarget.load(path), path.name), zero)
    if is_set(path):
        crystals = load_set(path)
        if row is None:
            if len(crystals) > 1:
                raise ContentError(f"{path} holds {len(crystals)} crystals; say which, from 0: {path}#0")
            row = 0
        return _shifted(of_crystal(crystals, row, path.name), zero)
    if row is not None:
        raise ContentError(f"{path} is no set of crystals, so it has no crystal {row}; leave #{row} out")
    return read_curves(path, zero=zero, sigma=sigma)


def format_of(path: Path) -> str | None:
    """Return what the header of an npz file calls it; None if it is none of this package."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    refuse_bomb(path, str(path))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(json.loads(str(archive["__header__"])).get("format")) if "__header__" in archive.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, AttributeError):
        return None


def is_target(path: Path) -> bool:
    """Say whether a file is a target."""
    return format_of(path) == "dosmatgen-target"


def is_set(path: Path) -> bool:
    """Say whether a path is a set of crystals: npz, a folder of shards or its manifest, records of MP-DOS."""
    if path.is_dir():
        return (path / MANIFEST).is_file()
    return (path.suffix == ".npz" and not is_of_others(path)) or path.name == MANIFEST or is_mp_dos(path)


def is_mp_dos(path: Path) -> bool:
    """Say whether a file holds records of MP-DOS."""
    with open(path, "rb") as stream:
        start = stream.read(1)
    if start not in (b"[", b"{"):
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and {"atomic_numbers", "y"} <= first.keys()


def load_set(path: Path) -> CrystalSet:
    """Read a set of crystals of whichever kind.

    :raises ContentError: if it is damaged.
    """
    if path.is_dir():
        return load_shards(path)
    if path.name == MANIFEST:
        return load_shards(path.parent)
    return CrystalSet.load(path) if path.suffix == ".npz" else read_records(path)


def header_of(path: Path) -> dict:
    """Return the header of an npz file of crystals."""
    return load_arrays(path, "dosmatgen-crystals", 1)[0]


def column_of(crystals: CrystalSet) -> str | None:
    """Return the column with densities of states, None if there is none."""
    return next((name for name in COLUMNS if name in crystals.atom_columns), None)


def of_crystal(crystals: CrystalSet, row: int, name: str) -> ReadCurves:
    """Return the density of states of one crystal of a set.

    :raises ContentError: if there is no such crystal, or it has none.
    """
    if not 0 <= row < len(crystals):
        raise ContentError(f"{name} has the crystals 0 to {len(crystals) - 1}, not {row}")
    column = column_of(crystals)
    if column is None:
        raise ContentError(f"the crystals of {name} have no densities of states; label them first (`dosmatgen label`)")
    try:
        curves = curves_of(crystals, row, column)
    except ContentError as exception:
        raise ContentError(f"{name}, crystal {row}: {exception}") from None
    elements = tuple(SYMBOLS[z] for z in crystals[row].numbers)
    said = f"{name}, crystal {row} ({crystals.formulas[row]}): {column}, {len(curves)} sites, {curves.meaning} of the total"
    return ReadCurves(curves, said, "crystal of a set", n_atoms=len(elements), elements=elements)


def of_target(target: DosTarget, name: str) -> ReadCurves:
    """Return the curves of a target."""
    curves = target.dos if target.sigma is not None else dataclasses.replace(target.dos, sigma=0.0)
    unknown: set[Unknown] = set()
    if curves.zero is None:
        unknown.add("zero")
    if target.sigma is None:
        unknown.add("sigma")
    return ReadCurves(
        curves,
        f"{name}: target, {f'{len(curves)} sites' if curves.resolved else 'total per atom'}"
        + (", a curve made of wishes" if target.only_wishes else ""),
        "target",
        unknown=frozenset(unknown),
        n_atoms=target.n_atoms,
        per_atom=target.kind == "total",
        sites=target.sites,
    )


def _shifted(read: ReadCurves, zero: float | None) -> ReadCurves:
    if zero is None:
        return read
    return dataclasses.replace(read, curves=read.curves.shifted(zero), unknown=read.unknown - {"zero"})
