"""The pseudopotentials that Debian packages, as a family with cutoffs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiida.orm import QueryBuilder
from aiida_pseudo.data.pseudo import UpfData
from aiida_pseudo.groups.family import CutoffsPseudoPotentialFamily

from ..core.dft.pseudopotentials import DEBIAN_PBE, collect

FAMILY = "dosmatgen/debian-pbe"
STRINGENCIES = ("fast", "normal")


def ensure_pseudo_family(label: str = FAMILY) -> CutoffsPseudoPotentialFamily:
    """Return the family of the pseudopotentials that Debian packages, with cutoffs for each stringency.

    :raises ContentError: if there are none on this machine.
    """
    with tempfile.TemporaryDirectory() as name:
        found = collect(Path(name))
        family = QueryBuilder().append(CutoffsPseudoPotentialFamily, filters={"label": label}).first(flat=True)
        if family is not None and not set(found) <= set(family.elements):
            # Left behind by an interruption, or made when fewer files were installed. The nodes of the files stay.
            CutoffsPseudoPotentialFamily.collection.delete(family.pk)
            family = None
        if family is None:
            description = "PBE pseudopotentials of Debian's Quantum ESPRESSO packages"
            family = CutoffsPseudoPotentialFamily.create_from_folder(
                Path(name), label, description=description, pseudo_type=UpfData
            )
    for stringency in STRINGENCIES:
        if stringency not in family.get_cutoff_stringencies():
            pairs = {element: getattr(DEBIAN_PBE[element], stringency) for element in family.elements}
            values = {e: {"cutoff_wfc": float(wfc), "cutoff_rho": float(rho)} for e, (wfc, rho) in pairs.items()}
            family.set_cutoffs(values, stringency, unit="Ry")
    family.set_default_stringency(STRINGENCIES[-1])
    return family
