"""What is held out of training: whole chemical systems, and whole prototypes.

Crystals of one chemical system resemble each other, and so do those of one prototype, so that crystals held out one by one
would flatter a model. Whether a system or a prototype is held out is decided by a hash of its name: it stays where it is when
the set grows, and in every set with the same seed.

``test-final`` are chemical systems of their own, by which nothing is ever chosen: no epoch, no width of a network, no setting.
They are looked at once, for the figures that are reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from ..crystals import CrystalSet
from ..elements import SYMBOLS
from ..errors import ContentError
from .prototypes import UNKNOWN

SPLIT_NAMES = ("train", "test-system", "test-prototype", "test-final")
"""What is learnt from; two on which models and settings are evaluated while they are made; one by which nothing is chosen."""

VACANCY = " vacancy"
"""What follows the name of a prototype if an atom is missing."""

_NEVER_HELD_OUT = ("elemental", "generated", UNKNOWN)


def system_of(numbers: Iterable[int] | np.ndarray) -> str:
    """Return the chemical system of some atoms: their elements in the order of atomic numbers, e.g. ``B-N``."""
    return "-".join(SYMBOLS[z] for z in sorted({int(z) for z in numbers}))


def systems_of(crystals: CrystalSet) -> list[str]:
    """Return the chemical system of each crystal."""
    return [system_of(atoms) for atoms in np.split(crystals.numbers, crystals.offsets[1:-1])]


def base_prototype(name: str) -> str:
    """Return the prototype that a crystal was made from, whether an atom of it is missing or not."""
    return name.removesuffix(VACANCY)


def assign(
    crystals: CrystalSet, system_fraction: float, prototype_fraction: float, seed: int, final_fraction: float = 0.0
) -> np.ndarray:
    """Return the split of each crystal, one of :data:`SPLIT_NAMES`, shape (N,).

    Systems of one element, and the prototypes ``elemental``, ``generated`` and ``unknown``, are never held out. What is of a
    held-out system and a held-out prototype counts as ``test-system``. Without the column ``prototype`` no prototype is held
    out.

    :param system_fraction: of the compound systems to hold out.
    :param prototype_fraction: of the prototypes to hold out.
    :param final_fraction: of the compound systems by which nothing is ever chosen; taken before all others.
    :raises ContentError: for fractions outside [0, 1].
    """
    fractions = {"system_fraction": system_fraction, "prototype_fraction": prototype_fraction, "final_fraction": final_fraction}
    for name, fraction in fractions.items():
        if not 0 <= fraction <= 1:
            raise ContentError(f"{name} is {fraction:g}; give a number from 0 to 1")
    systems = systems_of(crystals)
    names = crystals.crystal_columns.get("prototype", np.full(len(crystals), "generated")).tolist()
    prototypes = [base_prototype(str(name)) for name in names]
    compounds = {system for system in systems if "-" in system}
    final_systems = {s for s in compounds if _number(f"{seed} final {s}") < final_fraction}
    held_systems = {s for s in compounds if _number(f"{seed} system {s}") < system_fraction}
    held_prototypes = {
        p for p in set(prototypes) if p not in _NEVER_HELD_OUT and _number(f"{seed} prototype {p}") < prototype_fraction
    }

    def split(system: str, prototype: str) -> str:
        if system in final_systems:
            return "test-final"
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


def chosen(crystals: CrystalSet, splits: Sequence[str] = (), kinds: Sequence[str] = ()) -> CrystalSet:
    """Return the crystals of some splits and kinds; ``chosen(crystals, ["test-final"], ["real"])`` are real crystals alone.

    :param splits: values of the column ``split``; none takes all.
    :param kinds: values of the column ``kind``, of ``real``, ``element``, ``substituted``, ``scaled`` and ``distorted``; none
        takes all.
    :raises ContentError: if a column is missing, a split is unknown, or nothing is left.
    """
    kept = np.ones(len(crystals), dtype=bool)
    for name, values in (("split", splits), ("kind", kinds)):
        if not values:
            continue
        if name not in crystals.crystal_columns:
            raise ContentError(f"the crystals have no column {name!r}; split them first, or take them from shards")
        kept &= np.isin(crystals.crystal_columns[name], list(values))
    unknown = sorted(set(splits) - set(SPLIT_NAMES))
    if unknown:
        raise ContentError(f"there is no split {unknown[0]!r}; splits are {', '.join(SPLIT_NAMES)}")
    if not kept.any():
        raise ContentError(f"no crystal is of {' or '.join((*splits, *kinds))}")
    return crystals[np.flatnonzero(kept)]


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
