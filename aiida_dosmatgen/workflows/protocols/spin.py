"""Spin as the builders of aiida-quantumespresso ask for it, as entries of the recipe that labels and validations share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiida_quantumespresso.common.types import ElectronicType, SpinType

from ...core.dft.recipe import OTHER_MOMENT, Recipe
from ...data.conversion import StructureData


def with_spin(
    recipe: Mapping,
    elements: Iterable[str] | None,
    structure: StructureData | None = None,
    spin_type: SpinType | None = None,
    electronic_type: ElectronicType | None = None,
    initial_magnetic_moments: Mapping[str, float] | None = None,
) -> dict:
    """Return the keys of a recipe with the moments that these arguments mean; without them, with those that it had.

    :param elements: that are computed.
    :param structure: whose kinds the moments may name; else they are named by elements.
    :param spin_type: ``NONE`` computes all without spin, ``COLLINEAR`` all with spin; None those with magnetic elements.
    :param electronic_type: ``METAL`` only, as occupations are smeared: whether there is a gap is what is asked.
    :param initial_magnetic_moments: in μB, by kinds; kinds of one element have one moment. Elements without start unpolarised.
    :raises ValueError: for what pw.x can do and this recipe cannot, with one line.
    """
    if electronic_type not in (None, ElectronicType.METAL):
        raise ValueError(
            f"electronic_type is {electronic_type.value}; a density of states is computed with smearing, as of a metal"
        )
    if spin_type not in (None, SpinType.NONE, SpinType.COLLINEAR):
        raise ValueError(f"spin_type is {spin_type.value}; densities of states are computed with collinear spin, or without")
    if spin_type is SpinType.NONE:
        if initial_magnetic_moments:
            raise ValueError("initial_magnetic_moments do not go with spin_type none; leave one of them out")
        return {**recipe, "moments": {}}
    if initial_magnetic_moments:
        return {**recipe, "moments": _by_element(initial_magnetic_moments, structure)}
    if spin_type is SpinType.COLLINEAR:
        usual = recipe.get("moments", Recipe().moments)
        return {**recipe, "moments": {**dict.fromkeys(sorted(elements or ()), OTHER_MOMENT), **usual}}
    return dict(recipe)


def _by_element(moments: Mapping[str, float], structure: StructureData | None) -> dict[str, float]:
    symbols = {kind.name: kind.symbol for kind in structure.kinds} if structure is not None else {}
    found: dict[str, float] = {}
    for name, moment in moments.items():
        symbol = symbols.get(name, name)
        if found.setdefault(symbol, float(moment)) != float(moment):
            raise ValueError(
                f"initial_magnetic_moments: {symbol} has several; kinds of one element are one here, as curves are of elements"
            )
    return found
