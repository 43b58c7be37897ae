"""CHGNet, evaluated on many crystals in one call.

The package chgnet brings the weights (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)) and evaluates crystals one by one, with
graphs that are made in Python. Here the graph of a whole batch is made at once, and the linear layers that begin each gated
perceptron act on atoms, bonds and angles before these are copied to where they are wanted, not after.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from ....core.crystals import CrystalSet
from ....core.errors import ContentError
from ...neighbours import Neighbours, neighbours
from .evaluation import BatchEvaluator, Evaluation

WEIGHTS = ("0.3.0", "r2scan")
"""Those of the package that are evaluated here; 0.2.0 has biases that depend on what else is in the batch."""

_UNSEEN = np.arange(84, 89)  # Po, At, Rn, Fr and Ra: MPtrj, the training set, has none of them
_ROWS = {"cpu": 6000, "cuda": 400_000}  # bonds and angles at a time: on a CPU those that stay in its caches


class Graph(NamedTuple):
    """The bonds and angles of B crystals with N atoms in all.

    :param center: atom at which each of D directed bonds begins, shape (D,).
    :param neighbor: atom at which it ends, shape (D,).
    :param images: lattice translations of that atom, shape (D, 3).
    :param undirected: which of U undirected bonds each is, shape (D,).
    :param representative: a directed bond of each undirected one, shape (U,).
    :param first: directed bond of each of A angles, shape (A,).
    :param second: the other directed bond, from the same atom, shape (A,).
    """

    center: np.ndarray
    neighbor: np.ndarray
    images: np.ndarray
    undirected: np.ndarray
    representative: np.ndarray
    first: np.ndarray
    second: np.ndarray


def graph_of(found: Neighbours, n_atoms: int, angle_cutoff: float) -> Graph:
    """Return pairs of atoms as bonds, with the angles between those that are shorter than a cutoff in Å.

    :param n_atoms: in all.
    """
    reach = np.abs(found.images).max(initial=0) + 1
    scale = (2 * reach + 1) ** np.arange(3)

    def key(i: np.ndarray, j: np.ndarray, images: np.ndarray) -> np.ndarray:
        return (i * n_atoms + j) * scale[2] * (2 * reach + 1) + (images + reach) @ scale

    same = np.minimum(key(found.i, found.j, found.images), key(found.j, found.i, -found.images))
    _, representative, undirected = np.unique(same, return_index=True, return_inverse=True)
    short = np.flatnonzero(found.lengths < angle_cutoff)  # sorted by the atom at which they begin
    count = np.bincount(found.i[short], minlength=n_atoms)
    of_bond = count[found.i[short]]
    begin = (np.cumsum(count) - count)[found.i[short]]
    first = np.repeat(np.arange(len(short)), of_bond)
    second = np.arange(len(first)) - np.repeat(np.cumsum(of_bond) - of_bond, of_bond) + np.repeat(begin, of_bond)
    two = first != second
    return Graph(found.i, found.j, found.images, undirected, representative, short[first[two]], short[second[two]])


class _Gated:
    """A gated perceptron of CHGNet on the concatenation of several inputs, whose first layer acts on each input by itself.

    :param module: the ``GatedMLP``.
    :param sizes: of the inputs.
    """

    def __init__(self, module: Any, sizes: list[int]) -> None:
        core, gate = ([x for x in part.layers if isinstance(x, torch.nn.Linear)] for part in (module.mlp_core, module.mlp_gate))
        self.weights = torch.cat([core[0].weight, gate[0].weight]).split(sizes, 1)
        self.bias = torch.cat([core[0].bias, gate[0].bias])
        self.core, self.gate = core[1:], gate[1:]
        self.norms = module.bn1, module.bn2

    def __call__(self, *inputs: tuple[Tensor, Tensor | None]) -> Tensor:
        """Apply it to features, each with the index that says which row of them each row of the output takes."""
        parts = [linear(features, weight) for (features, _), weight in zip(inputs, self.weights, strict=True)]
        hidden = self.bias
        for part, (_, index) in zip(parts, inputs, strict=True):
            hidden = hidden + (part if index is None else part.index_select(0, index))
        core, gate = hidden.chunk(2, 1)
        for layer in self.core:
            core = layer(silu(core))
        for layer in self.gate:
            gate = layer(silu(gate))
        return silu(self.norms[0](core)) * torch.sigmoid(self.norms[1](gate))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch work with one thread: so small chunks give a second one little, and where its core is busy all wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ChgnetEvaluator(BatchEvaluator):
    """CHGNet on many crystals in one call.

    :param model: of the package chgnet.
    """

    sha256: str | None = None

    def __init__(
        self,
        model: Any,
        description: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(torch.device(device))
        self.description, self.dtype = description, dtype
        self.model = model.to(device=self.device, dtype=dtype).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        settings = model.model_args
        self.cutoff, self.angle_cutoff = float(settings["atom_graph_cutoff"]), float(settings["bond_graph_cutoff"])
        atom, bond, angle = settings["atom_fea_dim"], settings["bond_fea_dim"], settings["angle_fea_dim"]
        self._atoms = [_Gated(layer.twoBody_atom, [atom, bond, atom]) for layer in model.atom_conv_layers]
        self._bonds = [_Gated(layer.twoBody_bond, [bond, bond, angle, atom]) for layer in model.bond_conv_layers]
        self._angles = [_Gated(layer.twoBody_bond, [bond, bond, angle, atom]) for layer in model.angle_layers]
        self._reference = np.concatenate([[0.0], model.composition_model.fc.weight.detach().double().cpu().numpy()[0]])  # eV
        self._rows = _ROWS.get(self.device.type, _ROWS["cpu"])

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Say which atomic numbers were in the training set of the weights."""
        return (numbers >= 1) & (numbers < len(self._reference)) & ~np.isin(numbers, _UNSEEN)

    def _evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Compute as many crystals at a time as have about so many bonds and angles."""
        found = neighbours(crystals.positions, crystals.lattices, crystals.n_atoms, self.cutoff)
        short = np.bincount(found.i[found.lengths < self.angle_cutoff], minlength=len(crystals.numbers))
        rows = np.bincount(found.i, minlength=len(crystals.numbers)) + short * (short - 1)
        rows = np.add.reduceat(rows, crystals.offsets[:-1])
        chunk = (np.cumsum(rows) - rows) // self._rows
        ends = [*np.flatnonzero(np.diff(chunk)) + 1, len(crystals)]
        parts = []
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            first, last = crystals.offsets[begin], crystals.offsets[end]
            pairs = slice(*np.searchsorted(found.i, [first, last]))  # they are sorted by their first atom
            some = Neighbours(*(part[pairs] for part in found))
            some = some._replace(i=some.i - first, j=some.j - first)
            with _one_thread() if self.device.type == "cpu" else contextlib.nullcontext():
                parts.append(self._compute(crystals[begin:end], graph_of(some, last - first, self.angle_cutoff)))
        return Evaluation(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _compute(self, crystals: CrystalSet, graph: Graph) -> Evaluation:
        def integer(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.int64, device=self.device)

        def real(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=self.dtype, device=self.device)

        owner = integer(crystals.crystal_of_atom)
        positions = real(crystals.positions).requires_grad_()
        strain = torch.zeros(len(crystals), 3, 3, dtype=self.dtype, device=self.device, requires_grad=True)
        bonds = _Bonds(
            *(integer(x) for x in (graph.center, graph.neighbor, graph.undirected, graph.representative)),
            *(integer(x) for x in (graph.first, graph.second)),
        )
        shifts = real(np.einsum("ei,eij->ej", graph.images, crystals.lattices[crystals.crystal_of_atom[graph.center]]))
        vectors = positions[bonds.center] - positions[bonds.neighbor] - shifts
        vectors = vectors + torch.einsum("ei,eij->ej", vectors, strain[owner[bonds.center]])
        sites = self._sites(integer(crystals.numbers), vectors, bonds)
        energies = torch.zeros(len(crystals), dtype=self.dtype, device=self.device).index_add(0, owner, sites)
        gradients = torch.autograd.grad(energies.sum(), [positions, strain], allow_unused=True)
        of_positions, of_strain = (
            torch.zeros_like(x) if g is None else g for x, g in zip([positions, strain], gradients, strict=True)
        )
        reference = np.bincount(crystals.crystal_of_atom, weights=self._reference[crystals.numbers], minlength=len(crystals))
        stresses = of_strain.double().cpu().numpy() / crystals.volumes[:, None, None]
        return Evaluation(
            energies.detach().double().cpu().numpy() + reference,
            -of_positions.double().cpu().numpy(),
            (stresses + stresses.transpose(0, 2, 1)) / 2,
        )

    def _sites(self, numbers: Tensor, vectors: Tensor, bonds: _Bonds) -> Tensor:
        """Return the energy of each atom in eV, without the reference of its element, shape (N,)."""
        model = self.model
        lengths = vectors.norm(dim=1)
        directions = vectors / lengths[:, None]
        undirected = lengths[bonds.representative]
        expansion = model.bond_basis_expansion
        bases = expansion.rbf_expansion_ag(undirected)
        weights = model.bond_weights_ag(bases).index_select(0, bonds.undirected)
        atom, bond = model.atom_embedding(numbers - 1), model.bond_embedding(bases)
        first, second, vertex = (bonds.undirected[bonds.first], bonds.undirected[bonds.second], bonds.center[bonds.first])
        if len(first):
            angle_weights = model.bond_weights_bg(expansion.rbf_expansion_bg(undirected))
            angle_weights = angle_weights.index_select(0, first) * angle_weights.index_select(0, second)
            angle = model.angle_embedding(
                model.angle_basis_expansion(directions.index_select(0, bonds.first), directions.index_select(0, bonds.second))
            )
        last = len(self._atoms) - 1
        for k, layer in enumerate(model.atom_conv_layers):
            messages = self._atoms[k]((atom, bonds.center), (bond, bonds.undirected), (atom, bonds.neighbor)) * weights
            atom = layer.mlp_out(torch.zeros_like(atom).index_add(0, bonds.center, messages)) + atom
            if k < last and len(first):
                inputs = ((bond, first), (bond, second), (angle, None), (atom, vertex))
                messages = self._bonds[k](*inputs) * angle_weights
                bond = model.bond_conv_layers[k].mlp_out(torch.zeros_like(bond).index_add(0, first, messages)) + bond
                if k < last - 1:  # the angles of the last layer are not looked at
                    angle = self._angles[k]((bond, first), (bond, second), (angle, None), (atom, vertex)) + angle
        return model.mlp(model.readout_norm(atom)).squeeze(1)


class _Bonds(NamedTuple):
    """The graph as tensors."""

    center: Tensor
    neighbor: Tensor
    undirected: Tensor
    representative: Tensor
    first: Tensor
    second: Tensor


def load_chgnet(weights: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> ChgnetEvaluator:
    """Load CHGNet with weights that its package brings.

    :param weights: one of :data:`WEIGHTS`.
    :raises ContentError: without the package.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            from chgnet.model.model import CHGNet
        except ImportError as exception:
            raise ContentError(f"CHGNet cannot be imported ({exception}); pip install chgnet") from None
        model = CHGNet.load(model_name=weights, use_device="cpu", verbose=False)
    return ChgnetEvaluator(model, f"CHGNet {weights}", device=device, dtype=dtype)
