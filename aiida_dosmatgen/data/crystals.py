"""Many crystals as one node."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.crystal_files.structures import read_frames
from ..core.crystals import CrystalSet
from ..core.elements import SYMBOLS, formula_of
from ..core.files.archive import load_arrays
from .base import ContentFileData, as_validation_error, attribute, saved


class CrystalSetData(ContentFileData):
    """A :class:`~aiida_dosmatgen.core.crystals.CrystalSet` of any number of crystals, in one file.

    :param file: a ``CrystalSet``, or the path or stream of an ``npz`` file that holds one.
    :param check: refuse crystals with NaN, without a volume or of unknown elements. Parsers do not check: a candidate that
        exploded is a result, and its status says so.
    :raises ValidationError: for a file of another kind, or naming the first bad crystal.
    """

    DEFAULT_FILENAME = "crystals.npz"

    class AttributesModel(ContentFileData.AttributesModel):
        n_crystals: int = attribute("n_crystals", "number of crystals")
        # nodes before version 0.3 have none of these three
        total_atoms: int | None = attribute("total_atoms", "number of atoms of all crystals together", None)
        sizes: list[int] | None = attribute("sizes", "numbers of atoms that a crystal has, each once", None)
        formulas: list[str] | None = attribute("formulas", "reduced formulas that occur, as pymatgen writes them", None)
        elements: list[str] = attribute("elements", "chemical symbols that occur")
        columns: dict[str, list[str]] = attribute("columns", "names of the values for each crystal and for each atom")

    def __init__(self, file: CrystalSet | str | Path | BinaryIO | None = None, *, check: bool = True, **kwargs: Any) -> None:
        header = kwargs.pop("header", {})
        super().__init__(saved(file, **header) if isinstance(file, CrystalSet) else file, **kwargs)
        if check and file is not None:
            with as_validation_error():
                self.crystals.check()

    @classmethod
    def describe(cls, path: Path) -> dict[str, Any]:
        """Return the attributes of a file of crystals."""
        return cls.describe_crystals(CrystalSet.load(path))

    @classmethod
    def describe_crystals(cls, crystals: CrystalSet) -> dict[str, Any]:
        """Return the attributes of a set of crystals."""
        return {
            "n_crystals": len(crystals),
            "total_atoms": int(crystals.n_atoms.sum()),
            "sizes": sorted(set(crystals.n_atoms.tolist())),
            "formulas": _formulas(crystals),
            "elements": sorted({SYMBOLS[z] for z in set(crystals.numbers.tolist()) if 0 < z < len(SYMBOLS)}),
            "columns": {"crystal": sorted(crystals.crystal_columns), "atom": sorted(crystals.atom_columns)},
        }

    @property
    def crystals(self) -> CrystalSet:
        """The crystals themselves."""
        with as_validation_error(), self.open(mode="rb") as stream:
            return CrystalSet.load(stream)

    @classmethod
    def from_file(cls, path: str | Path, **kwargs: Any) -> CrystalSetData:
        """Make a node from an ``npz`` file of this package, or from any file of structures
        (extxyz, cif, POSCAR, JSON of pymatgen, …; see :mod:`~aiida_dosmatgen.core.crystal_files.structures`).

        :raises ValidationError: for a truncated or foreign file, and crystals that are none.
        """
        path = Path(path).expanduser()
        if path.suffix == ".npz":
            return cls(path, **kwargs)
        with as_validation_error():
            read = read_frames(path)
            one, frames = read.crystals, read.frames or []
            plain = CrystalSet(one.n_atoms, one.numbers, one.fractional, one.lattices)
            if frames and all("source" in frame.info and "id" in frame.info for frame in frames):
                named = {name: np.array([str(frame.info[name]) for frame in frames]) for name in ("source", "id")}
                plain = plain.with_columns(crystal=named)
            return cls(plain, **kwargs)


def _formulas(crystals: CrystalSet) -> list[str]:
    """Return the reduced formulas of the crystals whose elements are known, each once."""
    compositions = set(crystals.compositions)
    return sorted({formula_of(counts) for counts in compositions if all(0 < z < len(SYMBOLS) for z, _ in counts)})


def file_header(path: Path) -> dict[str, Any]:
    """Return the header entries with which a file of crystals was saved."""
    return load_arrays(path, "dosmatgen-crystals", 1)[0]
