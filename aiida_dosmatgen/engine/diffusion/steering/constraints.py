"""What is held, and how it is imposed on a batch at each step of the sampler.

Types and lattice are held through their data prediction: with the exact x_0 in its place, every step of a variance-preserving
process follows the exact noised marginal of x_0. Coordinates are held by putting them back on their own noised path, x_0 + σ·ε,
after each step (replacement, arXiv:2201.09865, with one ε for all times).

The denoiser knows Niggli-reduced cells. Where the user's cell is given, all is done in its reduced basis and taken back at the
end by the matrix of integers between the two; what is held is then written over, so that it is the same to the last bit.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ....core.constraints.constraints import ResolvedConstraints
from ....core.crystals import CrystalSet
from ...batch import type_indices
from ...niggli import niggli
from ..denoiser import TYPE_SCALE, Denoiser, State
from .transport import project

__all__ = ["Constrained"]


class Constrained:
    """Holds parts of a batch of B candidates of N atoms.

    :param model: of whose processes and scales the states are.
    :param held: what is held of each of the candidates.
    :param power: of the drift in the ``ode`` sampler (:meth:`..noise.WrappedNormal.ode_step`), along which displacements from
        the data shrink as σ^power. Held coordinates shrink alike, or the others would lag behind them. 1 for ``ancestral``.
    """

    def __init__(self, model: Denoiser, held: Sequence[ResolvedConstraints], power: float = 1.0) -> None:
        self.model, self.held, self.power = model, list(held), power
        self.n_atoms = len(held[0].allowed)
        self.changes = [_change(h.basis) for h in held]
        self.allowed = self._tensor([h.allowed for h in held])
        self.counted = [i for i, h in enumerate(held) if h.counts is not None]
        self.counts = self._tensor([held[i].counts for i in self.counted])
        self.coordinates = self._tensor([h.coordinates @ m for h, m in zip(held, self.changes, strict=True)])
        self.coordinates_held = self._tensor([h.coordinates_held for h in held])[..., None]
        self.displacements, self.first_width = torch.zeros_like(self.coordinates), 1.0
        self.lattices = torch.zeros(len(held), 6, dtype=torch.float64, device=model.device)
        self.lattices_held = torch.zeros(len(held), 6, dtype=torch.bool, device=model.device)
        self._hold_lattices()

    def _tensor(self, arrays: Sequence[np.ndarray | None]) -> Tensor:
        return torch.as_tensor(np.array(arrays), device=self.model.device)

    def _standardised(self, lattice: np.ndarray) -> Tensor:
        """Standardised components of a lattice (3, 3), shape (6,), in double precision."""
        cell = torch.as_tensor(lattice, dtype=torch.float64, device=self.model.device)
        return self.model.lattices.standardise(cell[None], torch.tensor([self.n_atoms], device=cell.device))[0]

    def _hold_lattices(self) -> None:
        for i, (h, change) in enumerate(zip(self.held, self.changes, strict=True)):
            first, last = (0 if h.shape is None else 1), (6 if h.volume is None else 1)
            cell = h.lattice if h.lattice is not None else h.shape
            if cell is not None:
                cell = np.linalg.inv(change) @ cell
            elif h.volume is not None:
                cell = np.cbrt(h.volume) * np.eye(3)
            else:
                continue
            self.lattices[i, first:last] = self._standardised(cell)[first:last]
            self.lattices_held[i, first:last] = True

    # --- at each evaluation -----------------------------------------------------------------------------------------

    def logits(self, logits: Tensor) -> Tensor:
        """Return logits (B, N, K), in float32 at least, whose softmax gives nothing to elements that are not allowed.

        With an exact composition they are logarithms of the nearest probabilities that have it (:func:`.transport.project`).
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        masked = logits.masked_fill(~self.allowed, torch.finfo(logits.dtype).min / 2)
        if not self.counted:
            return masked
        masked[self.counted] = project(logits[self.counted], self.allowed[self.counted], self.counts)
        return masked

    def lattice(self, data: Tensor) -> Tensor:
        """Return the data prediction (B, 6) with the components that are held in the place of the predicted ones."""
        return torch.where(self.lattices_held, self.lattices.to(data.dtype), data)

    # --- at each state ----------------------------------------------------------------------------------------------

    def start(self, prior: State) -> State:
        """Return the prior with held coordinates on their paths, whose normal noise is made from the uniform prior itself."""
        uniform = prior.fractional.double().clamp(1e-9, 1 - 1e-9)
        self._displace(math.sqrt(2) * torch.erfinv(2 * uniform - 1), 1.0)
        return self.state(prior, 1.0)

    def _displace(self, noise: Tensor, time: float) -> None:
        """Set where held coordinates start, at x_0 + σ·ε."""
        self.first_width = self.model.coordinates.width(time)
        self.displacements = self.first_width * noise.double()

    def state(self, state: State, time: float) -> State:
        """Return a state at a time with held coordinates at x_0 + σ·ε (to the power), and exactly at x_0 at time 0."""
        path = self.coordinates + (self.model.coordinates.width(time) / self.first_width) ** self.power * self.displacements
        return state._replace(fractional=torch.where(self.coordinates_held, path.to(state.fractional.dtype), state.fractional))

    def noised_template(self, time: float, noise: State) -> State:
        """Return the templates noised to a time, with what is held in the place of what they have.

        :param noise: normal, for all parts; it is the ε of the held coordinates from here on.
        """
        self._displace(noise.fractional, time)
        types, coordinates, lattices = [], [], []
        for h, change in zip(self.held, self.changes, strict=True):
            assert h.template is not None
            there = np.eye(len(self.model.elements))[type_indices(h.template.numbers, self.model.elements)]
            possible = (h.allowed & (there > 0)).any(1, keepdims=True)  # an element that is not leaves any of those that are
            types.append(TYPE_SCALE * np.where(possible, there, h.allowed / h.allowed.sum(1, keepdims=True)))
            coordinates.append(h.template.fractional @ change)
            lattices.append(self._standardised(np.linalg.inv(change) @ h.template.lattices[0]))
        a, sigma = self.model.types.scales(time)
        width = self.model.coordinates.width(time)
        state = State(
            a * self._tensor(types) + sigma * noise.types,
            self._tensor(coordinates) + width * noise.fractional,
            a * self.lattice(torch.stack(lattices)) + sigma * noise.lattice,
        )
        return self.state(State(*(part.to(noise.lattice.dtype) for part in state)), time)

    # --- at the end -------------------------------------------------------------------------------------------------

    def finish(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a state at t = 0 as crystals in which everything that is held is held exactly.

        Elements are the likeliest of those allowed; with an exact composition, the likeliest assignment (Hungarian method).
        Coordinates and matrices that are held are the given numbers, a volume is right to rounding, a shape is the given
        matrix times one number.

        :return: indices of elements (B, N), fractional coordinates (B, N, 3), in [0, 1) but for the held ones, and lattices
            (B, 3, 3) in Å.
        """
        atoms = torch.full((len(self.held),), self.n_atoms, device=self.model.device)
        cells = self.model.lattices.lattices(self.lattice(state.lattice.double()), atoms).cpu().numpy()
        fractional = state.fractional.double().cpu().numpy()
        scores = np.nan_to_num(state.types.double().cpu().numpy())
        return (
            np.stack([_elements(h, s) for h, s in zip(self.held, scores, strict=True)]),
            np.stack([_fractional(h, x, m) for h, x, m in zip(self.held, fractional, self.changes, strict=True)]),
            np.stack([_lattice(h, x, m) for h, x, m in zip(self.held, cells, self.changes, strict=True)]),
        )


def _change(basis: np.ndarray | None) -> np.ndarray:
    """Return the integers M of basis = M·reduced, shape (3, 3): coordinates f of the basis are f·M in the reduced one."""
    if basis is None:
        return np.eye(3)
    reduced = niggli(CrystalSet(np.ones(1), np.ones(1), np.zeros((1, 3)), basis[None])).lattices[0]
    return np.rint(basis @ np.linalg.inv(reduced))


def _elements(held: ResolvedConstraints, scores: np.ndarray) -> np.ndarray:
    if held.counts is None:
        return np.where(held.allowed, scores, -np.inf).argmax(-1)
    places = np.repeat(np.arange(len(held.counts)), held.counts)
    _, chosen = linear_sum_assignment(np.where(held.allowed, scores, -np.inf)[:, places], maximize=True)
    return places[chosen]


def _fractional(held: ResolvedConstraints, fractional: np.ndarray, change: np.ndarray) -> np.ndarray:
    own = fractional @ np.rint(np.linalg.inv(change)) % 1.0 % 1.0  # twice: -1e-17 % 1 is 1
    return np.where(held.coordinates_held[:, None], held.coordinates, own)


def _lattice(held: ResolvedConstraints, cell: np.ndarray, change: np.ndarray) -> np.ndarray:
    if held.lattice is not None:
        return held.lattice
    volume = abs(np.linalg.det(cell)) if held.volume is None else held.volume
    own = change @ cell if held.shape is None else held.shape
    if held.shape is None and held.volume is None:
        return own
    return own * np.cbrt(volume / abs(np.linalg.det(own)))
