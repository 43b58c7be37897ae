"""How near the crystals kept for tests are to those that models learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..crystals import CrystalSet
from ..dos import DEFAULT_GRID
from .prototypes import UNKNOWN
from .splits import SPLIT_NAMES, systems_of

ALIKE = 0.05
"""states/eV/atom; curves that are nearer are hardly told apart from labels with other meshes."""


def leak(crystals: CrystalSet, anonymous: bool = True) -> dict[str, dict]:
    """Measure how near the crystals kept for tests are to those trained on.

    Structures are compared by pymatgen's ``StructureMatcher`` with its defaults, that is by scaled primitive cells.
    ``same_structure`` counts test crystals with an equal of the same composition in training, ``same_structure_other_elements``
    those with an equal after some exchange of elements, the same composition included. ``prototype_in_training`` counts those
    whose column ``prototype`` has a name that occurs in training. ``nearest_curve`` is the distance √(mean square) in
    states/eV/atom of the mean per-atom DOS to the nearest one in training, ``alike`` the share below :data:`ALIKE`.

    :param crystals: with the columns ``split`` and ``dos``.
    :param anonymous: whether structures are compared after exchanges of elements, which takes long for large sets.
    :return: for each test split that is not empty its measures.
    """
    splits, systems = crystals.crystal_columns["split"], np.array(systems_of(crystals))
    training = np.flatnonzero(splits == "train")
    known = set(systems[training].tolist())
    curves = _mean_curves(crystals)
    prototypes = crystals.crystal_columns.get("prototype")
    learnt = set() if prototypes is None else set(prototypes[training].tolist()) - {UNKNOWN}
    # primitive cells, once for each crystal instead of once for each pair
    structures = [s.get_primitive_structure() for s in crystals.to_pymatgen()]
    result: dict[str, dict] = {}
    for name in SPLIT_NAMES[1:]:
        test = np.flatnonzero(splits == name)
        if not len(test) or not len(training):
            continue
        nearest = np.array([np.sqrt(((curves[training] - curves[i]) ** 2).mean(-1).min()) for i in test])
        result[name] = {
            "n_crystals": len(test),
            "system_in_training": int(sum(s in known for s in systems[test])),
            "same_structure": _same_composition(structures, test, training),
            "nearest_curve": {"median": float(np.median(nearest)), "percentile_5": float(np.percentile(nearest, 5))},
            "alike": float((nearest < ALIKE).mean()),
        }
        if anonymous:
            result[name]["same_structure_other_elements"] = _other_elements(structures, test, training)
        if prototypes is not None:
            result[name]["prototype_in_training"] = int(sum(p in learnt for p in prototypes[test].tolist()))
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


def _same_composition(structures: list, test: np.ndarray, training: np.ndarray) -> int:
    """Count the test crystals that have an equal of the same composition in training."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return _count(
        structures, test, training, lambda s: s.composition.reduced_formula, StructureMatcher(primitive_cell=False).fit
    )


def _other_elements(structures: list, test: np.ndarray, training: np.ndarray) -> int:
    """Count the test crystals that have an equal of any elements in training."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    equal = StructureMatcher(primitive_cell=False).fit_anonymous
    return _count(structures, test, training, lambda s: (s.composition.anonymized_formula, len(s)), equal)


def _count(structures: list, test: np.ndarray, training: np.ndarray, key: Callable, equal: Callable) -> int:
    buckets: dict[object, list[int]] = {}
    for i in training:
        buckets.setdefault(key(structures[i]), []).append(i)
    return sum(any(equal(structures[i], structures[j]) for j in buckets.get(key(structures[i]), ())) for i in test)
