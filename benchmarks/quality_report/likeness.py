"""What candidates are like: whether they are crystals, new, different from each other, and the one that was wanted.

Definitions, after LeMat-GenBench (arXiv:2512.04562), MEIDNet (arXiv:2601.22009) and DiffCSP (arXiv:2309.04475), as far as they
apply to candidates that are asked for by a density of states:

- **valid**: of all unrelaxed candidates, those with no two atoms nearer than 0.5 Å and a volume above 0.1 Å³. Charge balance
  is not asked for: most targets are metals.
- **unique**: of the valid relaxed candidates of one target, those that equal none before them (:mod:`...screening.matching`).
- **novel**: of the same, those that equal no crystal of the split ``train``, volumes scaled, and none that the checkpoint says
  it learnt from, by its fingerprints.
- **diversity**: of the same, those that meet the target by the predictor, and of these how many different crystals there are,
  over their number.
- **coverage**: targets that some valid relaxed candidate meets by the predictor.
- **structure match**: with the composition held, whether any of the candidates is the target's crystal for ``StructureMatcher``
  with the tolerances of DiffCSP (stol 0.5, angle 10°, ltol 0.3), by which zincblende is rocksalt; and with its own defaults.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.matching import known_as, representatives
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals

from .surrogate import strictly_valid

MET = 0.10  # states/eV/atom
_NOTHING = TrainingCrystals([])
MATCHERS = {"matches": {"stol": 0.5, "angle_tol": 10, "ltol": 0.3}, "matches_by_default": {}}
"""Arguments of the matcher, by the key of the record: as for DiffCSP, and pymatgen's defaults."""


def recall(candidate: CrystalSet, wanted: CrystalSet) -> float:
    """Return the share of the wanted crystal's atoms whose element the candidate has, each counted once."""
    common = Counter(candidate.numbers.tolist()) & Counter(wanted.numbers.tolist())
    return common.total() / len(wanted.numbers)


def described(
    relaxed: CrystalSet, distances: np.ndarray, train: CrystalSet, learnt: TrainingCrystals = _NOTHING
) -> dict[str, Any]:
    """Return how many relaxed candidates of one target are valid, different, new, and meet it.

    :param learnt: what the denoiser learnt from besides, by fingerprints.
    :param distances: by the predictor, NaN where there is no prediction, shape (N,).
    """
    bare = relaxed.replace(crystal_columns={}, atom_columns={})
    usable = strictly_valid(relaxed) & np.isin(relaxed.crystal_columns["status"], ["converged", "max steps"])
    rows = np.flatnonzero(usable).tolist()
    first = representatives(bare, rows)
    known = set(known_as(bare, rows, train.replace(crystal_columns={}, atom_columns={})))
    known |= {i for i, seen in zip(rows, learnt.has(bare, rows), strict=True) if seen}
    meeting = [i for i in rows if distances[i] <= MET]
    return {
        "relaxed_valid": len(rows),
        "unique": sum(first[i] == i for i in rows),
        "novel": len(rows) - len(known),
        "meeting": len(meeting),
        "meeting_different": len({first[i] for i in meeting}),
    }


def matches(candidates: CrystalSet, wanted: CrystalSet, key: str) -> list[bool]:
    """Tell of each candidate whether it is the wanted crystal.

    :param key: of :data:`MATCHERS`.
    """
    matcher = StructureMatcher(**MATCHERS[key])
    target = wanted.to_pymatgen()[0]
    found = []
    for candidate in candidates:
        same = Counter(candidate.numbers.tolist()) == Counter(wanted.numbers.tolist()) and candidate.defect() is None
        found.append(bool(same and matcher.fit(target, candidate.to_pymatgen()[0])))
    return found
