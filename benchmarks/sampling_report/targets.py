"""What is asked for: curves of crystals that no model has seen, in batches of equal size."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import Composition
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.labelled.splits import split_by_system
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.training.dataset import hash_of, load_labelled

MODELS = Path(__file__).parents[2] / "aiida_dosmatgen" / "models"


def held_out(dataset: Path, headers: dict[str, CheckpointHeader]) -> CrystalSet:
    """Return the crystals that none of the models has been trained on: those kept for tests, if the set says which.

    :raises ContentError: naming the model that has seen them.
    """
    crystals = load_labelled(dataset)
    by_column = "split" in crystals.crystal_columns
    digest, first = hash_of(dataset, "data set"), next(iter(headers.values())).training
    fraction = first.parameters["validation_fraction"]
    for name, header in headers.items():
        training = header.training
        if training.dataset_sha256 != digest:
            raise ContentError(f"the {name} was trained on another data set than {dataset}; give the one it was trained on")
        if by_column:
            continue
        if not training.parameters["validation_fraction"]:
            raise ContentError(f"the {name} was trained without crystals held out; give one that was not")
        if (training.seed, training.parameters["validation_fraction"]) != (first.seed, fraction):
            raise ContentError(
                f"the {name} and the {next(iter(headers))} hold out different crystals; train them with one seed"
            )
    if by_column:
        return crystals[np.flatnonzero(crystals.crystal_columns["split"] != "train")]
    return crystals[split_by_system(crystals, fraction, first.seed)[1]]


def chosen(crystals: CrystalSet, count: int, max_atoms: int) -> CrystalSet:
    """Return so many of the crystals: the first of each formula, then the second of each, and so on."""
    seen: dict[Composition, int] = {}
    order = []
    for i, formula in enumerate(crystals.compositions):
        seen[formula] = seen.get(formula, 0) + 1
        if crystals.n_atoms[i] <= max_atoms:
            order.append((seen[formula], i))
    return crystals[np.array(sorted(i for _, i in sorted(order)[:count]))]


def targets_of(crystals: CrystalSet) -> list[DosTarget]:
    """Return the density of states of each crystal as a target, site by site."""
    dos, offsets = crystals.atom_columns["dos"], crystals.offsets
    limits = crystals.crystal_columns["complete_below"]
    return [
        DosTarget(dos[offsets[i] : offsets[i + 1]], complete_below=float(limits[i]) if limits[i] < 10 else math.inf)
        for i in range(len(crystals))
    ]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Candidates of equal size that are generated together.

    :param targets: the targets, each with its number.
    :param candidates: of each target.
    """

    targets: list[tuple[int, DosTarget]]
    candidates: int
    seed: int

    @property
    def n_atoms(self) -> int:
        """Atoms of each."""
        return len(self.targets[0][1].curves)

    def __len__(self) -> int:
        return len(self.targets) * self.candidates


def batches_of(targets: list[DosTarget], candidates: int, seed: int) -> list[Batch]:
    """Put targets with the same number of atoms together."""
    sizes = sorted({len(target.curves) for target in targets})
    return [Batch([(i, t) for i, t in enumerate(targets) if len(t.curves) == n], candidates, seed) for n in sizes]
