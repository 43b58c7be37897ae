"""The ways in which candidates are asked for: what each mode is told of a target, and how."""

from __future__ import annotations

import dataclasses

import numpy as np

from aiida_dosmatgen.core.constraints.constraints import Constraints
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget

from .targets import chemical_systems

START_TIME = 0.7
"""To which a structural template is noised: its elements are then as good as forgotten, its cell and sites are not."""


@dataclasses.dataclass(frozen=True, eq=False)
class Wish:
    """What is asked for one target.

    :param target: the curves that the denoiser is given; None for none.
    :param evaluated: what the candidates are compared with.
    """

    n_atoms: int
    target: DosTarget | None
    evaluated: DosTarget
    constraints: Constraints | None = None
    template: CrystalSet | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Mode:
    """A way to ask, and what is asked for each target.

    :param group: rows of one table.
    :param baseline: the mode that says what comes out without the curves, and is compared with the same ones.
    """

    name: str
    title: str
    group: str
    parameters: SampleParameters
    wishes: list[Wish]
    baseline: str = "unconditional"


def template_for(crystal: CrystalSet, train: CrystalSet, i: int, seed: int) -> CrystalSet:
    """Draw a structural template for target i: a training crystal of its number of atoms, but of other elements.

    One of the same prototype if there is any, which is what somebody would take who has a structure in mind; else any.
    """
    same = train.n_atoms == crystal.n_atoms[0]
    other = np.array([system != chemical_systems(crystal)[0] for system in chemical_systems(train)])
    usable = same & other
    if "prototype" in train.crystal_columns:
        alike = usable & (train.crystal_columns["prototype"] == crystal.crystal_columns["prototype"][0])
        usable = alike if alike.any() else usable
    rows = np.flatnonzero(usable if usable.any() else same)
    chosen = train[int(np.random.default_rng([seed, 2, i]).choice(rows))]
    return chosen.replace(crystal_columns={}, atom_columns={})
