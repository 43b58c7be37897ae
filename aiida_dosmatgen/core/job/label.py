"""Jobs that label crystals with Quantum ESPRESSO."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from ..dft.recipe import Recipe
from ..strict import Strict
from .base import Job, Written


class LabelSettings(Strict):
    """How labels are computed: one self-consistent run with extra bands, then the projections.

    :param stringency: which cutoffs of the pseudopotential table.
    :param kpoints_distance: largest distance of k-points in 1/Å, 2π included.
    :param degauss: smearing in Ry.
    :param sigma: Gaussian broadening of the DOS in eV (standard deviation).
    """

    stringency: Literal["fast", "normal"] = "fast"
    kpoints_distance: float = Field(0.3, gt=0.01)
    smearing: Literal["cold", "gaussian"] = "cold"
    degauss: float = Field(0.02, gt=0)
    sigma: float = Field(0.3, gt=0)
    pw_command: list[str] = ["pw.x"]
    projwfc_command: list[str] = ["projwfc.x"]
    max_seconds_per_crystal: float = Field(300, gt=0)

    def physics(self) -> str:
        """The settings that can change a result, as text to hash."""
        return json.dumps(
            self.model_dump(exclude={"pw_command", "projwfc_command", "max_seconds_per_crystal"}),
            sort_keys=True,
        )


class Splits(Strict):
    """What is kept for tests of models, by a hash of names: whole chemical systems, and whole prototypes.

    :param system_fraction: of the systems of several elements.
    :param prototype_fraction: of the prototypes.
    :param final_fraction: of the systems of several elements, for a split by which nothing is ever chosen.
    """

    system_fraction: float = Field(0.12, ge=0, lt=1)
    prototype_fraction: float = Field(0.06, ge=0, lt=1)
    final_fraction: float = Field(0.0, ge=0, lt=1)
    seed: int = Field(0, ge=0)


class LabelJob(Job):
    """Label crystals with Quantum ESPRESSO, ``workers`` at a time; records in ``directory`` are never computed twice.

    :param recipe: computes labels over the periodic table, resolved by spin and channel, on the pseudopotentials of
        ``pseudo_directory``; the crystals have the columns ``source`` and ``id``. Of ``settings`` it takes the commands and the
        time. None: labels by ``settings``, of one self-consistent run, as the force field ``dosmatgen-mace`` learnt from.
    :param shards: a folder to which what is new is added as a shard, with a manifest; needs a ``recipe``.
    :param max_cost: leave out crystals that are estimated to cost more core seconds than this.
    :param split: adds the column ``split``; crystals that it keeps for tests are never trained on. None adds none.
    """

    kind: Literal["label"] = "label"
    crystals: str
    settings: LabelSettings = LabelSettings()
    recipe: Recipe | None = None
    shards: Written | None = None
    max_cost: float | None = Field(None, gt=0)
    split: Splits | None = None
    workers: int = Field(1, ge=1)
    pseudo_directory: str | None = None
    directory: Written = "labels"
    output: Written = "labelled.npz"
