"""The Hamiltonian: extended Hückel theory, with parameters that depend on the environment.

Between two orbitals of different atoms (Wolfsberg & Helmholz, J. Chem. Phys. 20, 837, 1952; Hoffmann, ibid. 39, 1397, 1963)

    H_μν = κ_μν(R) S_μν (ε_μ + ε_ν)/2,

with the overlap S of Slater orbitals (:mod:`.overlap`), κ of the kind of bond (ssσ, spσ, …) times a factor of each element
and a line in R over the sum of the covalent radii. As in GFN0-xTB (Pracht, Caldeweyher, Ehlert & Grimme, 2019) nothing is
iterated: on-site energies ε follow a charge that the neighbours' electronegativities push over, its potential, and the
coordination number; on top of that a small network reads the neighbours of an atom by distance and element, and corrects its
ε, exponents and κ. All numbers are fitted to densities of states (:mod:`...training.tightbinding`); elements start from
trends (:mod:`.elements`).

As in QE's projwfc.x the basis is orthogonalised by S^(−1/2) (Löwdin) before states are shared among the atoms.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ....core.crystals import CrystalSet
from ....core.dos import DEFAULT_GRID, DEFAULT_SIGMA
from ...batch import type_indices
from ...descriptors import N_DESCRIPTORS, descriptors
from ...precision import full_precision
from ..environment import pairs_within
from .bloch import BlochSum, Pairs
from .elements import valence
from .overlap import CHANNEL_OF_ORBITAL, N_ORBITALS, SHELL, bond_frames, two_centre
from .spectrum import Spectrum, inverse_square_root, projected_dos

CUTOFF = 6.5
"""Å; overlaps go to zero over the last 1.5 Å."""
KPOINTS_DISTANCE = 0.35
"""1/Å, of the mesh that curves are computed on."""
N_SHELLS = 3
"""s, p, d of each atom."""

_BONDS = {bond: index for index, bond in enumerate([
    (0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 2, 0), (1, 2, 0), (1, 2, 1), (2, 2, 0), (2, 2, 1), (2, 2, 2),
])}  # fmt: skip
"""Kinds of bonds: l, l' ≥ l, |m|."""

_EMBEDDING, _RADIAL, _HIDDEN = 6, 8, 48
_MOST_KPOINTS = 4096
_MOST_NEIGHBOURS = 60_000
_AT_ONCE = 2_000_000  # entries of matrices that are diagonalised together
_CRYSTALS_AT_ONCE = 32  # whose bonds are computed together
_FIRST_KPOINTS_DISTANCE = 0.7
_SHIFT = (0.52, 0.51, 0.53)  # steps; on symmetric points degenerate levels would have no slopes of their own
_FEWEST_KPOINTS_DISTANCE, _MOST_KPOINTS_FITTED = 0.5, 40


class _Surroundings(NamedTuple):
    """What the atoms' surroundings make of their orbitals: energies (eV), exponents (1/Å), factors of κ; each (N, 3)."""

    energies: Tensor
    exponents: Tensor
    factors: Tensor


class TightBinding(nn.Module):
    """Per-atom densities of states of crystals, differentiable in the parameters.

    Invariant to rotations and translations; equivariant to permutations of the atoms. What the crystal does beyond the nearest
    two or three shells comes from Bloch's theorem.

    :param elements: chemical symbols, in the order of the type index.
    :param from_atoms: start from the levels of free atoms, and with features of the elements made of what is known of them,
        instead of from trends and random ones; for many elements with few crystals each.
    """

    def __init__(self, elements: Sequence[str], from_atoms: bool = False) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self._distance: float | None = None
        start, n = valence(elements, from_atoms), len(elements)
        self.present: Tensor
        self.electrons: Tensor
        self.start: Tensor
        self.radii: Tensor
        self.centres: Tensor
        self.register_buffer("present", start.present, persistent=False)
        self.register_buffer("electrons", start.electrons, persistent=False)
        self.register_buffer("start", start.energies, persistent=False)
        self.register_buffer("radii", start.radii, persistent=False)
        self.register_buffer("centres", torch.linspace(0.7, 2.2, _RADIAL), persistent=False)
        # energies are in 10 eV here and there, so that one learning rate suits all parameters
        self.energy = nn.Parameter(torch.zeros(n, 3))
        self.exponent = nn.Parameter(start.exponents.log())
        self.bond = nn.Parameter(torch.full((len(_BONDS),), 2.0 if from_atoms else 1.6))
        self.bond_of_element = nn.Parameter(torch.zeros(n, 3, 3))
        self.slope_of_element = nn.Parameter(torch.zeros(n, 3, 3))
        self.electronegativity = nn.Parameter(-start.energies.sum(1) / start.present.sum(1) / 10)
        self.reach = nn.Parameter(torch.tensor(3.0))
        self.by_charge = nn.Parameter(torch.zeros(n, 3))
        self.by_coordination = nn.Parameter(torch.zeros(n, 3))
        self.by_potential = nn.Parameter(torch.zeros(n))
        self.embedding = nn.Parameter(0.5 * (_of_descriptors(elements) if from_atoms else torch.randn(n, _EMBEDDING)))
        self.correction = nn.Sequential(
            nn.Linear(_EMBEDDING * (1 + _RADIAL) + 3, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, 9),
        )
        nn.init.zeros_(self.correction[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.correction[-1].bias)  # type: ignore[arg-type]

    # --- from a crystal to its matrices -------------------------------------------------------------------------------------

    def _surroundings(self, types: Tensor, pairs: Pairs) -> _Surroundings:
        i, j, distance = pairs.i, pairs.j, pairs.vectors.norm(dim=1).to(self.reach)
        relative = distance / (self.radii[types[i]] + self.radii[types[j]])
        near = torch.exp(-self.reach.clamp(1, 8) * (relative - 1)).clamp_max(3)
        none = near.new_zeros(len(types))
        difference = self.electronegativity[types[j]] - self.electronegativity[types[i]]
        charge = none.index_add(0, i, near * difference)
        coordination = none.index_add(0, i, near) / 8
        potential = none.index_add(0, i, charge[j] * near)
        radial = torch.exp(-0.5 * ((relative[:, None] - self.centres) / 0.2).square()) * _envelope(distance)[:, None]
        seen = (self.embedding[types[j]][:, :, None] * radial[:, None]).flatten(1)
        density = seen.new_zeros(len(types), seen.shape[1]).index_add(0, i, seen)
        known = torch.stack([charge, coordination, potential], 1)
        energies, exponents, factors = self.correction(torch.cat([self.embedding[types], 0.3 * density, known], 1)).split(3, 1)
        energies = (
            self.start[types]
            + 10 * self.energy[types]
            + self.by_charge[types] * charge[:, None]
            + 10 * self.by_coordination[types] * coordination[:, None]
            + (self.by_potential[types] * potential)[:, None]
            + 3 * energies
        )
        return _Surroundings(energies, torch.exp(self.exponent[types] + 0.3 * exponents), 0.3 * factors)

    def _blocks(self, types: Tensor, pairs: Pairs, atoms: _Surroundings) -> tuple[Tensor, Tensor]:
        """Return Hamiltonian and overlap between the orbitals of each pair, shape (P, 9, 9) each."""
        i, j, distance = pairs.i, pairs.j, pairs.vectors.norm(dim=1)
        a, b = types[i], types[j]
        relative = distance / (self.radii[a] + self.radii[b]) - 1
        envelope = _envelope(distance)
        frames = bond_frames(pairs.vectors / distance[:, None])
        hamiltonian, overlap = (distance.new_zeros(len(distance), N_ORBITALS, N_ORBITALS) for _ in range(2))
        energies, exponents = atoms.energies.to(distance), atoms.exponents.to(distance)
        for l in range(3):
            for k in range(3):
                chosen = (self.present[a, l] & self.present[b, k]).nonzero()[:, 0]
                if not len(chosen):
                    continue
                of, to, x, y = i[chosen], j[chosen], a[chosen], b[chosen]
                m = min(l, k)
                s = two_centre(distance[chosen], exponents[of, l], exponents[to, k], l, k) * envelope[chosen, None]
                bonds = self.bond[[_BONDS[m, max(l, k), order] for order in range(m + 1)]]
                factor = (
                    1
                    + atoms.factors[of, l]
                    + atoms.factors[to, k]
                    + self.bond_of_element[x, l, k]
                    + self.bond_of_element[y, k, l]
                ) * (1 + (self.slope_of_element[x, l, k] + self.slope_of_element[y, k, l]) * relative[chosen])
                h = s * bonds * (0.5 * (energies[of, l] + energies[to, k]) * factor)[:, None]
                order = list(CHANNEL_OF_ORBITAL[: 2 * m + 1])
                left, right = frames[l][chosen][:, :, : 2 * m + 1], frames[k][chosen][:, :, : 2 * m + 1]
                for matrix, values in ((hamiltonian, h), (overlap, s)):
                    matrix[chosen, SHELL[l], SHELL[k]] = torch.einsum("pam,pm,pbm->pab", left, values[:, order], right)
        return hamiltonian, overlap

    @staticmethod
    def _orthogonalised(
        bloch: BlochSum, blocks: tuple[Tensor, Tensor], energies: Tensor, kpoints: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the Hamiltonians of one crystal in Löwdin's basis, and the S^(−1/2) that lead there, shape (K, n, n) each.

        :param energies: of the shells of each atom in eV, shape (n_atoms, 3).
        :param kpoints: 1/Å, shape (K, 3).
        """
        hamiltonian, overlap = (bloch.matrices(block, kpoints) for block in blocks)
        on_site = bloch.per_orbital(energies.to(kpoints))[bloch.orbitals]
        root = inverse_square_root(overlap + torch.eye(len(on_site), dtype=kpoints.dtype))
        orthogonal = root @ (hamiltonian + torch.diag(on_site)) @ root
        return 0.5 * (orthogonal + orthogonal.mH), root

    # --- for a fit ----------------------------------------------------------------------------------------------------------

    @full_precision
    def forward(
        self,
        types: Tensor,
        fractional: Tensor,
        lattices: Tensor,
        mask: Tensor,
        points: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Compute densities of states of B crystals padded to N atoms, in states/eV, shape (B, N, m).

        :param types: element indices, shape (B, N).
        :param points: energies relative to the highest occupied level in eV, shape (m,).
        :param generator: shifts the k-points at random; without it they are those of :meth:`curves`, each standing for itself.
        """
        _, i, j, vectors = pairs_within(fractional.double(), lattices.double(), mask, CUTOFF)
        index = torch.cumsum(mask.flatten(), 0) - 1  # of atoms without padding
        pairs, flat = Pairs(index[i], index[j], vectors), types[mask]
        atoms = self._surroundings(flat, pairs)
        blocks = self._blocks(flat, pairs, atoms)
        out = fractional.new_zeros(*mask.shape, len(points)).double()
        first = 0
        crystal_of_pair = torch.repeat_interleave(torch.arange(len(mask)), mask.sum(1))[pairs.i]
        for crystal, n in enumerate(mask.sum(1).tolist()):
            chosen, own = crystal_of_pair == crystal, slice(first, first + n)
            kpoints, _ = _mesh(lattices[crystal].double(), generator)
            part = Pairs(pairs.i[chosen] - first, pairs.j[chosen] - first, pairs.vectors[chosen])
            bloch = BlochSum(part, self.present[flat[own]])
            matrices, _ = self._orthogonalised(bloch, (blocks[0][chosen], blocks[1][chosen]), atoms.energies[own], kpoints)
            electrons = float(self.electrons[flat[own]].sum())
            out[crystal, :n] = projected_dos(matrices, electrons, points.double(), DEFAULT_SIGMA, bloch.atoms, n)
            first += n
        return out

    # --- for use ------------------------------------------------------------------------------------------------------------

    def curves(self, crystals: CrystalSet, by_shell: bool = False) -> np.ndarray:
        """Return the density of states of each atom on the default grid, in states/eV, float32, shape (ΣN_i, n).

        Zero for all atoms of crystals with an element that is not known here, of what is no crystal, and of crystals that are
        too dense to be any.

        :param by_shell: whether to keep s, p and d apart, shape (ΣN_i, 3, n).
        """
        curves = np.zeros((len(crystals.numbers), *([N_SHELLS] if by_shell else []), DEFAULT_GRID.n), dtype=np.float32)
        types = type_indices(crystals.numbers, self.elements)
        offsets = crystals.offsets
        places = [slice(a, b) for a, b in itertools.pairwise(offsets.tolist())]
        usable = [i for i, crystal in enumerate(crystals) if crystal.defect() is None and (types[places[i]] >= 0).all()]
        for start in range(0, len(usable), _CRYSTALS_AT_ONCE):
            some = usable[start : start + _CRYSTALS_AT_ONCE]
            found = self._curves(
                [torch.from_numpy(types[places[i]]) for i in some],
                [torch.from_numpy(crystals.fractional[places[i]]) for i in some],
                [torch.from_numpy(crystals.lattices[i]) for i in some],
                by_shell,
            )
            for i, dos in zip(some, found, strict=True):
                if dos is not None and np.isfinite(dos).all():
                    curves[places[i]] = dos
        return curves

    def curve(self, types: Tensor, fractional: Tensor, lattice: Tensor) -> np.ndarray | None:
        """Return what :meth:`curves` does of one crystal, shape (N, n); None if it cannot be treated."""
        return self._curves([types], [fractional], [lattice])[0]

    @contextlib.contextmanager
    def coarse(self) -> Iterator[None]:
        """Compute curves on a mesh of few k-points, for a first look: in a third of the time, off by 0.03 states/eV/atom."""
        self._distance = _FIRST_KPOINTS_DISTANCE
        try:
            yield
        finally:
            self._distance = None

    @torch.no_grad()
    @full_precision
    def _curves(
        self, types: list[Tensor], fractional: list[Tensor], lattices: list[Tensor], by_shell: bool = False
    ) -> list[np.ndarray | None]:
        """Compute several crystals: their bonds together, their states one by one."""
        meshes = [_mesh(lattice.double(), distance=self._distance or KPOINTS_DISTANCE) for lattice in lattices]
        treated = [
            k
            for k, (lattice, (kpoints, _)) in enumerate(zip(lattices, meshes, strict=True))
            # a cell so flat has thousands of images
            if torch.linalg.inv(lattice.double()).norm(dim=0).max() * CUTOFF <= 20 and len(kpoints) <= _MOST_KPOINTS
        ]
        curves: list[np.ndarray | None] = [None] * len(types)
        if not treated:
            return curves
        model = self.to("cpu")
        padded = torch.nn.utils.rnn.pad_sequence([fractional[k].double() for k in treated], batch_first=True)
        counts = torch.tensor([len(types[k]) for k in treated])
        mask = torch.arange(padded.shape[1]) < counts[:, None]
        crystal, i, j, vectors = pairs_within(padded, torch.stack([lattices[k].double() for k in treated]), mask, CUTOFF)
        few = torch.bincount(crystal, minlength=len(treated)) <= _MOST_NEIGHBOURS
        crystal, i, j, vectors = (x[few[crystal]] for x in (crystal, i, j, vectors))
        index = torch.cumsum(mask.flatten(), 0) - 1  # of atoms without padding
        flat = torch.cat([types[k] for k in treated])
        pairs = Pairs(index[i], index[j], vectors.to(self.reach))  # in float32 curves are good to 1e-4 states/eV
        atoms = model._surroundings(flat, pairs)
        blocks = model._blocks(flat, pairs, atoms)
        first = torch.cumsum(counts, 0) - counts
        ends = torch.searchsorted(crystal, torch.arange(len(treated) + 1)).tolist()  # pairs come crystal by crystal
        for place, k in enumerate(treated):
            if few[place]:
                own, start = slice(*ends[place : place + 2]), int(first[place])
                part = Pairs(pairs.i[own] - start, pairs.j[own] - start, pairs.vectors[own])
                energies = atoms.energies[start : start + len(types[k])]
                curves[k] = model._curve(types[k], part, (blocks[0][own], blocks[1][own]), energies, meshes[k], by_shell)
        return curves

    def _curve(
        self,
        types: Tensor,
        pairs: Pairs,
        blocks: tuple[Tensor, Tensor],
        energies: Tensor,
        mesh: tuple[Tensor, Tensor],
        by_shell: bool,
    ) -> np.ndarray | None:
        """Return the curves of one crystal, shape (N, n) or (N, 3, n); None if its levels cannot be found."""
        kpoints, steps = mesh
        bloch = BlochSum(pairs, self.present[types])
        parts = []
        for some in _chunks(kpoints.to(pairs.vectors), (N_ORBITALS * len(types)) ** 2):
            try:
                matrices, root = self._orthogonalised(bloch, blocks, energies, some)
                levels, states = torch.linalg.eigh(matrices)
            except torch.linalg.LinAlgError:
                return None
            # Hellmann & Feynman, in the basis that is not orthogonal
            energy, overlap = (bloch.slopes(block, some)(root @ states) for block in blocks)
            parts.append(Spectrum(levels, states, (energy - levels[..., None] * overlap) @ steps.T.to(levels)))
        spectrum = Spectrum(*(torch.cat(part) for part in zip(*parts, strict=True)))
        points = torch.tensor(DEFAULT_GRID.points, dtype=kpoints.dtype).to(spectrum.levels)
        electrons = float(self.electrons[types].sum())
        parts_of, n = (bloch.shells, N_SHELLS * len(types)) if by_shell else (bloch.atoms, len(types))
        dos = spectrum.dos(electrons, points, DEFAULT_SIGMA, parts_of, n).numpy()
        return dos.reshape(len(types), N_SHELLS, -1) if by_shell else dos


def _of_descriptors(elements: Sequence[str]) -> Tensor:
    """Return random projections of the descriptors of elements: alike elements start with alike features."""
    return descriptors(elements) @ torch.randn(N_DESCRIPTORS, _EMBEDDING) / math.sqrt(N_DESCRIPTORS)


def _envelope(distance: Tensor) -> Tensor:
    return 0.5 * (1 + torch.cos(math.pi * ((distance - CUTOFF + 1.5) / 1.5).clamp(0, 1)))


def _mesh(
    lattice: Tensor, generator: torch.Generator | None = None, distance: float = KPOINTS_DISTANCE
) -> tuple[Tensor, Tensor]:
    """Return k-points in 1/Å, shape (K, 3), and the steps of their mesh as rows, shape (3, 3).

    Without a generator half of a regular mesh that avoids Γ, the other half being its inverse; with one some points of a
    coarser mesh that is shifted at random, so that a fit sees all of the zone in time.
    """
    reciprocal = 2 * math.pi * torch.linalg.inv(lattice).T
    if generator is not None:
        distance = _FEWEST_KPOINTS_DISTANCE
    mesh = torch.ceil(reciprocal.norm(dim=1) / distance).clamp_min(1)
    shift = _SHIFT if generator is None else torch.rand(3, generator=generator).tolist()
    axes = [(torch.arange(m, dtype=lattice.dtype) + s) / m for m, s in zip(mesh.tolist(), shift, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    if generator is None:
        points = points[: (len(points) + 1) // 2]
    elif len(points) > _MOST_KPOINTS_FITTED:
        points = points[torch.randperm(len(points), generator=generator)[:_MOST_KPOINTS_FITTED]]
    return points @ reciprocal, reciprocal / mesh[:, None]


def _chunks(kpoints: Tensor, entries: int) -> Iterator[Tensor]:
    yield from kpoints.split(max(1, _AT_ONCE // entries))
