"""Targets from what is stored: calculations, labelled crystals, other targets."""

from __future__ import annotations

from aiida.orm import BandsData, Dict, Int, List, ProjectionData

from ...core.errors import ContentError
from ...core.target import DosTarget
from ...core.target.wish_text import wishes_of
from ...data.conversion import StructureData
from ...data.crystals import CrystalSetData
from ...data.pdos import target_of
from ...data.target import DosTargetData
from .content import content_function


@content_function
def target_from_pdos(
    structure: StructureData, bands: BandsData, projections: ProjectionData, parameters: Dict
) -> DosTargetData:
    """Return the per-site target that a structure's own DOS makes; arguments as in :func:`.projected_crystal`."""
    return DosTargetData(target_of(structure, bands, projections, parameters), label_source="pw.x and projwfc.x")


@content_function
def target_from_labelled(crystals: CrystalSetData, index: Int) -> DosTargetData:
    """Return the per-site target that one labelled crystal makes.

    :param index: its row.
    """
    return DosTargetData.from_labelled(crystals, index.value)


@content_function
def combine_targets(sites: Dict, n_atoms: Int | None = None, **targets: DosTargetData) -> DosTargetData:
    """Join targets for different sites of a crystal into one.

    :param sites: {name: [indices of atoms]} of the targets, by the names under which they are given; one that is for chosen
        sites already may be left out. One curve, total or not, may go to several sites.
    :param n_atoms: atoms of a candidate, if that is known; it may be more than the sites that have a target.
    """
    places = sites.get_dict()
    stray = sorted(set(places) - set(targets))
    if stray:
        raise ContentError(f"sites are given for {stray[0]!r}, but there is no target of this name")
    names = sorted(targets)
    target = DosTarget.combine(
        [(targets[name].target, places.get(name)) for name in names],
        None if n_atoms is None else n_atoms.value,
        names=names,
    )
    return DosTargetData(target, label_source=f"the targets {', '.join(names)}")


@content_function
def add_wishes(target: DosTargetData, wishes: List) -> DosTargetData:
    """Return a target with further wishes.

    :param wishes: texts such as ``gap >= 1.5``, or their JSON values (:mod:`~aiida_dosmatgen.core.target.wishes`).
    """
    joined = target.target.wishing(wishes_of(wishes.get_list()))
    source = target.base.attributes.get("label_source", None) or "a target"
    return DosTargetData(joined, label_source=f"{source}; {'; '.join(map(str, joined.wishes))}")
