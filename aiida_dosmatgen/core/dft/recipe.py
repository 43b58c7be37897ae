"""How Quantum ESPRESSO computes the density of states of a crystal: one recipe, for the executable and the work chains.

A self-consistent run on a coarse mesh with few bands gives the density; a second run on a denser mesh gives more bands from it;
projwfc.x says where each state is. What the meshes cost and how far off they leave the curve is measured by
``benchmarks/label_settings.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pydantic import Field

from ..strict import Strict
from .settings import kpoints_mesh, symmetric_mesh
from .upf import Upf

HUND_MOMENTS = {"V": 3.0, "Cr": 5.0, "Mn": 5.0, "Fe": 4.0, "Co": 3.0, "Ni": 2.0}
"""Spin moments in μB from which magnetic elements start: those of the free ions 3dⁿ by Hund's rule."""

OXYGEN_MOMENT = 1.0
"""μB from which each atom of pure oxygen starts: the molecule is a triplet."""

OTHER_MOMENT = 0.1
"""μB from which the other elements of a magnetic crystal start, so that nothing keeps them at zero."""

SOFT_DENSITY_FACTOR = 8.0
"""Density factor of ultrasoft pseudopotentials and PAW, where none is given."""


class Recipe(Strict):
    """Settings of the runs, the same for a whole set of labels so that their energies can be compared.

    :param cutoff: plane-wave cutoff in Ry, one for all elements; that of the density is ``density_factor`` times as high.
    :param density_factor: 4 for norm-conserving pseudopotentials, 8 or more for ultrasoft ones and PAW.
    :param scf_distance: largest distance of k-points of the self-consistent run in 1/Å, 2π included.
    :param bands_distance: the same for the run that gives the bands.
    :param points_per_atom: least number of points of its whole mesh times the atoms of the cell. Electrons of metals as thin as
        potassium move slowly, and their bands bend within less of the Brillouin zone.
    :param symmetric_mesh: whether both meshes get as many points as it takes to have the symmetry of the lattice. pw.x adds the
        images of the points of a mesh that has not: fewer points cost more, and states between them are not interpolated.
    :param least_high: energy in eV up to which the curve has to be known at least; where the bands do not reach it, as they do
        not past the empty f states of lanthanum, more are computed.
    :param interpolated_distance: the same for the mesh on which states are counted; None counts those of the calculation.
    :param degauss: smearing in Ry.
    :param sigma: Gaussian broadening of the curves in eV (standard deviation).
    :param low: first energy of the stored curves in eV.
    :param high: last energy of the stored curves in eV.
    :param spacing: distance of the stored energies in eV; half of σ loses nothing.
    :param moments: magnetic elements, and the moment in μB from which each of their atoms starts. Crystals with none
        of them are computed without spin.
    :param functional: further inputs of the functional for the namelist SYSTEM, such as ``{"vdw_corr": "grimme-d3"}``.
    :param hubbard: U in eV of elements, for pw.x up to version 7.0 (``lda_plus_u``); elements that a crystal lacks are no harm.
    """

    cutoff: float = Field(72.0, gt=0)
    density_factor: float = Field(4.0, ge=4)
    scf_distance: float = Field(0.5, gt=0.01)
    bands_distance: float = Field(0.25, gt=0.01)
    points_per_atom: float = Field(800.0, ge=0)
    symmetric_mesh: bool = False
    least_high: float = 4.0
    interpolated_distance: float | None = Field(0.08, gt=0.01)
    smearing: str = "cold"
    degauss: float = Field(0.02, gt=0)
    sigma: float = Field(0.3, gt=0)
    low: float = -20.0
    high: float = 10.0
    spacing: float = Field(0.15, gt=0)
    moments: dict[str, float] = HUND_MOMENTS
    functional: dict[str, float | int | str | bool] = {}
    hubbard: dict[str, float] = {}

    @property
    def energies(self) -> np.ndarray:
        """The energies of the stored curves in eV, shape (n,)."""
        return self.low + self.spacing * np.arange(round((self.high - self.low) / self.spacing) + 1)

    def scf_mesh(self, lattice: np.ndarray) -> tuple[int, int, int]:
        """Return the mesh of the self-consistent run.

        :param lattice: lattice vectors as rows in Å, shape (3, 3).
        """
        mesh = kpoints_mesh(lattice, self.scf_distance)
        return symmetric_mesh(mesh, lattice) if self.symmetric_mesh else mesh

    def bands_mesh(self, lattice: np.ndarray, n_atoms: int) -> tuple[int, int, int]:
        """Return the mesh of the run that gives the bands.

        :param lattice: lattice vectors as rows in Å, shape (3, 3).
        """
        points = (2 * np.pi) ** 3 / abs(np.linalg.det(lattice)) / self.bands_distance**3
        denser = max(1.0, self.points_per_atom / n_atoms / points) ** (1 / 3)
        mesh = kpoints_mesh(lattice, self.bands_distance / denser)
        return symmetric_mesh(mesh, lattice) if self.symmetric_mesh else mesh

    def text(self) -> str:
        """Everything that can change a label, to hash. What came later is left out where it is not used."""
        unused = {name for name in ("hubbard", "symmetric_mesh") if not getattr(self, name)}
        return json.dumps(self.model_dump(exclude=unused), sort_keys=True)

    def fitted(self, pseudos: Iterable[Upf]) -> Recipe:
        """Return the recipe with the density factor that pseudopotentials need, unless one was given."""
        if "density_factor" in self.model_fields_set or all(upf.norm_conserving for upf in pseudos):
            return self
        return self.model_copy(update={"density_factor": SOFT_DENSITY_FACTOR})

    def magnetic(self, symbols: Sequence[str]) -> bool:
        """Say whether a crystal with these atoms is computed with spin: with magnetic elements, or of nothing but oxygen."""
        return bool(self.starting_moments(symbols))

    def unpolarised(self, symbols: Sequence[str]) -> list[str]:
        """Return the magnetic elements of a crystal that is computed without spin all the same."""
        return [] if self.magnetic(symbols) else sorted(set(symbols) & set(HUND_MOMENTS))

    def starting_moments(self, symbols: Sequence[str]) -> dict[str, float]:
        """Return the moment in μB from which the atoms of each element start; none for a crystal without spin."""
        elements = sorted(set(symbols))
        if set(elements) & set(self.moments):
            return {symbol: self.moments.get(symbol, OTHER_MOMENT) for symbol in elements}
        return {"O": OXYGEN_MOMENT} if elements == ["O"] else {}


FALLBACKS: tuple[dict, ...] = (
    {},
    {"electron_maxstep": 150, "mixing_mode": "local-TF", "mixing_beta": 0.3},
    {"electron_maxstep": 250, "mixing_beta": 0.1, "mixing_ndim": 12},
    {"electron_maxstep": 250, "mixing_beta": 0.2, "diagonalization": "cg", "smearing": "gaussian"},
)
"""Changes to the settings, tried in turn if the self-consistent field of a crystal does not converge."""

ALMOST_SYMMETRIC = ("d_matrix", "not orthogonal operation")
"""What projwfc.x and pw.x say of cells that are off by 1e-7: computed without symmetry, they do."""

TRY_ANOTHER_SOLVER = ("bands are not converged", "crashed with signal")
"""After which the bands are computed by conjugate gradients; pw.x 6.7 has a rare crash in Davidson's scheme."""

ATTEMPTS = 3
"""How often the bands are computed, with more of them each time, until they reach far enough up."""


def n_bands(n_electrons: float, n_atoms: int, attempt: int = 0) -> int:
    """Bands of the second run: the occupied ones, two for each atom, and four.

    :param attempt: each one after the first has five more for each atom.
    """
    return math.ceil(n_electrons / 2 + (2 + 5 * attempt) * n_atoms + 4)


def scf_namelists(
    recipe: Recipe,
    symbols: Sequence[str],
    valences: Mapping[str, float],
    fallback: Mapping | None = None,
    symmetry: bool = True,
) -> dict[str, dict]:
    """Return the namelists of the self-consistent run, with forces.

    A threshold of 1e-7 Ry per atom is far below what cutoff and meshes leave.

    :param symbols: of the atoms.
    :param valences: valence electrons of each element.
    :param fallback: changes, one of :data:`FALLBACKS`.
    :param symmetry: whether pw.x uses the symmetry that it finds.
    """
    fallback = dict(fallback or {})
    smearing = fallback.pop("smearing", recipe.smearing)
    return {
        "CONTROL": {"calculation": "scf", "tprnfor": True},
        "SYSTEM": _system(recipe, symbols, valences, smearing, symmetry),
        "ELECTRONS": {"conv_thr": 1e-7 * len(symbols), "mixing_beta": 0.7, "electron_maxstep": 80, **fallback},
    }


def bands_namelists(
    recipe: Recipe,
    symbols: Sequence[str],
    valences: Mapping[str, float],
    bands: int,
    symmetry: bool = True,
    diagonalization: str = "david",
) -> dict[str, dict]:
    """Return the namelists of the run that gives the bands on the denser mesh, from the density of the first.

    A Davidson space of four times the bands converges where the default does not, in half of the time. A threshold of 1e-4 Ry
    is far below the broadening: a hundredth of it takes longer, and changes curves less than their half precision does.
    """
    solver = {"diago_david_ndim": 4} if diagonalization == "david" else {"diagonalization": diagonalization}
    return {
        "CONTROL": {"calculation": "nscf"},
        "SYSTEM": {**_system(recipe, symbols, valences, recipe.smearing, symmetry), "nbnd": bands},
        "ELECTRONS": {"conv_thr": 1e-8 * len(symbols), "diago_thr_init": 1e-4, **solver},
    }


def _system(recipe: Recipe, symbols: Sequence[str], valences: Mapping[str, float], smearing: str, symmetry: bool) -> dict:
    system: dict = {
        "ecutwfc": recipe.cutoff,
        "ecutrho": recipe.density_factor * recipe.cutoff,
        "occupations": "smearing",
        "smearing": smearing,
        "degauss": recipe.degauss,
        **recipe.functional,
    }
    repulsion = {symbol: recipe.hubbard[symbol] for symbol in sorted(set(symbols)) if symbol in recipe.hubbard}
    if repulsion:
        system |= {"lda_plus_u": True, "Hubbard_U": repulsion}
    moments = recipe.starting_moments(symbols)
    if moments:
        system["nspin"] = 2
        # pw.x takes it as a share of the valence electrons
        system["starting_magnetization"] = {symbol: moment / valences[symbol] for symbol, moment in moments.items()}
    if not symmetry:
        system |= {"nosym": True, "noinv": True}
    return system
