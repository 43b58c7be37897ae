"""In which order crystals are labelled: what is wanted first, then cheap ones, so that each beginning has all elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dft.bands import irreducible_mesh

_LOOK_AHEAD = 200


def relative_cost(crystal: CrystalSet, n_electrons: float, mesh: Sequence[int], spin: bool) -> float:
    """Return what a run on a mesh costs, up to a factor: irreducible k-points × volume × bands, and a term for many bands.

    :param mesh: divisions of the mesh.
    """
    cell = (crystal.lattices[0], crystal.fractional, crystal.numbers)
    mapping, _ = irreducible_mesh(mesh, cell)
    bands = n_electrons / 2 + 2 * len(crystal.numbers) + 4
    return len(np.unique(mapping)) * float(crystal.volumes[0]) * bands * (1 + bands / 40) * (2 if spin else 1)


def balanced(crystals: CrystalSet, costs: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of a set in the order in which to compute them, shape (N,).

    Of the 200 cheapest crystals that are left, the next is the one whose rarest element so far has come least often.

    :param costs: shape (N,).
    :param first: those that come before all others, the cheapest first, (N,) bool.
    """
    elements = [set(crystals.numbers[a:b].tolist()) for a, b in zip(crystals.offsets, crystals.offsets[1:], strict=False)]
    first = np.zeros(len(crystals), dtype=bool) if first is None else first
    cheapest = np.argsort(costs, kind="stable")
    order, left = cheapest[first[cheapest]].tolist(), cheapest[~first[cheapest]].tolist()
    seen = Counter(z for row in order for z in elements[row])
    while left:
        best = min(range(min(_LOOK_AHEAD, len(left))), key=lambda i: (min(seen[z] for z in elements[left[i]]), i))
        row = left.pop(best)
        seen.update(elements[row])
        order.append(row)
    return np.array(order)
