"""The ways in which candidates are asked for: what each mode is told of a target, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from sampling_report.targets import targets_of

from aiida_dosmatgen.core.constraints.constraints import Constraints, SiteConstraint
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget

from .targets import chemical_systems

SCALES = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
CLASSIFIER_SCALES = (0.5, 1.0, 2.0, 5.0, 10.0)
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


def modes(
    crystals: CrystalSet,
    train: CrystalSet,
    parameters: SampleParameters,
    scales: Sequence[float],
    classifier_scales: Sequence[float],
    seed: int,
) -> dict[str, Mode]:
    """Return all modes, by name; ``sites-<default scale>`` is what the campaign does, and ``unconditional`` is told nothing.

    :param crystals: those that the targets belong to.
    :param train: where templates are taken from.
    :param parameters: those of the campaign; the modes differ from them in guidance alone.
    """
    own = targets_of(crystals)
    n = [int(k) for k in crystals.n_atoms]
    default = parameters.guidance_scale

    def with_scale(scale: float, **changes: object) -> SampleParameters:
        return parameters.model_copy(update={"guidance_scale": scale, **changes})

    sites = [Wish(k, t, t) for k, t in zip(n, own, strict=True)]
    nothing = [Wish(k, None, t) for k, t in zip(n, own, strict=True)]
    totals = [DosTarget(t.total[None], "total", len(t.curves), t.complete_below) for t in own]
    total = [Wish(k, t, t) for k, t in zip(n, totals, strict=True)]
    half = [chosen_atoms(k, i, seed) for i, k in enumerate(n)]
    some = [DosTarget(t.curves[list(h)], "sites", k, t.complete_below, t.grid, h) for k, t, h in zip(n, own, half, strict=True)]
    chosen = [Wish(k, t, t) for k, t in zip(n, some, strict=True)]
    fixed = [elements_held(crystal, h) for crystal, h in zip(crystals, half, strict=True)]
    templates = [template_for(crystals[i], train, i, seed) for i in range(len(crystals))]

    found = [Mode("unconditional", "told nothing", "baseline", with_scale(0.0, guidance="none"), nothing)]
    found += [
        Mode(f"sites-{w:g}", f"site curves, classifier-free, w = {w:g}", "classifier-free", with_scale(w), sites)
        for w in sorted({*scales, default})
    ]
    found += [
        Mode(
            f"classifier-{w:g}", f"site curves, classifier-based, w = {w:g}", "classifier-based",
            with_scale(w, guidance="classifier"), sites,
        )
        for w in classifier_scales
    ]  # fmt: skip
    found += [
        Mode(f"total-{w:g}", f"total curve, w = {w:g}", "total DOS", with_scale(w), total) for w in sorted({0.0, default, 2.0})
    ]
    held = [dataclasses.replace(wish, constraints=c) for wish, c in zip(sites, fixed, strict=True)]
    held_only = [dataclasses.replace(wish, constraints=c) for wish, c in zip(nothing, fixed, strict=True)]
    started = [dataclasses.replace(wish, template=t) for wish, t in zip(sites, templates, strict=True)]
    started_only = [dataclasses.replace(wish, template=t) for wish, t in zip(nothing, templates, strict=True)]
    from_template = with_scale(default, start_time=START_TIME)
    unguided_template = with_scale(0.0, guidance="none", start_time=START_TIME)
    free = with_scale(0.0, guidance="none")
    found += [
        Mode("elements", "elements of half of the atoms held", "constrained", with_scale(default), held),
        Mode("elements-only", "elements held, no curves", "constrained", free, held_only),
        Mode("template", "from a structural template", "constrained", from_template, started),
        Mode("template-only", "from the template, no curves", "constrained", unguided_template, started_only),
        Mode("chosen-sites", "curves of half of the atoms only", "constrained", with_scale(default), chosen),
    ]
    return {mode.name: mode for mode in found}


def chosen_atoms(n_atoms: int, i: int, seed: int) -> tuple[int, ...]:
    """Draw half of the atoms (rounded down, at least one) of target i, in increasing order."""
    rng = np.random.default_rng([seed, 1, i])
    return tuple(sorted(rng.choice(n_atoms, max(1, n_atoms // 2), replace=False).tolist()))


def elements_held(crystal: CrystalSet, atoms: Sequence[int]) -> Constraints:
    """Return the constraint that these atoms have the elements that they have in the crystal."""
    return Constraints(sites=[SiteConstraint(sites=[k], element=SYMBOLS[crystal.numbers[k]]) for k in atoms])


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
