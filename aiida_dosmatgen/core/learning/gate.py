"""The gate: which DFT results enter a training set, and why the others do not."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..crystals import CrystalSet
from ..curve_columns import curves_of
from ..curves import LEAST_HELD, Curves
from ..elements import Composition
from ..errors import ContentError
from ..labelled.reserved import digest_of, digests_of
from ..labelled.splits import system_of
from ..screening.matching import composition_of
from ..thermo import elemental_references, formation_energy
from .settings import GateCriteria

_ANGLE = 3.0  # degrees, up to which the cells of two copies differ
_MOST_DISAGREEING = 0.5  # share of the repeated runs; if more disagree, nothing of a round enters


@dataclasses.dataclass(frozen=True)
class Passage:
    """What the gate says of one DFT result.

    :param entered: whether it enters the training set.
    :param reason: why, in one line.
    :param criterion: the criterion that it fell to; ``passed`` if it entered.
    :param values: what was measured, JSON values: ``formula``, ``hash`` of the structure, ``projected``, ``high`` (eV),
        ``force`` (eV/Å), ``off_equilibrium``, ``formation_energy`` (eV/atom, None if the set has not what it takes),
        ``energy_change`` (eV/atom) and ``curve_change`` (states/eV/atom) of a repeated run.
    """

    entered: bool
    reason: str
    criterion: str
    values: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the passage as JSON values."""
        return {"entered": self.entered, "reason": self.reason, "criterion": self.criterion, **self.values}


def check_results(
    results: Mapping[str, CrystalSet],
    learnt: CrystalSet,
    criteria: GateCriteria,
    held_out: CrystalSet | None = None,
    reserved: Iterable[str] = (),
    repeats: Mapping[str, CrystalSet] | None = None,
) -> dict[str, Passage]:
    """Say of each DFT result whether it enters the training set.

    :param results: one crystal each, with its density of states, ``energy`` (eV) and ``forces`` (eV/Å).
    :param learnt: the training set as it is. Its elements are what formation energies are counted from, if it has energies.
    :param held_out: crystals on which checkpoints are evaluated. Neither they nor strained copies of them enter.
    :param reserved: chemical systems, e.g. ``Ga-N``, of which no crystal enters, or their digests.
    :param repeats: second runs of some of the results. If more than half of them disagree, no result enters.
    :return: in the order of the names; of two results that are copies of each other the first enters.
    """
    references = elemental_references(learnt) if "energy" in learnt.crystal_columns else {}
    closed = digests_of(reserved)
    known, kept = _Known(learnt, criteria), None if held_out is None else _Known(held_out, None)
    changes = {key: _changes(results[key], again) for key, again in (repeats or {}).items() if key in results}
    broken = {key for key, change in changes.items() if _disagrees(change, criteria)}
    distrusted = bool(changes) and len(broken) > _MOST_DISAGREEING * len(changes)
    passages: dict[str, Passage] = {}
    for key in sorted(results):
        crystal = results[key]
        try:
            values, problem = _measured(crystal, references, criteria)
        except ContentError as exception:
            values, problem = {"formula": crystal.formulas[0], "hash": structure_hash(crystal)}, ("unusable", str(exception))
        values |= changes.get(key, {})
        if problem is None and key in broken:
            problem = ("repeat", f"a repeated run disagrees: {_in_words(changes[key])}")
        if problem is None and distrusted:
            problem = ("repeat", f"{len(broken)} of {len(changes)} repeated runs of this round disagree")
        if problem is None and digest_of(system_of(crystal.numbers)) in closed:
            problem = ("reserved", f"the chemical system {system_of(crystal.numbers)} is reserved")
        if problem is None and kept is not None and (row := kept.find(crystal)) is not None:
            problem = ("held out", f"it equals crystal {row} of those kept for tests")
        if problem is None and (row := known.find(crystal)) is not None:
            problem = ("copy", f"a near copy of {known.name(row)}")
        if problem is None:
            known.add(crystal, key)
        passages[key] = Passage(problem is None, _reason_accepted(values) if problem is None else problem[1],
                                "passed" if problem is None else problem[0], values)  # fmt: skip
    return passages


def structure_hash(crystal: CrystalSet) -> str:
    """Return a hash of the geometry of one crystal: elements, coordinates and cell, rounded to 10⁻⁵."""
    digest = hashlib.sha256(np.ascontiguousarray(crystal.numbers).tobytes())
    for array in (np.mod(crystal.fractional, 1.0), crystal.lattices):
        digest.update(np.ascontiguousarray(np.round(array, 5) + 0.0).tobytes())  # no negative zeros
    return digest.hexdigest()[:16]


# --- what is measured --------------------------------------------------------------------------------------------------------


def _measured(
    crystal: CrystalSet, references: Mapping[str, float], criteria: GateCriteria
) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """Return what is measured of a result, and the first of its own criteria that it does not meet, with the reason."""
    if len(crystal) != 1:
        raise ContentError(f"{len(crystal)} crystals where one is needed")
    missing = [name for name in ("energy", "forces") if name not in {**crystal.crystal_columns, **crystal.atom_columns}]
    if missing:
        raise ContentError(f"the result lacks the column {missing[0]!r}")
    curves = curves_of(crystal)
    force = float(np.linalg.norm(crystal.atom_columns["forces"], axis=1).max())
    energy = float(formation_energy(crystal.crystal_columns["energy"], crystal, references)[0])
    values: dict[str, Any] = {
        "formula": crystal.formulas[0],
        "hash": structure_hash(crystal),
        "projected": curves.projected,
        "high": curves.high,
        "force": force,
        "off_equilibrium": force > criteria.small_force,
        "formation_energy": energy if math.isfinite(energy) else None,
    }
    return values, _problem(curves, force, energy, criteria)


def _problem(curves: Curves, force: float, energy: float, criteria: GateCriteria) -> tuple[str, str] | None:
    held, low, high = curves.electrons, criteria.least_formation_energy, criteria.most_formation_energy
    checks: list[tuple[str, bool, str]] = [
        (
            "electrons",
            curves.n_electrons is not None and held < LEAST_HELD * curves.n_electrons,
            f"the curve holds {held:.2f} of {curves.n_electrons or 0:g} electrons",
        ),
        (
            "electrons",
            curves.projected is not None and curves.projected < criteria.least_projected,
            f"the projections saw {curves.projected or 0:.0%} of the occupied states, not {criteria.least_projected:.0%}",
        ),
        (
            "bands",
            curves.high < criteria.least_high,
            f"its bands are complete up to {curves.high:.1f} eV, {criteria.least_high:g} eV are needed",
        ),
        ("forces", not force <= criteria.most_force, f"a force of {force:.2f} eV/Å, {criteria.most_force:g} are accepted"),
        (
            "forces",
            criteria.off_equilibrium == "refuse" and force > criteria.small_force,
            f"off equilibrium: a force of {force:.2f} eV/Å, {criteria.small_force:g} are accepted",
        ),
        (
            "energy",
            math.isfinite(energy) and not low <= energy <= high,
            f"a formation energy of {energy:.2f} eV/atom, from {low:g} to {high:g} are accepted",
        ),
    ]
    return next(((name, reason) for name, failed, reason in checks if failed), None)


def _changes(crystal: CrystalSet, again: CrystalSet) -> dict[str, Any]:
    """Return by how much a repeated run differs; an infinite change where the two cannot be compared."""
    if sorted(crystal.numbers.tolist()) != sorted(again.numbers.tolist()):
        return {"energy_change": math.inf, "curve_change": math.inf}
    n = len(crystal.numbers)
    energies = [float(one.crystal_columns["energy"][0]) for one in (crystal, again)]
    first, second = (curves_of(one) for one in (crystal, again))
    known = (first.energies >= max(first.low, second.low)) & (first.energies <= min(first.high, second.high))
    difference = np.abs(first.total - second.on(first.energies).total)[known] / n
    curve = float(difference.mean()) if known.any() else math.inf
    return {"energy_change": abs(energies[0] - energies[1]) / n, "curve_change": curve}


def _disagrees(change: Mapping[str, float], criteria: GateCriteria) -> bool:
    within = change["energy_change"] <= criteria.most_energy_change and change["curve_change"] <= criteria.most_curve_change
    return not within


def _in_words(change: Mapping[str, float]) -> str:
    return f"by {1000 * change['energy_change']:.2g} meV/atom and {change['curve_change']:.2g} states/eV/atom"


def _reason_accepted(values: Mapping[str, Any]) -> str:
    parts = [f"off equilibrium: a force of {values['force']:.2f} eV/Å" if values["off_equilibrium"] else "at equilibrium"]
    if values["formation_energy"] is None:
        parts.append("its energy was not compared, for the set lacks those of its elements")
    if "energy_change" in values:
        parts.append(f"a repeated run agrees {_in_words(values)}")
    return f"meets all criteria; {', '.join(parts)}"


# --- what is known -----------------------------------------------------------------------------------------------------------


class _Known:
    """Crystals to compare with, by composition.

    :param criteria: within which two crystals are copies; None compares as the screening does, volumes scaled.
    """

    def __init__(self, crystals: CrystalSet, criteria: GateCriteria | None) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self._crystals = [crystals]
        self._names: list[str] = []
        self._structures: dict[int, Any] = {}
        self._rows: dict[Composition, list[int]] = {}
        self._added: list[CrystalSet] = []
        for row, (a, b) in enumerate(zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True)):
            self._rows.setdefault(composition_of(crystals.numbers[a:b]), []).append(row)
        self._matcher = (
            StructureMatcher(scale=True, primitive_cell=False)
            if criteria is None
            else StructureMatcher(
                ltol=criteria.same_length, stol=criteria.same_site, angle_tol=_ANGLE, scale=False, primitive_cell=False
            )
        )

    def find(self, crystal: CrystalSet) -> int | None:
        """Return the first row that is a copy of a crystal, or None."""
        rows = self._rows.get(composition_of(crystal.numbers), [])
        if not rows:
            return None
        structure = _primitive(crystal)
        for row in rows:
            if row not in self._structures:
                self._structures[row] = _primitive(self._at(row))
            other = self._structures[row]
            if len(other) == len(structure) and self._matcher.fit(structure, other):
                return row
        return None

    def add(self, crystal: CrystalSet, name: str) -> None:
        """Add a crystal."""
        row = len(self._crystals[0]) + len(self._added)
        self._added.append(crystal)
        self._names.append(name)
        self._rows.setdefault(composition_of(crystal.numbers), []).append(row)

    def name(self, row: int) -> str:
        """Return what a message calls a row."""
        given = len(self._crystals[0])
        return f"crystal {row} of the training set" if row < given else f"{self._names[row - given]}, which entered"

    def _at(self, row: int) -> CrystalSet:
        given = len(self._crystals[0])
        return self._crystals[0][row] if row < given else self._added[row - given]


def _primitive(crystal: CrystalSet) -> Any:
    plain = CrystalSet(crystal.n_atoms, crystal.numbers, crystal.fractional, crystal.lattices)
    return plain.to_pymatgen()[0].get_primitive_structure()
