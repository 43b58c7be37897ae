"""What is held out of training: whole chemical systems, and whole prototypes.

Crystals of one chemical system resemble each other, and so do those of one prototype, so that crystals held out one by one
would flatter a model. Whether a system or a prototype is held out is decided by a hash of its name: it stays where it is when
the set grows, and in every set with the same seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dos import DEFAULT_GRID
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ..labelling.prototypes import VACANCY

SPLIT_NAMES = ("train", "test-system", "test-prototype")

_NEVER_HELD_OUT = ("elemental", "generated")


def system_of(numbers: Iterable[int] | np.ndarray) -> str:
    """Return the chemical system of some atoms: their elements in the order of atomic numbers, e.g. ``B-N``."""
    return "-".join(SYMBOLS[z] for z in sorted({int(z) for z in numbers}))


def systems_of(crystals: CrystalSet) -> list[str]:
    """Return the chemical system of each crystal."""
    return [system_of(atoms) for atoms in np.split(crystals.numbers, crystals.offsets[1:-1])]


def base_prototype(name: str) -> str:
    """Return the prototype that a crystal was made from, whether an atom of it is missing or not."""
    return name.removesuffix(VACANCY)


def assign(crystals: CrystalSet, system_fraction: float, prototype_fraction: float, seed: int) -> np.ndarray:
    """Return the split of each crystal: ``train``, ``test-system`` or ``test-prototype``, shape (N,).

    Systems of one element, and the prototypes ``elemental`` and ``generated``, are never held out. What is of a held-out
    system and a held-out prototype counts as ``test-system``. Without the column ``prototype`` no prototype is held out.

    :param system_fraction: of the compound systems to hold out.
    :param prototype_fraction: of the prototypes to hold out.
    :raises ContentError: for fractions outside [0, 1].
    """
    for name, fraction in (("system_fraction", system_fraction), ("prototype_fraction", prototype_fraction)):
        if not 0 <= fraction <= 1:
            raise ContentError(f"{name} is {fraction:g}; give a number from 0 to 1")
    systems = systems_of(crystals)
    names = crystals.crystal_columns.get("prototype", np.full(len(crystals), "generated")).tolist()
    prototypes = [base_prototype(str(name)) for name in names]
    held_systems = {s for s in set(systems) if "-" in s and _number(f"{seed} system {s}") < system_fraction}
    held_prototypes = {
        p for p in set(prototypes) if p not in _NEVER_HELD_OUT and _number(f"{seed} prototype {p}") < prototype_fraction
    }

    def split(system: str, prototype: str) -> str:
        if system in held_systems:
            return "test-system"
        return "test-prototype" if prototype in held_prototypes and "-" in system else "train"

    longest = f"<U{max(map(len, SPLIT_NAMES))}"
    return np.array([split(s, p) for s, p in zip(systems, prototypes, strict=True)], dtype=longest)


def _number(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def without_test(crystals: CrystalSet) -> tuple[CrystalSet, int]:
    """Leave out the crystals that are kept for tests: those whose column ``split``, if there is one, is not ``train``.

    :return: the crystals to train on, and how many were left out.
    :raises ContentError: for unknown splits, or if nothing is left.
    """
    if "split" not in crystals.crystal_columns:
        return crystals, 0
    splits = crystals.crystal_columns["split"]
    unknown = sorted(set(splits.tolist()) - set(SPLIT_NAMES))
    if unknown:
        raise ContentError(f"the column 'split' has the unknown value {unknown[0]!r}; use {', '.join(SPLIT_NAMES)}")
    kept = np.flatnonzero(splits == "train")
    if not len(kept):
        raise ContentError("the column 'split' keeps all crystals for tests; none is left to train on")
    return crystals[kept], len(crystals) - len(kept)


def split_by_system(crystals: CrystalSet, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out compounds by their chemical system, so that no system is on both sides.

    Systems are held out in the order of a hash of (seed, system) until they hold the fraction of the crystals: all models
    trained on one data set with one seed hold out the same, and a growing data set changes little of it. Elements are never
    held out: they anchor the energies.

    :return: indices to train on, and indices held out (at least one system, if there are two of compounds).
    """
    systems = np.array(systems_of(crystals))
    compounds = sorted({s for s in systems.tolist() if "-" in s}, key=lambda s: hashlib.sha256(f"{seed} {s}".encode()).digest())
    out = np.zeros(len(crystals), dtype=bool)
    for system in compounds[:-1]:
        if out.sum() >= fraction * len(crystals):
            break
        out |= systems == system
    return np.flatnonzero(~out), np.flatnonzero(out)


# --- what leaks -------------------------------------------------------------------------------------------------------------


def summary(crystals: CrystalSet) -> dict[str, dict]:
    """Return how many crystals, systems and prototypes each split of the column ``split`` has."""
    splits, systems = crystals.crystal_columns["split"], np.array(systems_of(crystals))
    prototypes = crystals.crystal_columns.get("prototype")
    result: dict[str, dict] = {}
    for name in SPLIT_NAMES:
        chosen = splits == name
        result[name] = {"n_crystals": int(chosen.sum()), "n_systems": len(set(systems[chosen].tolist()))}
        if prototypes is not None:
            result[name]["n_prototypes"] = len({base_prototype(str(p)) for p in prototypes[chosen]})
    return result


def leak(crystals: CrystalSet) -> dict[str, dict]:
    """Measure how near the crystals kept for tests are to those trained on.

    Structures are compared by pymatgen's ``StructureMatcher`` with its defaults, that is by scaled primitive cells.
    ``same_structure`` counts test crystals with an equal of the same composition in training, ``same_structure_other_elements``
    those with an equal after some exchange of elements, the same composition included. ``nearest_curve`` is the distance
    √(mean square) in states/eV/atom of the mean per-atom DOS to the nearest one in training.

    :param crystals: with the columns ``split`` and ``dos``.
    :return: for each test split that is not empty its measures.
    """
    splits, systems = crystals.crystal_columns["split"], np.array(systems_of(crystals))
    training = np.flatnonzero(splits == "train")
    known = set(systems[training].tolist())
    curves = _mean_curves(crystals)
    result: dict[str, dict] = {}
    for name in SPLIT_NAMES[1:]:
        test = np.flatnonzero(splits == name)
        if not len(test) or not len(training):
            continue
        same, anonymous = _matches(crystals, test, training)
        nearest = np.array([np.sqrt(((curves[training] - curves[i]) ** 2).mean(-1).min()) for i in test])
        result[name] = {
            "n_crystals": len(test),
            "system_in_training": int(sum(s in known for s in systems[test])),
            "same_structure": same,
            "same_structure_other_elements": anonymous,
            "nearest_curve": {"median": float(np.median(nearest)), "percentile_5": float(np.percentile(nearest, 5))},
        }
    return result


def _mean_curves(crystals: CrystalSet) -> np.ndarray:
    """Return the mean DOS of each crystal's atoms where its bands are complete, zero beyond, shape (N, n)."""
    dos = np.asarray(crystals.atom_columns["dos"], dtype=np.float64)
    sums = np.add.reduceat(dos, crystals.offsets[:-1], axis=0) / crystals.n_atoms[:, None]
    if "complete_below" in crystals.crystal_columns and dos.shape[1] == DEFAULT_GRID.n:
        sums[DEFAULT_GRID.points > crystals.crystal_columns["complete_below"][:, None]] = 0
        if "low" in crystals.crystal_columns:
            sums[DEFAULT_GRID.points < crystals.crystal_columns["low"][:, None]] = 0
    return sums


def _matches(crystals: CrystalSet, test: np.ndarray, training: np.ndarray) -> tuple[int, int]:
    """Count the test crystals that have an equal in training: of the same composition, and of any elements."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    # primitive cells, once for each crystal instead of once for each pair
    structures = [s.get_primitive_structure() for s in crystals.to_pymatgen()]
    matcher = StructureMatcher(primitive_cell=False)

    def count(key: Callable, equal: Callable) -> int:
        buckets: dict[object, list[int]] = {}
        for i in training:
            buckets.setdefault(key(structures[i]), []).append(i)
        return sum(any(equal(structures[i], structures[j]) for j in buckets.get(key(structures[i]), ())) for i in test)

    same = count(lambda s: s.composition.reduced_formula, matcher.fit)
    return same, count(lambda s: (s.composition.anonymized_formula, len(s)), matcher.fit_anonymous)
