"""The DOS that DFT computed, and its distance from a target."""

from __future__ import annotations

from aiida.engine import ExitCode
from aiida.orm import BandsData, Dict, ProjectionData

from ...core.errors import ContentError
from ...data.base import storable
from ...data.conversion import StructureData
from ...data.crystals import CrystalSetData
from ...data.pdos import electrons_problem, projected_crystal
from ...data.target import DosTargetData
from .content import content_function

ELECTRONS_MISSING = 320


@content_function
def projected_dos(structure: StructureData, bands: BandsData, projections: ProjectionData, parameters: Dict) -> CrystalSetData:
    """Return the crystal with its per-atom DOS from the outputs of pw.x and projwfc.x.

    The electrons are counted and stored with the DOS; :func:`score_dos` checks them.

    :param bands: ``output_band`` of pw.x (nscf).
    :param projections: of projwfc.x.
    :param parameters: ``output_parameters`` of pw.x.
    """
    return CrystalSetData(projected_crystal(structure, bands, projections, parameters))


@content_function
def score_dos(dos: CrystalSetData, target: DosTargetData) -> Dict | ExitCode:
    """Compare the DOS of one crystal with the target; a DOS that does not hold the electrons gets no score.

    :param dos: one crystal from :func:`projected_dos`.
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
    return Dict(
        storable(
            {
                **wanted.distances(crystal.atom_columns["dos"], float(values["complete_below"])),
                "compared_below": min(float(values["complete_below"]), wanted.complete_below),
                "n_electrons": values["n_electrons"],
                "projected_electrons": values["projected_electrons"],
                "n_atoms": len(crystal.numbers),
                "formula": crystal.formulas[0],
            }
        )
    )
