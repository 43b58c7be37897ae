"""Whether a force field leaves crystals where pw.x finds them at rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa
from sampling_report.targets import targets_of

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters

from .ranking import displacements, relaxed
from .surrogate import Surrogate
from .targets import near_equilibrium

LARGEST_PRESSURE, LARGEST_FORCE = 3.0, 0.3  # GPa, eV/Å


def at_rest(crystals: CrystalSet) -> np.ndarray:
    """Return the rows of the labelled crystals that are at rest by pw.x."""
    return np.flatnonzero(near_equilibrium(crystals, LARGEST_FORCE, LARGEST_PRESSURE * GPa))


def compare(
    crystals: CrystalSet,
    force_field: ForceField,
    parameters: RelaxParameters,
    surrogate: Surrogate,
    folder: Path,
    threads: int | None,
) -> dict[str, Any]:
    """Relax labelled crystals as candidates are relaxed, and say how far they went.

    :return: ``median_change`` of the volume; the shares ``within_10_percent`` and ``swollen`` (by more than 30 %); the median
        displacement in Å; how far the predicted DOS is from that of pw.x before and after, in states/eV/atom.
    """
    bare = crystals.replace(crystal_columns={}, atom_columns={})
    after, _ = relaxed(bare, force_field, parameters, folder, threads)
    targets, wanted = targets_of(crystals), np.arange(len(crystals))
    before, then = (float(np.nanmean(surrogate.distances(these, wanted, targets))) for these in (bare, after))
    ratio = after.volumes / crystals.volumes
    return {
        "n": len(crystals),
        "median_change": float(np.median(np.abs(ratio - 1))),
        "within_10_percent": float((np.abs(ratio - 1) <= 0.1).mean()),
        "swollen": float((ratio > 1.3).mean()),
        "displacement_median": float(np.median(displacements(bare, after))),
        "dos_distance_before": before,
        "dos_distance_after": then,
    }
