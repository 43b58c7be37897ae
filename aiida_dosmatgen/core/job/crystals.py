"""Jobs that make crystals to label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..constraints.constraints import Symbols
from ..dft.recipe import Recipe
from .base import Job, Written


class CrystalsJob(Job):
    """Make the crystals of a data set, in the order in which to label them: cheap ones first, elements balanced.

    :param structures: extxyz files, gzipped or not, whose frames name their ``source`` and ``id``.
    :param pseudo_directory: a folder of pseudopotentials; crystals of other elements are left out.
    :param elements: chemical symbols; crystals with others are left out. None: those that have a pseudopotential.
    :param reserved: a text file of chemical systems, such as ``Ga-N``, that are left out by whatever way a crystal comes.
    :param recipe: by which they are going to be labelled; its meshes tell what they cost.
    :param ground_states: whether the ground states of the elements are among them.
    :param substituted: how many prototypes of the AFLOW library with other elements are made.
    :param distorted: share of the crystals that come a second time, out of equilibrium.
    """

    kind: Literal["crystals"] = "crystals"
    structures: list[str] = []
    pseudo_directory: str
    elements: Symbols | None = None
    reserved: str | None = None
    recipe: Recipe = Recipe()
    ground_states: bool = True
    substituted: int = Field(0, ge=0)
    distorted: float = Field(0.25, ge=0, le=1)
    max_atoms: int = Field(20, ge=1)
    seed: int = Field(0, ge=0)
    output: Written = "crystals.npz"

    def input_files(self) -> list[str]:
        """Return the structures and the reserved systems."""
        return [*self.structures, *([] if self.reserved is None else [self.reserved])]
