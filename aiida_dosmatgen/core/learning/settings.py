"""The settings of a loop that learns, and the criteria of its gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..dft.labels import MAX_FORCE
from ..strict import Strict


class GateCriteria(Strict):
    """What a DFT result has to fulfil to enter the training set. The criteria are applied in this order.

    :param least_projected: smallest accepted share of the occupied states that the projections saw.
    :param least_high: energy in eV up to which the curve has to be known at least.
    :param most_force: largest accepted force in eV/Å.
    :param small_force: in eV/Å; a crystal with a larger force is not at equilibrium.
    :param off_equilibrium: what becomes of a crystal that is not at equilibrium: ``label`` lets it enter with the kind
        ``off-equilibrium``, ``refuse`` does not.
    :param least_formation_energy: smallest accepted formation energy by DFT in eV/atom. The elements are those of the training
        set, so that a result of other settings than the set's falls far outside.
    :param most_formation_energy: largest accepted one.
    :param most_energy_change: largest accepted difference of the energy of a repeated run in eV/atom.
    :param most_curve_change: largest accepted difference of the total curve of a repeated run in states/eV/atom.
    :param same_length: relative difference of lengths up to which two crystals can be copies of each other.
    :param same_site: the same of the positions of sites, over the cube root of the volume of an atom.
    """

    least_projected: float = Field(0.85, ge=0, le=1)
    least_high: float = 3.0
    most_force: float = Field(MAX_FORCE, gt=0)
    small_force: float = Field(0.5, ge=0)
    off_equilibrium: Literal["label", "refuse"] = "label"
    least_formation_energy: float = -6.0
    most_formation_energy: float = 2.0
    most_energy_change: float = Field(2e-3, gt=0)
    most_curve_change: float = Field(0.05, gt=0)
    same_length: float = Field(0.03, gt=0)
    same_site: float = Field(0.1, gt=0)


class LearnSettings(Strict):
    """How a loop learns. Protocols set those that have no default here.

    :param budget: DFT runs of all rounds together, repeated ones included.
    :param max_rounds: rounds at most.
    :param top_k: how many candidates of each target DFT computes in a round.
    :param repeats: how many of a round's DFT results are computed once more, for the gate to compare.
    :param models: the kinds of models that learn; none runs the same rounds with the models as they are, to compare with.
    :param rehearsal: how many known crystals a model sees again for each crystal found by the loop.
    :param most_worse: by which share a figure on held-out crystals may get worse for a checkpoint to be accepted.
    :param patience: rounds in a row without a gain after which the loop stops.
    :param distance_gain: share by which the mean over the targets of their best DFT distance must fall to be a gain; None never
        stops for it.
    :param curves_gain: the same of the error of the curves of held-out crystals.
    :param seed: of the first round; the next ones have the numbers that follow.
    """

    budget: int = Field(ge=1)
    max_rounds: int = Field(ge=1)
    top_k: int = Field(ge=1)
    repeats: int = Field(1, ge=0)
    models: list[Literal["denoiser", "predictor"]] = ["denoiser", "predictor"]
    rehearsal: float = Field(10.0, ge=0)
    most_worse: float = Field(0.02, ge=0)
    patience: int = Field(2, ge=1)
    distance_gain: float | None = Field(0.01, ge=0)
    curves_gain: float | None = Field(None, ge=0)
    seed: int = Field(1, ge=0)
