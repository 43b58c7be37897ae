"""Labels of one crystal: its energy, forces and density of states by the recipe of :mod:`...core.dft.recipe`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import spglib

from ...core.crystals import CrystalSet
from ...core.dft.bands import CHANNELS, Bands, density_of_states
from ...core.dft.recipe import (
    ALMOST_SYMMETRIC,
    ATTEMPTS,
    FALLBACKS,
    TRY_ANOTHER_SOLVER,
    Recipe,
    bands_namelists,
    n_bands,
    scf_namelists,
)
from ...core.dft.upf import Upf
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from .espresso import Killed, NotConverged, RunFailure, project, pw_text, read_pw, run

_SYMPREC = 1e-3  # Å, within which a crystal is made symmetric before it is computed


def label_crystal(
    crystal: CrystalSet,
    recipe: Recipe,
    pseudos: Mapping[str, Upf],
    seconds: float = 900.0,
    pw: Sequence[str] = ("pw.x",),
    projwfc: Sequence[str] = ("projwfc.x",),
    dtype: type = np.float16,
) -> CrystalSet:
    """Compute a crystal and return it with its labels.

    Columns of the crystal: ``energy`` (eV), ``zero`` (eV, absolute), ``gap`` (eV), ``low`` and ``high`` (eV, relative to the
    zero), ``n_electrons``, ``projected`` (share of the occupied states that the projectors saw), ``magnetization`` (2,; total
    and absolute, μB), ``seconds``, ``fallback`` (the number of the fallback, 0 for none).

    Columns of the atoms: ``forces`` (3,; eV/Å), ``moment`` (μB), ``dos`` (2, 4, n; states/eV by spin and channel s, p, d, f
    on the recipe's energies; without spin both halves are equal).

    :param seconds: in all, for all that is tried.
    :param dtype: of the stored curves, half precision by default.
    :raises RunFailure: with the reason, if it cannot be labelled.
    :raises Killed: if somebody ended an executable, or removed the folder that it ran in.
    :raises MissingProgram: if Quantum ESPRESSO is not installed.
    """
    start = time.monotonic()
    defect = crystal.defect()
    if defect:
        raise RunFailure(defect)
    symbols = [SYMBOLS[z] for z in crystal.numbers]
    for symbol in sorted(set(symbols)):
        if symbol not in pseudos:
            raise RunFailure(f"no pseudopotential for {symbol}")
        if not pseudos[symbol].wavefunctions:
            raise RunFailure(f"the pseudopotential of {symbol} has no atomic wavefunctions, so that nothing can be projected")
    folder = Path(tempfile.mkdtemp(prefix="label-"))
    try:
        steps = _Steps(crystal, symbols, recipe, pseudos, folder, start + seconds, pw, projwfc, dtype)
        try:
            return steps.label(start)
        except RunFailure as exception:
            if not any(words in str(exception) for words in ALMOST_SYMMETRIC):
                raise
        steps.symmetry = False
        return steps.label(start)
    except (RunFailure, ContentError, OSError):  # whatever an executable or a reader makes of a folder that is gone
        if folder.is_dir():
            raise
        raise Killed(f"the folder {folder} was removed while it was in use") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Steps:
    """The runs on one crystal, in a folder that they share."""

    def __init__(
        self,
        crystal: CrystalSet,
        symbols: Sequence[str],
        recipe: Recipe,
        pseudos: Mapping[str, Upf],
        folder: Path,
        deadline: float,
        pw: Sequence[str],
        projwfc: Sequence[str],
        dtype: type,
    ) -> None:
        self.crystal, self.symbols, self.recipe, self.pseudos, self.folder = crystal, symbols, recipe, pseudos, folder
        self.deadline, self.pw, self.projwfc, self.dtype, self.symmetry = deadline, pw, projwfc, dtype, True
        self.lattice = crystal.lattices[0]
        self.valences = {s: pseudos[s].valence for s in set(symbols)}
        self.n_electrons = sum(self.valences[s] for s in symbols)

    @property
    def seconds(self) -> float:
        """What is left of the time."""
        return self.deadline - time.monotonic()

    def label(self, start: float) -> CrystalSet:
        fallback = self._converge()
        scf = read_pw(self.folder, self.lattice)
        mesh = self.recipe.bands_mesh(self.lattice, len(self.symbols))
        cell = (self.lattice, self.crystal.fractional, self.crystal.numbers)
        for attempt in range(ATTEMPTS):
            self._bands(mesh, attempt)
            fine = read_pw(self.folder, self.lattice)
            projections = project(self.projwfc, self.folder, len(self.symbols), fine.eigenvalues.shape, self.seconds)
            bands = Bands(fine.eigenvalues, projections.values, fine.weights, self.n_electrons, fine.kpoints, mesh)
            curves, zero = density_of_states(
                bands, cell, self.recipe.energies, self.recipe.sigma, self.recipe.interpolated_distance, CHANNELS
            )
            if curves.high >= self.recipe.least_high:
                break
        values = curves.values if scf.magnetization else np.repeat(curves.values / 2, 2, axis=1)
        one = {
            "energy": scf.energy,
            "zero": zero,
            "gap": curves.gap,
            "low": curves.low,
            "high": curves.high,
            "n_electrons": self.n_electrons,
            "projected": curves.projected,
            "magnetization": scf.magnetization or (0.0, 0.0),
            "seconds": round(time.monotonic() - start, 1),
            "fallback": fallback,
        }
        forces = np.zeros((len(self.symbols), 3)) if scf.forces is None else scf.forces
        return self.crystal.with_columns(
            crystal={name: np.array([value]) for name, value in one.items()},
            atom={"forces": forces, "moment": projections.moments, "dos": values.astype(self.dtype)},
        )

    def _converge(self) -> int:
        """Run the self-consistent field by the first fallback that does, and return its number."""
        mesh = self.recipe.scf_mesh(self.lattice)
        for number, fallback in enumerate(FALLBACKS):
            namelists = scf_namelists(self.recipe, self.symbols, self.valences, fallback, self.symmetry)
            try:
                run(self.pw, self._text(namelists, mesh), self.folder, self.seconds)
                return number
            except NotConverged:
                shutil.rmtree(self.folder / "pwscf.save", ignore_errors=True)
        raise NotConverged(f"the self-consistent field did not converge in any of {len(FALLBACKS)} ways")

    def _bands(self, mesh: tuple[int, int, int], attempt: int) -> None:
        n = n_bands(self.n_electrons, len(self.symbols), attempt)
        for solver in ("david", "cg"):
            namelists = bands_namelists(self.recipe, self.symbols, self.valences, n, self.symmetry, solver)
            try:
                run(self.pw, self._text(namelists, mesh), self.folder, self.seconds)
                return
            except RunFailure as exception:
                if solver == "cg" or not any(words in str(exception) for words in TRY_ANOTHER_SOLVER):
                    raise

    def _text(self, namelists: Mapping[str, Mapping], mesh: Sequence[int]) -> str:
        return pw_text(namelists, self.symbols, self.lattice, self.crystal.fractional, mesh, self.pseudos, self.folder)


def symmetrised(crystal: CrystalSet) -> CrystalSet:
    """Return a crystal in the primitive standard cell, with the symmetry that it has within 0.001 Å; columns are left out.

    :raises RunFailure: if its symmetry cannot be told.
    """
    parts = (crystal.lattices[0].tolist(), crystal.fractional.tolist(), crystal.numbers.tolist())
    cell = spglib.standardize_cell(parts, to_primitive=True, no_idealize=False, symprec=_SYMPREC)
    if cell is None:
        raise RunFailure("the symmetry cannot be told")
    lattice, fractional, numbers = (np.asarray(part) for part in cell)
    return CrystalSet(np.array([len(numbers)]), numbers, fractional, lattice[None])
