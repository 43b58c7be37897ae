"""Per-atom densities of states from the output nodes of pw.x and projwfc.x (aiida-quantumespresso)."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import BandsData, Dict, ProcessNode, ProjectionData

from ..core.crystals import CrystalSet
from ..core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid, check_electrons, project
from ..core.errors import ContentError
from ..core.target import DosTarget
from .conversion import StructureData, crystal_of

_FARTHEST = 0.05  # Å; the positions of a site and of its orbitals differ by rounding only


def pdos_nodes(workchain: ProcessNode) -> dict[str, Any]:
    """Return the nodes of a finished ``PdosWorkChain`` that :func:`projected_crystal` takes.

    :raises ContentError: naming what is missing.
    """
    if not workchain.is_finished_ok:
        raise ContentError(
            f"{workchain.process_label}<{workchain.pk}> has not finished well (exit status {workchain.exit_status})"
        )
    try:
        return {
            "structure": workchain.inputs.structure,
            "bands": workchain.outputs.nscf.output_band,
            "projections": workchain.outputs.projwfc.projections,
            "parameters": workchain.outputs.nscf.output_parameters,
        }
    except AttributeError:  # NotExistentAttributeError of the link manager is one
        raise ContentError(
            f"{workchain.process_label}<{workchain.pk}> lacks nscf.output_band, nscf.output_parameters or projwfc.projections; "
            "only PdosWorkChains without spin polarisation have them"
        ) from None


def projected_crystal(
    structure: StructureData | CrystalSet,
    bands: BandsData,
    projections: ProjectionData,
    parameters: Dict,
    grid: EnergyGrid = DEFAULT_GRID,
    sigma: float = DEFAULT_SIGMA,
) -> CrystalSet:
    """Return the crystal with its per-atom DOS, aligned by the highest occupied level.

    :param structure: the structure, or a set of one crystal.
    :param bands: band energies with the weights of their k-points (``output_band`` of pw.x).
    :param projections: of projwfc.x, on the same bands.
    :param parameters: ``output_parameters`` of pw.x; ``number_of_electrons`` is read.
    :return: one crystal with the columns ``dos``, ``complete_below``, ``highest_occupied``, ``n_electrons`` and
        ``projected_electrons``. Whether the electrons are there is for the caller to check.
    :raises ContentError: for spin-polarised bands, missing weights, and arrays that do not belong together.
    """
    crystal = structure if isinstance(structure, CrystalSet) else crystal_of(structure)
    electrons = parameters.get_dict().get("number_of_electrons")
    if not electrons:
        raise ContentError("the output parameters of pw.x do not say the number of electrons")
    eigenvalues, weights = _bands(bands)
    projected = project(eigenvalues, weights, _sum_over_orbitals(crystal, projections), float(electrons), grid, sigma)
    return crystal.with_columns(
        crystal={
            "complete_below": np.array([projected.complete_below]),
            "highest_occupied": np.array([projected.highest_occupied]),
            "n_electrons": np.array([float(electrons)]),
            "projected_electrons": np.array([projected.electrons]),
        },
        atom={"dos": projected.dos.astype(np.float32)},
    )


def electrons_problem(crystal: CrystalSet) -> str | None:
    """Say what is wrong if the projected DOS of one crystal does not hold its electrons, or None."""
    columns = crystal.crystal_columns
    missing = [name for name in ("projected_electrons", "n_electrons") if name not in columns]
    if missing:
        return f"the DOS comes without the column {missing[0]!r}, so its electrons cannot be checked"
    return check_electrons(float(columns["projected_electrons"][0]), float(columns["n_electrons"][0]))


def target_of(structure: StructureData, bands: BandsData, projections: ProjectionData, parameters: Dict) -> DosTarget:
    """Return the per-site target that a structure's own DOS makes.

    :raises ContentError: as :func:`projected_crystal`, and if the DOS does not hold the electrons.
    """
    crystal = projected_crystal(structure, bands, projections, parameters)
    problem = electrons_problem(crystal)
    if problem:
        raise ContentError(problem)
    return DosTarget(crystal.atom_columns["dos"], complete_below=float(crystal.crystal_columns["complete_below"][0]))


def _bands(bands: BandsData) -> tuple[np.ndarray, np.ndarray]:
    """Return energies in eV, shape (n_kpoints, n_bands), and the weights of the k-points."""
    energies = np.asarray(bands.get_bands(), float)
    if energies.ndim == 3 and len(energies) == 1:
        energies = energies[0]
    if energies.ndim != 2:
        raise ContentError("the bands are spin-polarised; give a calculation without spin polarisation")
    if bands.units not in (None, "eV"):
        raise ContentError(f"the bands are in {bands.units}, expected eV")
    try:
        _, weights = bands.get_kpoints(also_weights=True)
    except AttributeError:
        raise ContentError("the k-points of the bands have no weights; give the output_band of pw.x") from None
    return energies, np.asarray(weights, float)


def _sum_over_orbitals(crystal: CrystalSet, projections: ProjectionData) -> np.ndarray:
    """Sum |⟨φ|ψ⟩|² over the orbitals of each atom, shape (n_atoms, n_kpoints, n_bands).

    Orbitals carry a position and no index of an atom, and the position agrees with the structure's up to rounding and
    lattice vectors: each orbital goes to the nearest atom.
    """
    pairs = projections.get_projections()
    positions = np.array([orbital.get_orbital_dict()["position"] for orbital, _ in pairs], float)
    inverse = np.linalg.inv(crystal.lattices[0])
    separation = (positions @ inverse)[:, None] - crystal.fractional[None]
    separation -= np.round(separation)
    distance = np.linalg.norm(separation @ crystal.lattices[0], axis=-1)
    nearest = distance.argmin(1)
    worst = float(distance.min(1).max())
    if worst > _FARTHEST:
        raise ContentError(f"an orbital is {worst:.2f} Å away from every atom; the projections are of another structure")
    bare = sorted(set(range(len(crystal.numbers))) - set(nearest.tolist()))
    if bare:
        raise ContentError(f"atom {bare[0]} has no orbitals; its pseudopotential has no atomic wavefunctions to project on")
    summed = np.zeros((len(crystal.numbers), *np.shape(pairs[0][1])))
    for atom, (_, values) in zip(nearest, pairs, strict=True):
        summed[atom] += values
    return summed
