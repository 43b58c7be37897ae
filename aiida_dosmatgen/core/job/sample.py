"""Jobs that sample candidates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..constraints.constraints import Constraints
from ..contacts import MIN_CONTACT
from ..strict import Strict
from .base import Job, Written


class SizeRange(Strict):
    """Numbers of atoms from ``min`` to ``max``, both included; each candidate draws its own from what fits the target."""

    min: int = Field(1, ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> SizeRange:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Compositions(Strict):
    """Which compositions candidates are given.

    :param count: how many of the likeliest are taken.
    :param temperature: candidates are shared out by p^(1/T); 1 takes the probabilities as they are, more makes them alike.
    :param electrons: whether compositions are weighed by the number of electrons that the target's curve holds.
    """

    count: int = Field(16, ge=1)
    temperature: float = Field(1.0, gt=0)
    electrons: bool = True


class SampleParameters(Strict):
    """What the sampler computes.

    :param n_atoms: atoms of each candidate: a number; a list, from which candidate i takes entry i modulo its length; a range
        ``{"min": 2, "max": 8}``, in which each candidate draws its number from those that the training set makes likely for
        the target. None takes the number that the target, the template or the composition has, and draws it if none of them
        has one.
    :param sampler: ``ode`` is the deterministic few-step solver, ``ancestral`` the paper's predictor–corrector.
    :param steps: steps from pure noise (or from ``start_time``) to a crystal.
    :param corrector_steps: Langevin half-steps after each ancestral step.
    :param coordinate_power: drift of the coordinates in the ``ode`` sampler, in units of the probability flow's. 2 draws
        nearer to the modes than the model's own distribution, which crystals want; 1 samples that distribution.
    :param guidance: ``classifier-free``; ``classifier`` follows the gradient of a predictor on noised crystals (the job's
        ``classifier``) from the unconditional model; ``none`` conditions without guiding, as a scale of 0 does.
    :param guidance_scale: w of classifier-free guidance, (1+w)·conditional − w·unconditional, or the factor of the gradient.
    :param guidance_interval: times (from 0, the crystal, to 1, pure noise) between which guidance acts (arXiv:2404.07724).
    :param constraints: what is held of the candidates.
    :param compositions: the elements of the sites are decided first, from the target, and held; each candidate takes one of the
        likeliest compositions. None leaves the elements to the diffusion.
    :param start_time: the time to which the job's template is noised, to start from it; None starts from pure noise.
    :param attempts: how often a candidate is drawn at most, each time from noise of its own, until no two of its atoms lie on
        each other; if none of the attempts keeps them apart, the best is taken. 1 draws once, whatever comes.
    :param min_contact: two atoms lie on each other if their distance is below this, in units of the sum of their covalent
        radii; the screening's limit by default.
    :param precision: arithmetic of the network.
    :param unseen: whether to go beyond the training set: to candidates of more atoms than its largest crystal, and to targets
        that are broader than its curves. Both are refused otherwise.
    """

    n_atoms: int | list[int] | SizeRange | None = None
    sampler: Literal["ode", "ancestral"] = "ode"
    steps: int = Field(30, ge=1)
    corrector_steps: int = Field(1, ge=0)
    coordinate_power: float = Field(2.0, ge=1, le=2)
    guidance: Literal["none", "classifier-free", "classifier"] = "classifier-free"
    guidance_scale: float = Field(1.0, ge=0)
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    constraints: Constraints | None = None
    compositions: Compositions | None = None
    start_time: float | None = Field(None, gt=0, le=1)
    attempts: int = Field(3, ge=1)
    min_contact: float = Field(MIN_CONTACT, ge=0)
    precision: Literal["float32", "float64", "bfloat16"] = "float64"
    unseen: bool = False

    @model_validator(mode="after")
    def _interval_in_order(self) -> SampleParameters:
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"guidance_interval [{low}, {high}] is not an interval of times between 0 and 1")
        if self.compositions is not None and self.start_time is not None:
            raise ValueError("start_time starts from the template's elements, compositions proposes others; leave out one")
        return self


class SampleJob(Job):
    """Generate candidates ``start`` … ``stop − 1`` with a checkpoint, conditioned on a target (None: unconditional).

    :param classifier: checkpoint of the predictor on noised crystals, for ``guidance`` ``classifier``.
    :param template: crystals to start from or to hold parts of; candidate i uses crystal i modulo their number.
    :param seed: seed of all randomness.
    """

    kind: Literal["sample"] = "sample"
    checkpoint: str
    target: str | None = None
    classifier: str | None = None
    template: str | None = None
    seed: int = Field(ge=0)
    start: int = Field(0, ge=0)
    stop: int = Field(ge=1)
    parameters: SampleParameters = SampleParameters()
    output: Written = "candidates.npz"
