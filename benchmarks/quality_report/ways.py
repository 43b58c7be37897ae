"""The ways in which candidates are asked for: what each is told of a target, and how."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.target import DosTarget

from .modes import START_TIME, template_for

WINDOW = (-6.0, 3.0)  # eV
NOTHING = "unconditional"
PROPOSED = "compositions proposed"
HELD, HELD_ALONE = "composition held", "composition held, no curves"


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """A way to ask for one target.

    :param target: the curves that are given; None for none.
    :param parameters: of the sampler, where they differ from the campaign's.
    :param total: whether candidates are compared by their totals, not site by site.
    :param reason: why it cannot be asked so; then there are no candidates.
    """

    target: DosTarget | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    template: CrystalSet | None = None
    total: bool = False
    reason: str | None = None


def ways(crystal: CrystalSet, curves: Curves, header: CheckpointHeader, train: CrystalSet, number: int, seed: int) -> dict:
    """Return all ways by name, what the models cannot take with a reason.

    :param crystal: that the target belongs to.
    :param curves: its density of states, with channels if the labels have them.
    :param header: of the denoiser.
    :param train: where templates are taken from.
    :param number: of the target.
    """
    sites, n = curves.summed(), len(curves)
    cell = curves.summed(sites=True)
    total = DosTarget(dataclasses.replace(cell, values=cell.values / n), "total", n)
    given = DosTarget(sites)
    counts = {SYMBOLS[z]: int((crystal.numbers == z).sum()) for z in np.unique(crystal.numbers)}
    held = {"constraints": {"composition": counts}}
    free = {"guidance": "none", "n_atoms": n}
    diffused = {"compositions": None}  # elements by the diffusion
    found = {
        NOTHING: Way(parameters=free | diffused),
        "sites": Way(given, diffused),
        "sites and channels": Way(reason="the labels have no channels"),
        "total": Way(total, diffused, total=True),
        f"sites, {WINDOW[0]:g} to {WINDOW[1]:g} eV": Way(DosTarget(sites.cut(*WINDOW)), diffused),
        "template": Way(given, {**diffused, "start_time": START_TIME}, template_for(crystal, train, number, seed)),
        HELD: Way(given, held | diffused),
        HELD_ALONE: Way(parameters=free | held | diffused),
    }
    full = given
    if curves.channels != ("all",):
        full = DosTarget(curves)
        takes = header.architecture.get("stride")
        found["sites and channels"] = Way(full, diffused) if takes else Way(reason="the denoiser takes no channels")
    for name, target in ((PROPOSED, full), (f"{PROPOSED}, total", total)):
        if header.architecture.get("composition"):
            found[name] = Way(target, total=target is total)
        else:
            found[name] = Way(reason="the denoiser proposes no compositions")
    return found


def default_way(found: dict[str, Way]) -> str:
    """Return the name of what a campaign does: all curves that the labels have and the denoiser takes."""
    return next(name for name in (PROPOSED, "sites and channels", "sites") if found[name].reason is None)
