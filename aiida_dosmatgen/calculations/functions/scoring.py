"""The DOS that DFT computed, and its distance from a target."""

from __future__ import annotations

from aiida.engine import ExitCode
from aiida.orm import Dict

from ...core.errors import ContentError
from ...data.base import storable
from ...data.crystals import CrystalSetData
from ...data.pdos import compared_dos, electrons_problem
from ...data.target import DosTargetData
from .content import content_function

ELECTRONS_MISSING = 320


@content_function
def score_dos(dos: CrystalSetData, target: DosTargetData) -> Dict | ExitCode:
    """Compare the DOS of one crystal with the target; a DOS that does not hold the electrons gets no score.

    :param dos: one crystal from :func:`.count_states`.
    :return: ``mae``, ``mae_window`` (±3 eV) and ``mae_total`` in states/eV/atom, ``wasserstein`` in eV, ``compared_below`` in
        eV (None: the whole grid), ``n_electrons`` and ``projected_electrons``.
    """
    crystal, wanted = dos.crystals, target.target
    if len(crystal) != 1 or "dos" not in crystal.atom_columns:
        raise ContentError(
            f"{len(crystal)} crystals with columns {sorted(crystal.atom_columns)}; give one crystal with its dos"
        )
    problem = electrons_problem(crystal)
    if problem:
        return ExitCode(ELECTRONS_MISSING, problem)
    values = {name: column[0] for name, column in crystal.crystal_columns.items()}
    curves, complete_below = compared_dos(crystal, getattr(wanted, "meaning", "projections"))
    return Dict(
        storable(
            {
                **wanted.distances(curves, complete_below),
                "compared_below": min(complete_below, wanted.complete_below),
                "n_electrons": values["n_electrons"],
                "projected_electrons": values["projected_electrons"],
                "n_atoms": len(crystal.numbers),
                "formula": crystal.formulas[0],
            }
        )
    )
