"""Which force fields may be used without anybody's word: the shipped one, and calculators that run no code but their own.

Names and arguments of calculators come with job files and archives. A class of ASE may be asked to start any program
(``command``), and a callable may be anything, so that those which can be named are listed; packages offer others by entry
points, which the user of a machine installs.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files

ASE_CALCULATORS = (
    "ase.calculators.emt:EMT",
    "ase.calculators.lj:LennardJones",
    "ase.calculators.morse:MorsePotential",
    "ase.calculators.eam:EAM",
)
"""Classes of ASE that compute in Python, and start no program whatever their arguments are."""

ENTRY_POINTS = "dosmatgen.calculators"
"""Group of entry points under which packages offer ASE calculators by name."""


def problem_of_calculator(name: str) -> str | None:
    """Say in one line why a calculator of this name may not be used, or None; entry points are looked up where jobs run."""
    if name in ASE_CALCULATORS or re.fullmatch(r"[A-Za-z_][\w-]*", name):
        return None
    return (
        f"{name!r} is neither the name of an entry point of {ENTRY_POINTS} nor one of {', '.join(ASE_CALCULATORS)}; "
        "offer another calculator by an entry point"
    )


def shipped_sha256() -> str:
    """Return the hash of the force field that ships with the package."""
    card = files("aiida_dosmatgen") / "models" / "forcefield_card.json"
    return str(json.loads(card.read_text(encoding="utf-8"))["output_sha256"])
