"""Bands and densities of states from the output nodes of pw.x and projwfc.x (aiida-quantumespresso)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from aiida.common import NotExistent
from aiida.orm import BandsData, Dict, ProcessNode, ProjectionData
from qe_tools import CONSTANTS

from ..core.crystals import CrystalSet
from ..core.dft.bands import CHANNELS, Bands
from ..core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid, check_electrons, project
from ..core.errors import ContentError
from ..core.target import DosTarget
from ..core.units import HARTREE
from .conversion import StructureData, crystal_of

ELECTRONVOLT = HARTREE / CONSTANTS.hartree_to_ev
"""Energies of aiida-quantumespresso in today's eV: its own is of 2010, which is 0.4 meV for an atom of gallium."""

_PRINTED = 2e-3  # eV and units of the reciprocal lattice, to which projwfc.x prints
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
    energies, _, weights = _energies(bands)
    if len(energies) != 1:
        raise ContentError("the bands are spin-polarised; give a calculation without spin polarisation")
    projected = project(energies[0], weights, _sum_over_orbitals(crystal, projections).sum(1), float(electrons), grid, sigma)
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
    if "meaning" in columns and columns["meaning"][0] == "partition":
        return None  # it holds all electrons by what it is
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


# --- band structures ----------------------------------------------------------------------------------------------------------


def espresso_bands(
    crystal: CrystalSet,
    bands: BandsData,
    projections: Sequence[ProjectionData],
    n_electrons: float,
    mesh: tuple[int, int, int] | None = None,
) -> Bands:
    """Return the bands of pw.x with the projections of projwfc.x.

    :param bands: ``output_band`` of pw.x.
    :param projections: ``projections`` of projwfc.x, or ``projections_up`` and ``projections_down``.
    :param mesh: divisions of the Γ-centred mesh of k-points.
    :raises ContentError: for missing weights, and for nodes that do not belong together.
    """
    energies, kpoints, weights = _energies(bands)
    if len(energies) != len(projections):
        raise ContentError(f"the bands have {len(energies)} spins, and there are projections of {len(projections)}")
    values = np.stack([_sum_over_orbitals(crystal, one) for one in projections], axis=2)
    if values.shape[2:] != energies.shape:
        raise ContentError(f"projections {values.shape[2:]} and bands {energies.shape} do not belong together")
    for spin, one in enumerate(projections):
        _check_order(one, energies[spin], kpoints)
    return Bands(energies * ELECTRONVOLT, values, weights, n_electrons, kpoints, mesh)


def loewdin_moments(bands: BandsData, projected: Bands) -> np.ndarray:
    """Return the spin moment of each site in μB, by the occupations of pw.x; zeros without spin. Shape (n_sites,)."""
    if len(projected.energies) == 1:
        return np.zeros(len(projected.projections))
    _, occupations = bands.get_bands(also_occupations=True)
    weights = np.asarray(occupations, float) * (projected.weights / projected.weights.sum())[None, :, None]
    up, down = (projected.projections.sum(1) * weights).sum((2, 3)).T
    return up - down


def _energies(bands: BandsData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energies in eV, shape (n_spins, n_kpoints, n_bands), the k-points in fractions, and their weights."""
    energies = np.asarray(bands.get_bands(), float)
    energies = energies[None] if energies.ndim == 2 else energies
    if bands.units not in (None, "eV"):
        raise ContentError(f"the bands are in {bands.units}, expected eV")
    try:
        kpoints, weights = bands.get_kpoints(also_weights=True)
    except AttributeError:
        raise ContentError("the k-points of the bands have no weights; give the output_band of pw.x") from None
    return energies, np.asarray(kpoints, float), np.asarray(weights, float)


def _check_order(projections: ProjectionData, energies: np.ndarray, kpoints: np.ndarray) -> None:
    """Compare the bands that projwfc.x printed beside its projections with those of pw.x, where they are at hand."""
    try:
        printed = projections.get_reference_bandsdata()
    except (NotExistent, AttributeError, ValueError):  # an archive may have gone without them
        return
    found = np.asarray(printed.get_bands(), float)
    same = found.shape == energies.shape and np.abs(found - energies).max() < _PRINTED
    if not same or np.abs(np.asarray(printed.get_kpoints(), float) - kpoints).max() > _PRINTED:
        raise ContentError("the projections are of other k-points or bands than those of pw.x, or in another order")


def _sum_over_orbitals(crystal: CrystalSet, projections: ProjectionData) -> np.ndarray:
    """Sum |⟨φ|ψ⟩|² over the orbitals of each atom and channel, shape (n_atoms, n_channels, n_kpoints, n_bands).

    Orbitals carry a position and no index of an atom, and the position agrees with the structure's up to rounding and
    lattice vectors: each orbital goes to the nearest atom.
    """
    pairs = [(orbital.get_orbital_dict(), values) for orbital, values in projections.get_projections()]
    positions = np.array([orbital["position"] for orbital, _ in pairs], float)
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
    summed = np.zeros((len(crystal.numbers), len(CHANNELS), *np.shape(pairs[0][1])))
    for atom, (orbital, values) in zip(nearest, pairs, strict=True):
        summed[atom, orbital["angular_momentum"]] += values
    return summed
