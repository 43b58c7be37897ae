"""Jobs that make crystals to label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..constraints.sites import Symbols
from ..dft.recipe import Recipe
from ..strict import Strict
from .base import Job, Written


class CrystalsParameters(Strict):
    """Which crystals are made.

    :param elements: chemical symbols; crystals with others are left out. None: those that have a pseudopotential.
    :param recipe: by which they are going to be labelled; its meshes tell what they cost.
    :param ground_states: whether the ground states of the elements are among them.
    :param substituted: how many prototypes of the AFLOW library with other elements are made.
    :param distorted: share of the crystals that come a second time, out of equilibrium.
    :param max_atoms: larger crystals are left out.
    """

    elements: Symbols | None = None
    recipe: Recipe = Recipe()
    ground_states: bool = True
    substituted: int = Field(0, ge=0)
    distorted: float = Field(0.25, ge=0, le=1)
    max_atoms: int = Field(20, ge=1)


class CrystalsJob(CrystalsParameters, Job):
    """Make the crystals of a data set, in the order in which to label them: the elements, then cheap ones first, balanced.

    :param structures: extxyz files, gzipped or not, whose frames name their ``source`` and ``id``, or ``npz`` files of crystals
        with these columns.
    :param pseudo_directory: a folder of pseudopotentials; crystals of other elements are left out.
    :param valences: instead of it, the valence electrons of each element that has a pseudopotential.
    :param reserved: chemical systems, such as ``Ga-N``, that are left out by whatever way a crystal comes: a text file of them
        or of their digests, or the entries themselves.
    :param seed: seed of all randomness.
    """

    kind: Literal["crystals"] = "crystals"
    structures: list[str] = []
    pseudo_directory: str | None = None
    valences: dict[str, float] | None = None
    reserved: str | list[str] | None = None
    seed: int = Field(0, ge=0)
    output: Written = "crystals.npz"

    @model_validator(mode="after")
    def _valences_from_one_source(self) -> CrystalsJob:
        if (self.pseudo_directory is None) == (self.valences is None):
            raise ValueError("give either pseudo_directory or valences")
        return self

    def input_files(self) -> list[str]:
        """Return the structures and the file of reserved systems."""
        return [*self.structures, *([self.reserved] if isinstance(self.reserved, str) else [])]
