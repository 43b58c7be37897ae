"""What the name of a file says of its curves: programs write a file for each spin, atom or element."""

from __future__ import annotations

import dataclasses
import re

from ...errors import ContentError
from ..found import Found, Parts

_ONE_SPIN = re.compile(r"_(?:UP|DW)\.dat$|_spin_(?:up|dn|down)|\.dos\d+(?:ev)?(?:up|dn)$")  # VASPKIT, FHI-aims, WIEN2k
_ONE_ATOM = re.compile(r"PDOS_A\d+(?:_SOC)?\.dat$|atom_proj(?:ected)?_dos_\w*?[A-Z][a-z]?\d{4}\w*\.dat$")  # VASPKIT, FHI-aims
_ONE_ELEMENT = re.compile(  # VASPKIT, FHI-aims, sumo
    r"^PDOS_([A-Z][a-z]?)(?:_SOC)?\.dat$|^([A-Z][a-z]?)_(?:l_proj_dos\w*|dos)\.dat$"
)


def by_its_name(found: Found, name: str) -> None:
    """Take what the name of a file of orbitals says.

    :raises ContentError: if it is of one spin.
    """
    states = found.states
    if _ONE_SPIN.search(name) and states.values.shape[-3 if isinstance(states, Parts) else 0] == 1:
        raise ContentError(f"{name} is of one spin, by its name; give a table with both: columns energy, spin up, spin down")
    if not isinstance(states, Parts) or states.resolved:
        return
    if _ONE_ATOM.search(name):
        found.states, found.rows = dataclasses.replace(states, resolved=True), "some sites"
    element = _ONE_ELEMENT.search(name)
    if element:
        found.warnings.append(
            f"of {element[1] or element[2]} alone, by its name; taken for all atoms of a cell, which is right if there is no "
            "other element"
        )
