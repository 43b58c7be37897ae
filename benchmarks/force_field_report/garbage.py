"""Crystals that are none, and whether a relaxation with a force field survives them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import RelaxParameters
from aiida_dosmatgen.engine.relaxation import STATUSES, gather, relax
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluator

_FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])

_PAIRS = ((13, 8), (31, 33), (29, 79))
"""Elements to try with; the first pair that the force field knows is taken."""


def cubic(numbers: list[int], fractional: np.ndarray, a: float) -> CrystalSet:
    """Return one crystal with a cubic cell."""
    return CrystalSet([len(numbers)], numbers, fractional, np.eye(3)[None] * a)


def garbage(a: int, b: int) -> dict[str, CrystalSet]:
    """Return one crystal of each kind, of the elements with the atomic numbers a and b."""
    rng = np.random.default_rng(5)
    four = [a, a, b, b]
    good = cubic(four, _FCC, 4.2)
    nan = _FCC.copy()
    nan[2, 1] = np.nan
    kinds = {
        "NaN position": cubic(four, nan, 4.2),
        "infinite lattice": good.replace(lattices=np.full((1, 3, 3), np.inf)),
        "no element": cubic([a, a, 0, b], _FCC, 4.2),
        "flat cell": good.replace(lattices=np.array([[[4.2, 0, 0], [0, 4.2, 0], [4.2, 4.2, 0]]])),
        "almost flat cell": good.replace(lattices=np.diag([8.0, 8.0, 0.2])[None]),
        "needle": good.replace(lattices=np.diag([0.4, 0.4, 90.0])[None]),
        "atoms on one spot": cubic(four, np.zeros((4, 3)), 4.2),
        "tiny cell": cubic(four, _FCC, 0.5),
        "gas": cubic(four, _FCC, 8.9),
        "volume x 64": cubic(four, _FCC, 17.0),
        "left-handed": good.replace(lattices=np.diag([4.2, 4.2, -4.2])[None]),
        "squeezed to half": cubic(four, _FCC, 4.2 * 0.5 ** (1 / 3)),
        "sheared": good.replace(lattices=np.array([[[4.2, 0, 0], [3.9, 4.2, 0], [3.9, 3.9, 4.2]]])),
        "slab with a vacuum": good.replace(lattices=np.diag([4.2, 4.2, 16.0])[None]),
    }
    for k in range(6):
        kinds[f"random soup {k}"] = cubic(four * 2, rng.random((8, 3)), float(rng.uniform(3.8, 6.5)))
    return kinds


def survived(evaluator: Evaluator) -> dict[str, Any]:
    """Relax all kinds at once with two good crystals beside them.

    :return: ``status`` of each kind; ``survived``, whether all ended with a status, none with numbers that are not finite but
        those that are refused, and the good ones as if they were alone.
    """
    a, b = next(pair for pair in _PAIRS if evaluator.knows(np.array(pair)).all())
    kinds = garbage(a, b)
    good = CrystalSet.concatenate([cubic([a, b], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 3.0), cubic([a] * 4, _FCC, 4.1)])
    parameters = RelaxParameters(max_steps=60)
    together = CrystalSet.concatenate([good, *kinds.values()])
    relaxed, alone = (gather(c, list(relax(c, evaluator, parameters))) for c in (together, good))
    status, energy = relaxed.crystal_columns["status"], relaxed.crystal_columns["energy"]
    ended = all(str(s) in STATUSES for s in status) and len(status) == len(together)
    finite = np.isfinite(energy) | np.isin(
        status, ["not finite", "unknown element", "exploded", "collapsed", "clash", "too large"]
    )
    beside = status[:2].tolist() == alone.crystal_columns["status"].tolist() and np.allclose(
        energy[:2], alone.crystal_columns["energy"], atol=0.02, equal_nan=True
    )
    return {
        "survived": bool(ended and finite.all() and beside),
        "status": {name: str(s) for name, s in zip(kinds, status[2:], strict=True)},
    }
