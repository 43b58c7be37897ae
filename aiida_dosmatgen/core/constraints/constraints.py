"""The constraints of a candidate, as a job states them: elements, coordinates, lattice, composition.

A model refuses what contradicts itself; :func:`resolve` refuses what a crystal of N atoms cannot meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from ..crystals import CrystalSet
from ..elements import SYMBOLS, parse_formula
from ..errors import ContentError
from ..strict import Strict
from .assignment import supported
from .lattice import LatticeConstraint, cell_of
from .placement import check_distances, places_of
from .restrictions import Restriction, conflict, lacking, listed, of_counts, of_sites, table
from .sites import SiteConstraint, Symbol


class Constraints(Strict):
    """All constraints of a candidate.

    :param composition: how many atoms of each element, exactly, {"Ga": 2, "As": 2}.
    :param formula: the proportions of the elements, ``GaAs``; the number of atoms is a multiple of the formula's.
    """

    sites: list[SiteConstraint] = []
    lattice: LatticeConstraint | None = None
    composition: Annotated[dict[Symbol, Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    formula: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Constraints:
        if self.formula is not None:
            unit = parse_formula(self.formula)
            if self.composition is not None and not _is_multiple(self.composition, unit):
                given = " ".join(f"{s}{n}" for s, n in self.composition.items())
                raise ContentError(f"composition ({given}) is no multiple of formula {self.formula}; leave one of them out")
        reason = _contradiction(self)
        if reason is not None:
            raise ContentError(reason)
        return self

    @property
    def from_template(self) -> list[str]:
        """The names of what is taken from the template."""
        names = []
        for i, constraint in enumerate(self.sites):
            names += [f"sites[{i}].{key}" for key in ("element", "coordinates") if getattr(constraint, key) == "template"]
        if self.lattice is not None:
            names += [f"lattice.{key}" for key in ("matrix", "volume", "shape") if getattr(self.lattice, key) == "template"]
        return names

    def counts(self, n_atoms: int) -> tuple[str, dict[str, int]] | None:
        """Return what asks for an exact composition of N atoms, and the composition; None if nothing does.

        :raises ContentError: if the formula does not divide N.
        """
        if self.composition is not None:
            return "composition", self.composition
        if self.formula is None:
            return None
        unit = parse_formula(self.formula)
        times, rest = divmod(n_atoms, sum(unit.values()))
        if rest:
            raise ContentError(f"formula {self.formula} has {sum(unit.values())} atoms, which do not divide {n_atoms} atoms")
        return "formula", {symbol: times * count for symbol, count in unit.items()}


def _is_multiple(composition: dict[str, int], unit: dict[str, int]) -> bool:
    if composition.keys() != unit.keys():
        return False
    ratios = {composition[symbol] / unit[symbol] for symbol in unit}
    return len(ratios) == 1 and ratios.pop().is_integer()


def _contradiction(constraints: Constraints) -> str | None:
    """Say what contradicts itself whatever the template and the checkpoint, or None."""
    size = own_size(constraints, None)
    if size is not None:
        return _size_refused(constraints, None, size)
    named = [max(c.sites) for c in constraints.sites if isinstance(c.sites, list)]
    n_atoms = 1 + max(named, default=0)
    restrictions = of_sites(constraints.sites, n_atoms, None)
    if constraints.formula is not None:
        restrictions = [[*many, of_counts("formula", parse_formula(constraints.formula))] for many in restrictions]
    try:
        places_of(constraints.sites, n_atoms, None)
    except ContentError as exception:
        return str(exception)
    return next(filter(None, map(conflict, restrictions)), None)


# --- numbers of atoms -------------------------------------------------------------------------------------------------------


def own_size(constraints: Constraints | None, template_n_atoms: int | None) -> int | None:
    """Return the number of atoms that constraints imply, None if they imply none.

    :param template_n_atoms: atoms of the template, None without one.
    """
    if constraints is None:
        return None
    if constraints.composition is not None:
        return sum(constraints.composition.values())
    for constraint in constraints.sites:
        if constraint.sites == "all" and isinstance(constraint.coordinates, list):
            return len(constraint.coordinates)
    return template_n_atoms if constraints.from_template else None


def sizes_allowed(constraints: Constraints | None, template_n_atoms: int | None, n_atoms: int) -> str | None:
    """Say in one line why a crystal of N atoms cannot meet the constraints, or None if it can as far as they tell.

    :param template_n_atoms: atoms of the template, None without one.
    """
    reason = None if constraints is None else _size_refused(constraints, template_n_atoms, n_atoms)
    return None if reason is None else f"constraints: {reason}"


def _size_refused(constraints: Constraints, template_n_atoms: int | None, n_atoms: int) -> str | None:
    if constraints.composition is not None and sum(constraints.composition.values()) != n_atoms:
        given = " ".join(f"{s}{n}" for s, n in constraints.composition.items())
        return f"composition ({given}) has {sum(constraints.composition.values())} atoms, but the crystal has {n_atoms}"
    for i, constraint in enumerate(constraints.sites):
        if constraint.sites == "all":
            rows = n_atoms if not isinstance(constraint.coordinates, list) else len(constraint.coordinates)
            if rows != n_atoms:
                return f"sites[{i}].coordinates has {rows} rows for all atoms, but the crystal has {n_atoms}"
        elif max(constraint.sites) >= n_atoms:
            return f"sites[{i}] names atom {max(constraint.sites)}, but the crystal has {n_atoms}; they are counted from 0"
    used = [name for name in constraints.from_template if name.startswith("sites")]
    if used and template_n_atoms not in (None, n_atoms):
        return f"{used[0]} is the template's, which has {template_n_atoms} atoms, but the crystal has {n_atoms}"
    try:
        places_of(constraints.sites, n_atoms, None)
        _restrictions_of(constraints, n_atoms, None)
    except ContentError as exception:
        return str(exception)
    return None


def _restrictions_of(constraints: Constraints, n_atoms: int, template: CrystalSet | None) -> list[list[Restriction]]:
    """Return the restrictions on the element of each atom.

    :raises ContentError: if they exclude each other, or the composition.
    """
    there = None if template is None else [SYMBOLS[z] for z in template.numbers]
    restrictions = of_sites(constraints.sites, n_atoms, there)
    composition = constraints.counts(n_atoms)
    if composition is not None:
        restrictions = [[*many, of_counts(*composition)] for many in restrictions]
    reason = next(filter(None, map(conflict, restrictions)), None)
    if reason is None and composition is not None:
        reason = lacking(restrictions, composition[1], composition[0])
    if reason is not None:
        raise ContentError(reason)
    return restrictions


# --- all of one crystal -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class ResolvedConstraints:
    """The constraints of one crystal of N atoms, resolved and free of contradictions.

    :param allowed: which elements each atom can be, shape (N, K) bool; those only that occur with the exact composition.
    :param coordinates: fractional coordinates, shape (N, 3); zero where they are free.
    :param coordinates_held: where they are fixed, shape (N,) bool.
    :param lattice: lattice vectors as rows in Å, shape (3, 3); of lattice, volume and shape at most one is set.
    :param volume: of the cell in Å³.
    :param shape: lattice vectors as rows, shape (3, 3), up to one factor.
    :param counts: atoms of each element, shape (K,) int; None leaves the composition free.
    :param basis: the cell, shape (3, 3), whose basis coordinates and lattice refer to; None if that is the candidate's own.
    :param template: the crystal to start from, None starts from noise.
    """

    allowed: np.ndarray
    coordinates: np.ndarray
    coordinates_held: np.ndarray
    lattice: np.ndarray | None = None
    volume: float | None = None
    shape: np.ndarray | None = None
    counts: np.ndarray | None = None
    basis: np.ndarray | None = None
    template: CrystalSet | None = None


def resolve(
    constraints: Constraints | None,
    n_atoms: int,
    elements: Sequence[str],
    template: CrystalSet | None = None,
    *,
    start: bool = False,
) -> ResolvedConstraints:
    """Return the constraints of a crystal of N atoms, resolved.

    :param elements: chemical symbols that the checkpoint generates.
    :param template: one crystal.
    :param start: whether the template is where sampling starts, too.
    :raises ContentError: naming both sides, if constraints contradict each other.
    """
    try:
        return _resolve(constraints or Constraints(), n_atoms, elements, template, start)
    except ContentError as exception:
        raise ContentError(f"constraints: {exception}") from None


def _resolve(
    constraints: Constraints, n_atoms: int, elements: Sequence[str], template: CrystalSet | None, start: bool
) -> ResolvedConstraints:
    template = _checked(constraints, n_atoms, elements, template, start)
    reason = _size_refused(constraints, None if template is None else len(template.numbers), n_atoms)
    if reason is not None:
        raise ContentError(reason)
    for name, symbol in _symbols(constraints):
        if symbol not in elements:
            raise ContentError(f"{name} has {symbol}, but the checkpoint generates only {listed(elements)}")
    restrictions = _restrictions_of(constraints, n_atoms, template)
    known = Restriction("the checkpoint", f"the checkpoint generates only {listed(elements)}", frozenset(elements))
    for many in restrictions:
        reason = conflict([*many, known])
        if reason is not None:
            raise ContentError(reason)
    allowed, counts = table(restrictions, elements), None
    composition = constraints.counts(n_atoms)
    if composition is not None:
        counts = np.array([composition[1].get(symbol, 0) for symbol in elements])
        allowed = supported(allowed, counts)
    places = places_of(constraints.sites, n_atoms, template)
    coordinates, held = np.zeros((n_atoms, 3)), np.zeros(n_atoms, dtype=bool)
    for atom, place in places.items():
        coordinates[atom], held[atom] = place.fractional, True
    lattice, volume, shape = cell_of(constraints.lattice, template)
    check_distances(places, lattice)
    basis = shape if lattice is None else lattice
    moved = start or any(name.endswith("coordinates") for name in constraints.from_template)
    if basis is None and moved and template is not None:
        basis = template.lattices[0]
    return ResolvedConstraints(allowed, coordinates, held, lattice, volume, shape, counts, basis, template if start else None)


def _checked(
    constraints: Constraints, n_atoms: int, elements: Sequence[str], template: CrystalSet | None, start: bool
) -> CrystalSet | None:
    """The template, if it is used and can be."""
    if not start and not constraints.from_template:
        return None
    use = constraints.from_template[0] if constraints.from_template else "start_time"
    if template is None:
        raise ContentError(f"{use} asks for the template, but there is none; give one")
    if len(template) != 1:
        raise ContentError(f"{use} asks for the template, but there are {len(template)}; give one for each candidate")
    reason = template.defect()
    if reason is not None:
        raise ContentError(f"{use} asks for the template, but there {reason}")
    if start and len(template.numbers) != n_atoms:
        raise ContentError(
            f"sampling starts from the template, which has {len(template.numbers)} atoms, but the crystal has {n_atoms}"
        )
    unknown = sorted({SYMBOLS[z] for z in template.numbers} - set(elements)) if start else []
    if unknown:
        raise ContentError(
            f"sampling starts from the template, which has {listed(unknown)}, but the checkpoint generates only "
            f"{listed(elements)}"
        )
    return template


def _symbols(constraints: Constraints) -> Iterator[tuple[str, str]]:
    """Every element that is asked for by name, and where."""
    for i, constraint in enumerate(constraints.sites):
        if constraint.element not in (None, "template"):
            yield f"sites[{i}].element", str(constraint.element)
        yield from ((f"sites[{i}].allowed", symbol) for symbol in constraint.allowed or [])
    yield from (("composition", symbol) for symbol in constraints.composition or {})
    if constraints.formula is not None:
        yield from (("formula", symbol) for symbol in parse_formula(constraints.formula))
