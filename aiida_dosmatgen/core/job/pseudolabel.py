"""Jobs that label crystals with a predictor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..strict import Strict
from .base import Job, Written
from .label import Splits
from .relax import ForceField, RelaxParameters


class PseudolabelParameters(Strict):
    """Which crystals are made, and which of them are kept.

    :param elements: chemical symbols.
    :param count: crystals to make in a round, before any is left out; none are made of 0.
    :param rounds: how often that is done; each round has a seed of its own, and what was made in one does not limit another.
    :param max_atoms: of a crystal.
    :param relaxed: share of them that is relaxed first, a few steps only; the others stay as made.
    :param parameters: of that relaxation.
    :param split: crystals that it keeps for tests are left out; the same as that of the labelled set.
    :param most_of_system: crystals of a chemical system in a round, at most.
    :param left_out: share of the predictions left out, the least certain ones.
    """

    elements: list[str] = Field(min_length=1)
    count: int = Field(ge=0)
    rounds: int = Field(1, ge=1)
    max_atoms: int = Field(8, ge=1)
    relaxed: float = Field(0.6, ge=0, le=1)
    parameters: RelaxParameters = RelaxParameters(fmax=0.1, max_steps=40)
    split: Splits | None = None
    most_of_system: int = Field(80, ge=1)
    left_out: float = Field(0.05, ge=0, lt=1)


class PseudolabelJob(PseudolabelParameters, Job):
    """Predict the densities of states of many new prototype crystals, for a denoiser to learn from besides labelled ones.

    :param crystals: further crystals, as ``dosmatgen crystals`` makes them of real ones; those of other elements, and larger
        ones, are left out.
    :param reserved: chemical systems of which no crystal is labelled: a text file of them or of their digests
        (:mod:`..labelled.reserved`), or the entries themselves.
    :param seed: seed of all randomness.
    """

    kind: Literal["pseudolabel"] = "pseudolabel"
    seed: int = Field(0, ge=0)
    force_field: ForceField
    predictor: str
    crystals: str | None = None
    reserved: str | list[str] | None = None
    directory: Written = "pseudolabels"
    output: Written = "pseudolabelled.npz"

    def input_files(self) -> list[str]:
        """Return the predictor, the crystals, and the force field and the reserved systems if they are files."""
        others = [self.force_field.file, self.reserved]
        return [*super().input_files(), *[path for path in others if isinstance(path, str)]]
