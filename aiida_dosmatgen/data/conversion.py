"""Between crystals and AiiDA's ``StructureData``: the one place that knows where AiiDA keeps that class."""

from __future__ import annotations

import numpy as np
from aiida.orm import StructureData

from ..core.crystals import CrystalSet
from ..core.elements import SYMBOLS, atomic_number, formula
from ..core.errors import ContentError

__all__ = ["StructureData", "crystal_of", "formula_of", "structure_of"]


def structure_of(crystal: CrystalSet) -> StructureData:
    """Return the one crystal of a set as an unstored ``StructureData``, atoms in the same order, wrapped into the cell.

    :raises ContentError: if it is not one crystal, or not a crystal at all.
    """
    if len(crystal) != 1:
        raise ContentError(f"{len(crystal)} crystals where one is needed")
    defect = crystal.defect()
    if defect:
        raise ContentError(defect)
    structure = StructureData(cell=crystal.lattices[0].tolist())
    positions = np.mod(crystal.fractional, 1.0) @ crystal.lattices[0]
    for number, position in zip(crystal.numbers, positions, strict=True):
        structure.append_atom(position=position.tolist(), symbols=SYMBOLS[number])
    structure.label = crystal.formulas[0]
    return structure


def crystal_of(structure: StructureData) -> CrystalSet:
    """Return a structure as a set of one crystal, atoms in the same order.

    :raises ContentError: for vacancies, alloys and structures that are not periodic in three dimensions.
    """
    if not all(structure.pbc):
        raise ContentError("the structure is not periodic in three dimensions")
    kinds = {kind.name: kind for kind in structure.kinds}
    numbers = []
    for site in structure.sites:
        kind = kinds[site.kind_name]
        if kind.is_alloy or kind.has_vacancies:
            raise ContentError(f"the kind {kind.name} is an alloy or has vacancies; give an ordered structure")
        numbers.append(atomic_number(kind.symbol))
    cell = np.array(structure.cell)
    positions = np.array([site.position for site in structure.sites])
    return CrystalSet(np.array([len(numbers)]), np.array(numbers), positions @ np.linalg.inv(cell), cell[None]).check()


def formula_of(structure: StructureData) -> str:
    """Return the reduced formula of a structure, as pymatgen writes it."""
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    return formula([atomic_number(symbols[site.kind_name]) for site in structure.sites])
