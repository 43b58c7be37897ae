"""Jobs that label many frames with a force field, for another one to learn from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..constraints.sites import Symbols
from ..strict import Strict
from .base import Job, Written
from .label import Splits
from .relax import ForceField, RelaxParameters


class FrameShares(Strict):
    """Relative numbers of the kinds of frames, see :mod:`aiida_dosmatgen.engine.training.distillation.frames`."""

    rest: float = Field(0.10, ge=0)
    rattled: float = Field(0.25, ge=0)
    strained: float = Field(0.12, ge=0)
    scaled: float = Field(0.18, ge=0)
    substituted: float = Field(0.20, ge=0)
    soup: float = Field(0.10, ge=0)
    close: float = Field(0.05, ge=0)
    each: float = Field(0.0, ge=0)


class FramesParameters(Strict):
    """Which frames are made.

    :param count: frames to make, before those of systems that are held out are left out.
    :param elements: what substituted crystals and soups are made of; None takes those of the crystals. Those that the crystals
        do not have are taken ``rare`` as often as the others.
    :param max_atoms: of a frame; larger crystals are left out.
    :param shares: of the kinds.
    :param steps: substituted crystals and soups are relaxed by the force field, so many steps at most, and frames on the way
        are kept too; 0 relaxes none.
    :param split: frames of the chemical systems that it keeps for tests are left out; the same as that of the labelled set.
    :param largest_force: in eV/Å; frames with larger ones are left out.
    """

    count: int = Field(ge=1)
    elements: Symbols | None = None
    rare: float = Field(0.35, ge=0, le=1)
    max_atoms: int = Field(12, ge=1)
    shares: FrameShares = FrameShares()
    steps: int = Field(12, ge=0)
    split: Splits | None = None
    largest_force: float = Field(40.0, gt=0)


class FramesJob(FramesParameters, Job):
    """Make frames of crystals and compute energies, forces and stresses with a force field, for another to learn from.

    :param crystals: a set of crystals at rest; their columns ``source`` and ``id`` name the origin of the frames.
    :param reserved: chemical systems that never enter: a text file of them or of their digests
        (:mod:`aiida_dosmatgen.core.labelled.reserved`), or the entries themselves.
    :param directory: folder of finished parts; nothing in it is computed twice.
    :param seed: seed of all randomness.
    """

    kind: Literal["frames"] = "frames"
    seed: int = Field(0, ge=0)
    crystals: str
    force_field: ForceField
    reserved: str | list[str] | None = None
    directory: Written = "frames"
    output: Written = "frames.npz"

    def relaxation(self) -> RelaxParameters:
        """Return how substituted crystals and soups are relaxed."""
        return RelaxParameters(fmax=0.05, smax=0.5, max_steps=self.steps)

    def input_files(self) -> list[str]:
        """Return the crystals, the file of reserved systems, and the force field if it is a file."""
        others = [self.reserved, self.force_field.file]
        return [*super().input_files(), *[path for path in others if isinstance(path, str)]]
