"""The crystals that are being relaxed at the moment, as one flat array of variables."""

from __future__ import annotations

import numpy as np
from ase.units import GPa

from ...core.crystals import CrystalSet
from .forcefields.evaluation import Evaluation
from .lbfgs import ManyLBFGS
from .springs import Springs

LARGEST_STEP = 0.3  # Å, of any atom
_STRAIN_PER_STEP = 0.3  # largest entry of the change of the deformation gradient, per Å of the bound on atoms
_SMALLEST_TRUST = 2e-3  # Å; below it the noise of the force field decides, and the step is taken
_RISE = 1e-3  # eV/atom by which the energy may rise in an accepted step


class Pool:
    """B crystals with their variables, energies, gradients and histories.

    The variables of a crystal are its atoms' positions x in the undeformed cell (n rows) and its deformation gradient F
    (3 rows), scaled: the cell is L₀Fᵀ and the positions xFᵀ. With stress σ and volume V the gradient is −fF for x, and
    VσF⁻ᵀ for F. (Tadmor, Smith, Bernstein & Kaxiras, Phys. Rev. B 59, 235 (1999), for the idea of relaxing both together.)

    :param cell: whether the cells change.
    :param memory: length of the L-BFGS histories.
    """

    def __init__(self, cell: bool = True, memory: int = 10) -> None:
        self.cell = cell
        self.optimizer = ManyLBFGS(memory)
        self.index = np.zeros(0, dtype=np.int64)
        self.n_atoms = np.zeros(0, dtype=np.int64)
        self.numbers = np.zeros(0, dtype=np.int64)
        self.undeformed = np.zeros((0, 3, 3))
        self.start_volume = np.zeros(0)
        self.start_energy = np.zeros(0)
        self.steps = np.zeros(0, dtype=np.int64)
        self.seconds = np.zeros(0)
        self.failures = np.zeros(0, dtype=np.int64)
        self.trust = np.zeros(0)
        self.energies = np.zeros(0)
        self.stresses = np.zeros((0, 3, 3))
        self.forces = np.zeros((0, 3))
        self.variables = np.zeros((0, 3))  # of the last accepted point
        self.trial = np.zeros((0, 3))
        self.gradients = np.zeros((0, 3))

    def __len__(self) -> int:
        return len(self.index)

    # --- joining and leaving --------------------------------------------------------------------------------------------

    def add(
        self, index: np.ndarray, crystals: CrystalSet, start_volume: np.ndarray, steps: np.ndarray, start_energy: np.ndarray
    ) -> None:
        """Let crystals join; they are evaluated where they are first.

        :param index: what the caller calls them, shape (N,).
        :param start_volume: the volumes that limits refer to, in Å³, shape (N,).
        :param steps: steps that they have made already, shape (N,).
        :param start_energy: energies where their relaxations began, in eV, shape (N,); NaN for those that begin here.
        """
        new, rows = len(crystals), crystals.n_atoms + 3
        variables = np.zeros((int(rows.sum()), 3))
        atom_rows = _atom_rows(crystals.n_atoms)
        variables[atom_rows] = crystals.positions
        variables[~atom_rows] = (_cell_scale(crystals.n_atoms)[:, None, None] * np.eye(3)).reshape(-1, 3)

        def join(name: str, values: np.ndarray) -> None:
            setattr(self, name, np.concatenate([getattr(self, name), values]))

        join("index", index)
        join("n_atoms", crystals.n_atoms)
        join("numbers", crystals.numbers)
        join("undeformed", crystals.lattices)
        join("start_volume", start_volume)
        join("start_energy", start_energy)
        join("steps", steps)
        join("seconds", np.zeros(new))
        join("failures", np.zeros(new, dtype=np.int64))
        join("trust", np.full(new, LARGEST_STEP))
        join("energies", np.full(new, np.nan))
        join("stresses", np.full((new, 3, 3), np.nan))
        join("forces", np.full((len(crystals.numbers), 3), np.nan))
        join("variables", variables)
        join("trial", variables)
        join("gradients", np.zeros_like(variables))
        self.optimizer.add(rows)

    def keep(self, crystals: np.ndarray) -> None:
        """Let all but the selected crystals (B,) bool leave."""
        atoms, rows = np.repeat(crystals, self.n_atoms), np.repeat(crystals, self.n_atoms + 3)
        for name in ("numbers", "forces"):
            setattr(self, name, getattr(self, name)[atoms])
        for name in ("variables", "trial", "gradients"):
            setattr(self, name, getattr(self, name)[rows])
        for name in (
            "index", "n_atoms", "undeformed", "start_volume", "start_energy", "steps", "seconds", "failures", "trust",
            "energies", "stresses",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[crystals])
        self.optimizer.keep(crystals)

    # --- geometry -------------------------------------------------------------------------------------------------------

    def crystals(self, variables: np.ndarray) -> CrystalSet:
        """Return the crystals at a point of the variables."""
        atom_rows = _atom_rows(self.n_atoms)
        lattices = self.undeformed @ self._deformation(variables).transpose(0, 2, 1)
        inverse = np.repeat(np.linalg.inv(self.undeformed), self.n_atoms, axis=0)
        fractional = np.einsum("ni,nij->nj", variables[atom_rows], inverse)
        return CrystalSet(self.n_atoms, self.numbers, fractional, lattices)

    def volumes(self) -> np.ndarray:
        """Volumes in Å³ at the accepted points, signed, shape (B,)."""
        return np.linalg.det(self.undeformed) * np.linalg.det(self._deformation(self.variables))

    def fmax(self) -> np.ndarray:
        """Largest force on an atom of each crystal, in eV/Å, shape (B,)."""
        return np.maximum.reduceat(np.linalg.norm(self.forces, axis=1), np.cumsum(self.n_atoms) - self.n_atoms)

    def smax(self) -> np.ndarray:
        """Largest component of each crystal's stress, in GPa, shape (B,)."""
        return np.abs(self.stresses).max((1, 2)) / GPa

    def _deformation(self, variables: np.ndarray) -> np.ndarray:
        return variables[~_atom_rows(self.n_atoms)].reshape(-1, 3, 3) / _cell_scale(self.n_atoms)[:, None, None]

    def spend(self, seconds: float) -> None:
        """Charge each crystal its share of the time that a call of the force field took, by its atoms."""
        self.seconds += seconds * self.n_atoms / self.n_atoms.sum()

    # --- one step -------------------------------------------------------------------------------------------------------

    def take(self, evaluation: Evaluation) -> None:
        """Accept or refuse the trial points, given what the force field says of them.

        A point is refused if the energy is not finite, or rose: the crystal goes back and tries a shorter step. The history
        learns from refused points too, if they are finite.
        """
        energies, forces, stresses = evaluation
        crystal_of_atom = np.repeat(np.arange(len(self)), self.n_atoms)
        finite = np.isfinite(energies) & np.isfinite(stresses).all((1, 2))
        finite[crystal_of_atom[~np.isfinite(forces).all(1)]] = False
        first = np.isnan(self.energies)
        risen = energies > self.energies + _RISE * self.n_atoms
        accepted = finite & (first | ~risen | (self.trust < _SMALLEST_TRUST))
        refused = ~accepted & ~first
        self.failures = np.where(finite, 0, self.failures + 1)

        known = np.repeat(finite, self.n_atoms + 3)[:, None]
        gradients = self._gradients(forces, np.where(finite[:, None, None], stresses, 0.0))
        gradients = np.where(known, gradients, self.gradients)
        steps = self.trial - self.variables
        slopes = self.optimizer.dot(steps, self.gradients), self.optimizer.dot(steps, gradients)
        self.optimizer.update(steps, gradients - self.gradients, finite & ~first)
        length = self._length(steps)
        shorter = length * np.clip(_lowest(energies - self.energies, *slopes), 0.1, 0.5)
        longer = np.where((length > 0.9 * self.trust) & (slopes[1] < 0), 1.5 * self.trust, self.trust)
        longer = np.where(self.trust < _SMALLEST_TRUST, 0.02, np.minimum(longer, LARGEST_STEP))
        self.trust = np.where(first, self.trust, np.where(refused, shorter, longer))

        moved = np.repeat(accepted, self.n_atoms + 3)[:, None]
        self.variables, self.gradients = np.where(moved, self.trial, self.variables), np.where(moved, gradients, self.gradients)
        self.energies = np.where(accepted, energies, self.energies)
        self.start_energy = np.where(np.isnan(self.start_energy), self.energies, self.start_energy)
        self.stresses = np.where(accepted[:, None, None], stresses, self.stresses)
        self.forces = np.where(accepted[crystal_of_atom][:, None], forces, self.forces)

    def step(self) -> None:
        """Choose the next trial points: quasi-Newton steps, bounded for atoms and for strain."""
        springs = Springs(
            self.crystals(self.variables), self._deformation(self.variables), _cell_scale(self.n_atoms), self.cell
        )
        direction = self.optimizer.directions(self.gradients, springs.solve)
        uphill = self.optimizer.dot(direction, self.gradients) >= 0  # rounding, at worst: the history is positive definite
        if uphill.any():
            self.optimizer.forget(uphill)
            direction = self.optimizer.directions(self.gradients, springs.solve)
        shrink = self._length(direction) / self.trust
        self.trial = self.variables + direction / np.repeat(np.maximum(shrink, 1.0), self.n_atoms + 3)[:, None]
        self.steps = self.steps + 1

    def _length(self, steps: np.ndarray) -> np.ndarray:
        """How far steps (Σ(n+3), 3) go: Å of the atom that moves most, or what corresponds to the strain, shape (B,)."""
        starts = np.cumsum(self.n_atoms) - self.n_atoms
        longest = np.maximum.reduceat(np.linalg.norm(steps[_atom_rows(self.n_atoms)], axis=1), starts)
        return np.maximum(longest, np.abs(self._deformation(steps)).max((1, 2)) / _STRAIN_PER_STEP)

    def _gradients(self, forces: np.ndarray, stresses: np.ndarray) -> np.ndarray:
        deformation = self._deformation(self.trial)
        atom_rows = _atom_rows(self.n_atoms)
        gradients = np.zeros_like(self.trial)
        gradients[atom_rows] = -np.einsum("ni,nij->nj", forces, np.repeat(deformation, self.n_atoms, axis=0))
        if self.cell:
            volumes = np.linalg.det(self.undeformed) * np.linalg.det(deformation)
            inverse = np.linalg.inv(deformation).transpose(0, 2, 1)
            cells = volumes[:, None, None] * (stresses @ inverse) / _cell_scale(self.n_atoms)[:, None, None]
            gradients[~atom_rows] = cells.reshape(-1, 3)
        return gradients


def _cell_scale(n_atoms: np.ndarray) -> np.ndarray:
    """Å by which deformation gradients are multiplied, so that cells and atoms have comparable second derivatives."""
    return n_atoms.astype(np.float64)


def _atom_rows(n_atoms: np.ndarray) -> np.ndarray:
    """Tell the rows of atoms from those of cells, shape (Σ(n+3),) bool."""
    pattern = np.tile([True, False], len(n_atoms))
    return np.repeat(pattern, np.stack([n_atoms, np.full_like(n_atoms, 3)], 1).reshape(-1))


def _lowest(rise: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Part of each step at which the cubic through energies and slopes at both ends is lowest, (B,) each -> (B,).

    (Nocedal & Wright, Numerical Optimization, 2nd ed., eq. 3.59.) A quarter where it has no minimum, or values are not finite.

    :param rise: energy at the end less that at the start, in eV.
    :param start: derivative by the part of the step at its start, in eV, as ``end`` at its end.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        d1 = start + end - 3 * rise
        d2 = np.sqrt(d1 * d1 - start * end)
        part = 1 - (end + d2 - d1) / (end - start + 2 * d2)
    return np.where(np.isfinite(part), part, 0.25)
