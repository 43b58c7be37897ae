"""A model of the curvature of the energy of a crystal: springs between its atoms, which the cell stretches too.

Quasi-Newton methods start from a guess of the second derivatives. Springs that grow stiffer exponentially as atoms come closer
know which atoms are bonded, how strain and positions couple, and which motions are soft: after the model function of R. Lindh,
A. Bernhardsson, G. Karlström & P.-Å. Malmqvist, Chem. Phys. Lett. 241, 423 (1995), and the preconditioner "Exp" of D. Packwood,
J. Kermode, L. Mones, N. Bernstein, J. Woolley, N. Gould, C. Ortner & G. Csányi, J. Chem. Phys. 144, 164109 (2016). The model
costs a small part of a call of a force field, so that it is made anew at each step, where the crystal is then.
"""

from __future__ import annotations

import numpy as np
import torch

from ...core.contacts import covalent_radii
from ...core.crystals import CrystalSet
from ..neighbours import neighbours

# All these were chosen for few calls of a force field over strained and displaced prototypes; none is critical
STIFFNESS = 4.0  # eV/Å² of a spring as long as the sum of the covalent radii
_DECAY = 6.0  # of the logarithm of the stiffness with the length over the sum of the covalent radii
_REACH = 2.2  # length over the sum of the covalent radii where springs end
_SHORTEST = 0.7  # the same, below which springs grow no stiffer
_ACROSS = 0.2  # stiffness of a spring across its direction over that along it
_EVERYWHERE = 0.3  # eV/Å², against all motion: of what no spring holds, such as shifts of the whole crystal
_LARGEST = 200  # atoms of a crystal up to which dense matrices are cheap beside the force field
_WITHOUT_MODEL = 70.0  # eV/Å², of all motion of larger crystals
_SYMMETRIC = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])  # where a symmetric matrix's entries are among its six
_ROWS, _COLUMNS = np.triu_indices(3)


class Springs:
    """Model Hessians of B crystals by the variables of :class:`~.pool.Pool`, (n + 3) rows of three for each crystal.

    A bond from atom i to j is b = F(x_j + t - x_i) for the undeformed positions x, a lattice vector t and the deformation
    gradient F; with W the stiffness of its spring, and J the derivative of b by the variables, the Hessian is the sum of JᵀWJ.

    :param crystals: where they are now; with positions that the variables give, not wrapped into the cell.
    :param deformations: F, shape (B, 3, 3).
    :param cell_scale: what F is multiplied by in the variables, in Å, shape (B,).
    :param cell: whether cells change; if not, the rows of F are coupled to nothing.
    """

    def __init__(self, crystals: CrystalSet, deformations: np.ndarray, cell_scale: np.ndarray, cell: bool = True) -> None:
        self.n_atoms = crystals.n_atoms
        modelled = np.flatnonzero(self.n_atoms <= _LARGEST)
        # for each number of atoms n the rows of its G crystals, (G, n + 3), and their Hessians, (G, 3n + 9, 3n + 9)
        self._groups: list[tuple[np.ndarray, np.ndarray]] = []
        if not len(modelled):
            return
        starts = (np.cumsum(self.n_atoms + 3) - self.n_atoms - 3)[modelled]
        pairs, shears, strains = _sums(crystals[modelled], deformations[modelled], cell_scale[modelled])
        n_atoms = self.n_atoms[modelled]
        first_pair, first_atom = np.cumsum(n_atoms**2) - n_atoms**2, np.cumsum(n_atoms) - n_atoms
        for n in np.unique(n_atoms):
            members = np.flatnonzero(n_atoms == n)
            forward = deformations[modelled][members]
            hessians = np.zeros((len(members), n + 3, 3, n + 3, 3))
            blocks = pairs[first_pair[members][:, None] + np.arange(n * n)].reshape(-1, n, n, 3, 3)
            forwards = forward[:, None, None]
            blocks = -(forwards.transpose(0, 1, 2, 4, 3) @ blocks @ forwards).transpose(0, 1, 3, 2, 4)
            blocks[:, np.arange(n), :, np.arange(n), :] -= blocks.sum(3).transpose(1, 0, 2, 3)
            hessians[:, :n, :, :n] = blocks
            if cell:
                coupling = shears[first_atom[members][:, None] + np.arange(n)]
                coupling = -np.einsum("gki,gukac->guiac", forward, coupling)  # a and c: row and column of F
                hessians[:, :n, :, n:] = coupling
                hessians[:, n:, :, :n] = coupling.transpose(0, 3, 4, 1, 2)
                hessians[:, n:, :, n:] = strains[members]
            flat = hessians.reshape(len(members), 3 * n + 9, 3 * n + 9)
            flat[:, np.arange(3 * n + 9), np.arange(3 * n + 9)] += _EVERYWHERE
            self._groups.append((starts[members][:, None] + np.arange(n + 3), flat))

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """Multiply by the inverse Hessians, (K, R, 3) -> (K, R, 3); large crystals have a multiple of the unit matrix."""
        solved = vectors / _WITHOUT_MODEL
        for rows, hessians in self._groups:
            right = vectors[:, rows].reshape(len(vectors), *hessians.shape[:2]).transpose(1, 2, 0)
            solved[:, rows] = np.linalg.solve(hessians, right).transpose(2, 0, 1).reshape(len(vectors), *rows.shape, 3)
        return solved


def _sums(crystals: CrystalSet, deformations: np.ndarray, cell_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum over springs, with W a spring's stiffness, and b the undeformed bond over the scale of the cell.

    :return: W of the springs from atom i to j, shape (Σn², 3, 3), j running first; W ⊗ b of each atom's springs, shape
        (Σn, 3, 3, 3); and half of W_ab b_c b_d of all springs of a crystal in the order acbd, shape (B, 3, 3, 3, 3).
    """
    atom, other, vectors, lengths = _springs(crystals)
    crystal = crystals.crystal_of_atom[atom]
    stiffness = STIFFNESS * np.exp(-_DECAY * (np.maximum(lengths[1], _SHORTEST) - 1))
    stiffness -= STIFFNESS * np.exp(-_DECAY * (_REACH - 1))  # so that it ends at zero, and no spring appears at once
    unit = vectors / np.maximum(lengths[0], 1e-6)[:, None]  # of atoms on one spot it has no direction, and holds across alone
    matrices = (1 - _ACROSS) * unit[:, _ROWS] * unit[:, _COLUMNS] + _ACROSS * (_ROWS == _COLUMNS)
    matrices *= stiffness[:, None]
    bonds = np.einsum("pi,pji->pj", vectors, np.linalg.inv(deformations)[crystal]) / cell_scale[crystal][:, None]

    n_atoms = crystals.n_atoms
    first_pair = np.cumsum(n_atoms**2) - n_atoms**2
    pair = first_pair[crystal] + (atom - crystals.offsets[crystal]) * n_atoms[crystal] + other - crystals.offsets[crystal]
    pairs = _add_up(matrices, pair, int((n_atoms**2).sum()))[:, _SYMMETRIC]
    shears = _add_up(matrices[:, :, None] * bonds[:, None], atom, len(crystals.numbers))[:, _SYMMETRIC]
    squares = bonds[:, _ROWS] * bonds[:, _COLUMNS]
    strains = _add_up(0.5 * matrices[:, :, None] * squares[:, None], crystal, len(crystals))
    strains = strains[:, _SYMMETRIC][..., _SYMMETRIC].transpose(0, 1, 3, 2, 4)
    return pairs, shears, strains


def _add_up(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Add rows of equal index, (P, ...) -> (count, ...)."""
    sums = torch.zeros(count, *values.shape[1:], dtype=torch.float64)
    return sums.index_add_(0, torch.from_numpy(index), torch.from_numpy(values)).numpy()


def _springs(crystals: CrystalSet) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return for all springs, in both directions, the two atoms, the vectors, and the lengths in Å and over the radii."""
    radii = covalent_radii(crystals.numbers)
    cutoffs = 2 * _REACH * np.maximum.reduceat(radii, crystals.offsets[:-1])
    atom, other, _, vectors, lengths = neighbours(crystals.positions, crystals.lattices, crystals.n_atoms, cutoffs)
    relative = lengths / (radii[atom] + radii[other])
    near = relative < _REACH
    return atom[near], other[near], vectors[near], (lengths[near], relative[near])
