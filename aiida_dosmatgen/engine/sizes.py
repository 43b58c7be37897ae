"""How many atoms crystals with a given density of states have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.dos import EnergyGrid
from .batch import DenseBatch
from .conditioning import CurveProjection, total_curve

_UNSEEN = 1e-4  # crystals, in place of none, so that logarithms stay finite
_HIDDEN = 0.3  # share of training crystals whose curve is hidden, for the distribution over all crystals


class SizeDistribution(nn.Module):
    """p(N | D): the number of atoms of the cell given the total DOS per atom, or of any crystal where none is given.

    It starts as the frequencies of the training set, from which a projection of the curve moves it. A curve tells of the
    stoichiometry, and by it of the multiples that N can be; it cannot tell a cell from its supercell.

    :param grid: the energies of the curves.
    :param max_atoms: the largest N.
    :param width: size of the embedding of the curve.
    """

    def __init__(self, grid: EnergyGrid, max_atoms: int, width: int = 64) -> None:
        super().__init__()
        self.max_atoms = max_atoms
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.zeros(max_atoms))
        self.curve = CurveProjection(grid, width)
        last = nn.Linear(width, max_atoms)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.SiLU(), last)

    def fit(self, batches: list[DenseBatch]) -> None:
        """Set the frequencies, and the statistics of the curves, from training crystals."""
        counts = torch.zeros(self.max_atoms)
        for batch in batches:
            counts += torch.bincount(batch.n_atoms.cpu() - 1, minlength=self.max_atoms)
        self.frequencies.copy_(torch.log(counts.clamp_min(_UNSEEN) / counts.sum()))
        self.curve.fit((total_curve(b.dos, b.mask), b.complete_below) for b in batches)

    def forward(self, total: Tensor, given: Tensor, complete_below: Tensor) -> Tensor:
        """Return ln p(N), N = 1 … max_atoms.

        :param total: states/eV/atom; anything where not given, shape (B, n).
        :param given: shape (B,).
        :param complete_below: energy in eV up to which the curves hold, shape (B,).
        :return: shape (B, max_atoms).
        """
        logits = self.head(self.curve(total, given, complete_below)) + self.frequencies
        return torch.log_softmax(logits, -1)

    def loss(self, total: Tensor, complete_below: Tensor, n_atoms: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the cross entropy of the sizes of a batch; some of its curves are hidden.

        :param generator: on the CPU.
        """
        given = torch.rand(len(total), generator=generator, dtype=torch.float64).to(total.device) >= _HIDDEN
        return nn.functional.nll_loss(self(total, given, complete_below), n_atoms - 1)
