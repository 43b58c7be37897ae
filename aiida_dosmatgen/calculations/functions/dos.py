"""The density of states of a crystal from the runs of pw.x and projwfc.x."""

from __future__ import annotations

import dataclasses

import numpy as np
from aiida.orm import BandsData, Dict, Int, KpointsData, ProjectionData, TrajectoryData

from ...core.curve_columns import with_curves
from ...core.dft.bands import density_of_states
from ...core.dft.orientation import oriented
from ...core.dft.recipe import Recipe
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...data.conversion import StructureData, crystal_of, structure_of
from ...data.crystals import CrystalSetData
from ...data.pdos import ELECTRONVOLT, espresso_bands, loewdin_moments
from .content import checked, content_function


@content_function
def prepare_dos(structure: StructureData, recipe: Dict) -> dict:
    """Return what the runs on a crystal begin with.

    :param recipe: as in :class:`~aiida_dosmatgen.core.dft.recipe.Recipe`.
    :return: the k-points ``scf_kpoints`` and ``bands_kpoints``; ``structure``, if kinds had other names than their symbols,
        which mean nothing here, or if pw.x would not see the symmetry of the crystal as it lies.
    """
    settings, given = checked(Recipe, recipe, "recipe"), crystal_of(structure)
    crystal = oriented(given)
    lattice = crystal.lattices[0]
    found: dict = {"scf_kpoints": KpointsData(), "bands_kpoints": KpointsData()}
    found["scf_kpoints"].set_kpoints_mesh(settings.scf_mesh(lattice))
    found["bands_kpoints"].set_kpoints_mesh(settings.bands_mesh(lattice, len(crystal.numbers)))
    if crystal is not given or any(kind.name != kind.symbol for kind in structure.kinds):
        found["structure"] = structure_of(crystal)
    return found


@content_function
def count_states(
    structure: StructureData,
    recipe: Dict,
    kpoints: KpointsData,
    scf_parameters: Dict,
    scf_trajectory: TrajectoryData,
    parameters: Dict,
    bands: BandsData,
    remedy: Int,
    projections: ProjectionData | None = None,
    projections_up: ProjectionData | None = None,
    projections_down: ProjectionData | None = None,
) -> CrystalSetData:
    """Return a crystal with its density of states, energy, forces and moments.

    Columns of the crystal: those of its curves (``core/curve_columns.py``), ``energy`` (eV), ``zero`` (eV, absolute),
    ``projected_electrons``, ``magnetization`` (2,; total and absolute, μB), ``fallback`` (the number of the fallback, 0 for
    none), ``unpolarised`` (magnetic elements computed without spin).

    Columns of the atoms: ``forces`` (3,; eV/Å), ``moment`` (μB), ``dos`` (2, 4, n; states/eV by spin and channel s, p, d, f;
    without spin both halves are equal), ``projections`` (n; states/eV; sums of projections, which earlier models learnt).

    :param recipe: as in :class:`~aiida_dosmatgen.core.dft.recipe.Recipe`.
    :param kpoints: the mesh of the bands.
    :param scf_parameters: ``output_parameters`` of the self-consistent run, as ``scf_trajectory`` is its ``output_trajectory``.
    :param parameters: ``output_parameters`` of the run that gave the bands.
    :param bands: its ``output_band``.
    :param remedy: which of the fallbacks converged; stored graphs have this name of the input.
    :param projections: of projwfc.x; with spin ``projections_up`` and ``projections_down`` instead.
    """
    settings, crystal = checked(Recipe, recipe, "recipe"), crystal_of(structure)
    given = [one for one in (projections, projections_up, projections_down) if one is not None]
    electrons, scf = parameters.get_dict().get("number_of_electrons"), scf_parameters.get_dict()
    if not electrons or scf.get("energy") is None or "forces" not in scf_trajectory.get_arraynames():
        raise ContentError("pw.x left out the number of electrons, the energy or the forces")
    mesh = tuple(kpoints.get_kpoints_mesh()[0])
    projected = espresso_bands(crystal, bands, given, float(electrons), mesh)
    cell = (crystal.lattices[0], crystal.fractional, crystal.numbers)
    how = (projected, cell, settings.energies, settings.sigma, settings.interpolated_distance)
    curves, zero = density_of_states(*how)
    sums, _ = density_of_states(*how, meaning="projections")
    spins = len(projected.energies)
    if spins == 1:
        curves = dataclasses.replace(curves, values=np.repeat(curves.values / 2, 2, axis=1))
    magnetization = [scf[f"{name}_magnetization"] if spins == 2 else 0.0 for name in ("total", "absolute")]
    one = {
        "energy": float(scf["energy"]) * ELECTRONVOLT,
        "zero": zero,
        "projected_electrons": float(curves.projected or 0.0) * float(electrons),
        "magnetization": magnetization,
        "fallback": remedy.value,
        "unpolarised": " ".join(settings.unpolarised([SYMBOLS[z] for z in crystal.numbers])),
    }
    return CrystalSetData(
        with_curves(crystal, curves).with_columns(
            crystal={name: np.array([value]) for name, value in one.items()},
            atom={
                "forces": np.asarray(scf_trajectory.get_array("forces")[-1], float),
                "moment": loewdin_moments(bands, projected),
                "projections": sums.sites.astype(np.float32),
            },
        )
    )
