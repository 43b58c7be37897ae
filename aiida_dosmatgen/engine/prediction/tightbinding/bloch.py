"""From blocks between pairs of atoms to matrices between Bloch sums, and how fast levels change with the wave vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .overlap import N_ORBITALS


class Pairs(NamedTuple):
    """Neighbours of one or more crystals: sender and receiver (P,), and vectors between them in Å (P, 3)."""

    i: Tensor
    j: Tensor
    vectors: Tensor


class BlochSum:
    """Σ M_ij(R)·exp(ik·R) over the pairs of atoms (i, j) of one crystal that are R apart, for many k at a time.

    :param pairs: of the crystal, its atoms counted from 0.
    :param present: whether an atom has a shell s, p, d, shape (n_atoms, 3).
    """

    def __init__(self, pairs: Pairs, present: Tensor) -> None:
        self.n_atoms = len(present)
        self.per_atom = N_ORBITALS if bool(present[:, 2].any()) else 4
        self.orbitals = self.per_orbital(present).nonzero()[:, 0]
        self.atoms = torch.div(self.orbitals, self.per_atom, rounding_mode="floor")
        """The atom of each orbital, shape (n,)."""
        shells = torch.arange(3 * self.n_atoms).view(-1, 3)
        self.shells = self.per_orbital(shells)[self.orbitals]
        """Three times the atom of each orbital, plus its l, shape (n,)."""
        group = pairs.i * self.n_atoms + pairs.j
        self.order = torch.argsort(group, stable=True)
        counts = torch.bincount(group, minlength=self.n_atoms**2)
        self.widest = max(1, int(counts.max()))
        first = torch.cumsum(counts, 0) - counts
        self.slots = group[self.order] * self.widest + torch.arange(len(group)) - first[group[self.order]]
        self.vectors = pairs.vectors[self.order]

    def per_orbital(self, of_shells: Tensor) -> Tensor:
        """Repeat what each shell of each atom has, (n_atoms, 3), for its orbitals, absent ones too, flat."""
        return of_shells.repeat_interleave(torch.tensor([1, 3, 5]), 1)[:, : self.per_atom].reshape(-1)

    def matrices(self, blocks: Tensor, kpoints: Tensor) -> Tensor:
        """Return the sums, shape (K, n, n).

        :param blocks: of each pair, shape (P, 9, 9).
        :param kpoints: 1/Å, shape (K, 3).
        """
        real, (cosines, sines) = self._spread(blocks), self._phases(kpoints)
        return self._square(torch.complex(cosines @ real, sines @ real))

    def slopes(self, blocks: Tensor, kpoints: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from states ψ, shape (K, n, m), to the diagonal of ψ†·∂M/∂k·ψ, shape (K, m, 3)."""
        real, (cosines, sines) = self._spread(blocks), self._phases(kpoints)
        vectors = self._padded(self.vectors)
        along = [real * vectors[:, :, axis, None] for axis in range(3)]
        derivatives = [self._square(torch.complex(-sines @ r, cosines @ r)) for r in along]
        return lambda states: torch.stack([(states.conj() * (d @ states)).sum(1).real for d in derivatives], -1)

    def _phases(self, kpoints: Tensor) -> tuple[Tensor, Tensor]:
        phases = self.vectors @ kpoints.T
        return self._padded(torch.cos(phases)).mT, self._padded(torch.sin(phases)).mT

    def _spread(self, blocks: Tensor) -> Tensor:
        return self._padded(blocks[self.order][:, : self.per_atom, : self.per_atom].flatten(1))

    def _padded(self, values: Tensor) -> Tensor:
        """Pad what is sorted by pair of atoms to the pair with most images: (n_atoms², widest, …)."""
        padded = values.new_zeros(self.n_atoms**2 * self.widest, *values.shape[1:]).index_copy(0, self.slots, values)
        return padded.view(self.n_atoms**2, self.widest, -1)

    def _square(self, sums: Tensor) -> Tensor:
        """Turn sums for each pair of atoms, (n_atoms², K, per_atom²), into matrices between the orbitals that there are."""
        n = self.n_atoms * self.per_atom
        matrices = sums.view(self.n_atoms, self.n_atoms, -1, self.per_atom, self.per_atom)
        matrices = matrices.permute(2, 0, 3, 1, 4).reshape(-1, n, n)
        matrices = matrices[:, self.orbitals][:, :, self.orbitals]
        return 0.5 * (matrices + matrices.mH)
