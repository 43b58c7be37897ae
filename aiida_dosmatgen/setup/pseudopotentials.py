"""The pseudopotentials of campaigns as families with cutoffs: PseudoDojo's, and those that Debian packages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiida.orm import QueryBuilder
from aiida_pseudo.data.pseudo import UpfData
from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily, PseudoPotentialFamily

from ..core.dft import pseudodojo
from ..core.dft.pseudopotentials import DEBIAN_PBE, collect

DEBIAN_FAMILY = "dosmatgen/debian-pbe"

Cutoffs = Mapping[str, Mapping[str, tuple[float, float]]]
"""(ecutwfc, ecutrho) in Ry of each element, by stringency."""


def ensure_pseudo_family() -> PseudoPotentialFamily:
    """Return the family of PseudoDojo 0.4 PBE standard, with its cutoffs.

    One of its label that somebody installed with aiida-pseudo is taken as it is. Otherwise the files are fetched, and compared
    with their sha256.

    :raises ContentError: if they cannot be fetched.
    """
    table = pseudodojo.table()
    family = _known(pseudodojo.FAMILY, table)
    if family is not None:
        return family
    cutoffs = {
        stringency: {element: (wfc := float(entry["cutoffs"][i]), 4 * wfc) for element, entry in table.items()}
        for i, stringency in enumerate(("low", "normal", "high"))
    }
    with tempfile.TemporaryDirectory() as name:
        pseudodojo.fetch(Path(name))
        return _make(pseudodojo.FAMILY, Path(name), "PseudoDojo 0.4, PBE, scalar-relativistic, standard", cutoffs, "normal")


def ensure_debian_family() -> PseudoPotentialFamily:
    """Return the family of the pseudopotentials that Debian packages: of few elements, of which the first models were made.

    :raises ContentError: if there are none on this machine.
    """
    with tempfile.TemporaryDirectory() as name:
        found = collect(Path(name))
        family = _known(DEBIAN_FAMILY, found)
        if family is not None:
            return family
        cutoffs = {
            stringency: {element: getattr(DEBIAN_PBE[element], stringency) for element in found}
            for stringency in ("fast", "normal")
        }
        description = "PBE pseudopotentials of Debian's Quantum ESPRESSO packages"
        return _make(DEBIAN_FAMILY, Path(name), description, cutoffs, "normal")


def _known(label: str, elements: Iterable[str]) -> PseudoPotentialFamily | None:
    """Return a family if it is whole. What an interruption left behind is removed; the nodes of its files stay."""
    family = QueryBuilder().append(PseudoPotentialFamily, filters={"label": label}).first(flat=True)
    if family is None or not isinstance(family, CutoffsPseudoPotentialFamily):
        return family
    if set(elements) <= set(family.elements) and family.get_cutoff_stringencies():
        return family
    CutoffsPseudoPotentialFamily.collection.delete(family.pk)
    return None


def _make(label: str, folder: Path, description: str, cutoffs: Cutoffs, default: str) -> CutoffsPseudoPotentialFamily:
    family = CutoffsPseudoPotentialFamily.create_from_folder(folder, label, description=description, pseudo_type=UpfData)
    for stringency, pairs in cutoffs.items():
        values = {e: {"cutoff_wfc": float(wfc), "cutoff_rho": float(rho)} for e, (wfc, rho) in pairs.items()}
        family.set_cutoffs(values, stringency, unit="Ry")
    family.set_default_stringency(default)
    return family
