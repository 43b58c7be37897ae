"""The DOS that DFT computed, and its distance from a target."""

from __future__ import annotations

from aiida.engine import ExitCode
from aiida.orm import Dict

from ...core.crystals import CrystalSet
from ...core.curve_columns import curves_of
from ...core.curves import LEAST_HELD, Curves
from ...core.errors import ContentError
from ...core.target import DosTarget
from ...data.base import storable
from ...data.crystals import CrystalSetData
from ...data.pdos import electrons_problem
from ...data.target import DosTargetData
from .content import content_function

ELECTRONS_MISSING = 320


@content_function
def score_dos(dos: CrystalSetData, target: DosTargetData) -> Dict | ExitCode:
    """Compare the DOS of one crystal with the target; a DOS that does not hold the electrons gets no score.

    :param dos: one crystal with its DOS (:mod:`~aiida_dosmatgen.core.curve_columns`). A target of sums of projections is
        compared with its column ``projections``, if there is one.
    :return: ``mae``, ``mae_window`` (±3 eV; None if that was not compared) and ``mae_total`` in states/eV/atom, ``wasserstein``
        in eV, ``r2``; what was compared: ``low``, ``high`` (also as ``compared_below``) and ``sigma`` in eV; ``gap`` in eV (0
        for a metal, None if unknown), ``zero``, ``n_electrons`` and ``projected``; ``meaning`` of ``target`` and ``dos``, if
        that is not the same. Of a target with wishes also ``wishes``, ``missed`` and ``distance``
        (:meth:`.DosTarget.distances`), measured on the column ``dos`` with its channels.
    """
    crystal, wanted = dos.crystals, target.target
    if len(crystal) != 1 or "dos" not in crystal.atom_columns:
        raise ContentError(
            f"{len(crystal)} crystals with columns {sorted(crystal.atom_columns)}; give one crystal with its dos"
        )
    problem = electrons_problem(crystal) if "dos_low" not in crystal.crystal_columns else _electrons_problem(curves_of(crystal))
    if problem:
        return ExitCode(ELECTRONS_MISSING, problem)
    curves = scored_curves(crystal, wanted)
    distances = wanted.distances(curves, resolved=curves_of(crystal) if wanted.wishes else None)
    values = {name: column[0] for name, column in crystal.crystal_columns.items()}
    counted = {name: values[name] for name in ("n_electrons", "projected_electrons", "projected") if name in values}
    differ = curves.meaning != wanted.dos.meaning and not wanted.only_wishes
    return Dict(
        storable(
            {
                **distances,
                "compared_below": distances["high"],
                **counted,
                "gap": curves.gap,
                "zero": curves.zero,
                "n_atoms": len(crystal.numbers),
                "formula": crystal.formulas[0],
                **({"meaning": {"target": wanted.dos.meaning, "dos": curves.meaning}} if differ else {}),
            }
        )
    )


def scored_curves(crystal: CrystalSet, target: DosTarget) -> Curves:
    """Return the DOS of one crystal as a target is compared with it: sums of projections for a target that holds such."""
    plain = target.dos.meaning == "projections" and "projections" in crystal.atom_columns
    return curves_of(crystal, column="projections" if plain else "dos")


def _electrons_problem(curves: Curves) -> str | None:
    """Say what is wrong if curves hold far too few electrons, or None; they hold no electrons below their energies."""
    if curves.n_electrons is None or curves.electrons >= LEAST_HELD * curves.n_electrons:
        return None
    return (
        f"the DOS up to the highest occupied level holds {curves.electrons:.2f} of {curves.n_electrons:g} electrons; "
        "check the occupations and the number of bands of the calculation"
    )
