"""In which order crystals are labelled: what is wanted first, then cheap ones, so that each beginning has all kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...core.crystals import CrystalSet
from ...core.dft.bands import irreducible_mesh

LARGE = 9
"""Atoms of a cell from which a crystal counts as large."""

SHARES = {"large": 0.1, "magnetic": 0.1, "real": 0.65}
"""Which share of each beginning of a data set large crystals, those with magnetic elements, and real ones have at least."""

_LOOK_AHEAD = 200
_EVERY_RAREST = 4


def relative_cost(crystal: CrystalSet, n_electrons: float, mesh: Sequence[int], spin: bool) -> float:
    """Return what a run on a mesh costs, up to a factor: irreducible k-points × volume × bands, and a term for many bands.

    :param mesh: divisions of the mesh.
    """
    cell = (crystal.lattices[0], crystal.fractional, crystal.numbers)
    mapping, _ = irreducible_mesh(mesh, cell)
    bands = n_electrons / 2 + 2 * len(crystal.numbers) + 4
    return len(np.unique(mapping)) * float(crystal.volumes[0]) * bands * (1 + bands / 40) * (2 if spin else 1)


def balanced(
    crystals: CrystalSet, costs: np.ndarray, first: np.ndarray | None = None, shares: Sequence[tuple[np.ndarray, float]] = ()
) -> np.ndarray:
    """Return the rows of a set in the order in which to compute them, shape (N,).

    Of the 200 cheapest crystals that are left, the next is the one whose rarest element so far has come least often. Every
    fourth is the cheapest one that holds the rarest element of all, however dear: elements that only come in dear crystals
    would else come last. Kinds of crystals that are wanted come early by their shares.

    :param costs: shape (N,).
    :param first: those that come before all others, the cheapest first, (N,) bool.
    :param shares: kinds of crystals, each (N,) bool, and which share of each beginning they have at least, while there are any.
    """
    elements = [set(crystals.numbers[a:b].tolist()) for a, b in zip(crystals.offsets, crystals.offsets[1:], strict=False)]
    first = np.zeros(len(crystals), dtype=bool) if first is None else first
    cheapest = np.argsort(costs, kind="stable")
    order, left = cheapest[first[cheapest]].tolist(), cheapest[~first[cheapest]].tolist()
    seen = Counter(z for row in order for z in elements[row])
    of_kind = [int(kind[order].sum()) for kind, _ in shares]
    while left:
        few = [kind for (kind, share), n in zip(shares, of_kind, strict=True) if n < share * (len(order) + 1)]
        wanted = next((rows for kind in few if (rows := [row for row in left if kind[row]])), left)
        if wanted is left and len(order) % _EVERY_RAREST == _EVERY_RAREST - 1:
            rarest = min({z for row in left for z in elements[row]}, key=lambda z: (seen[z], z))
            row = next(row for row in left if rarest in elements[row])
        else:
            row = min(wanted[:_LOOK_AHEAD], key=lambda row: min(seen[z] for z in elements[row]))
        left.remove(row)
        seen.update(elements[row])
        of_kind = [n + int(kind[row]) for (kind, _), n in zip(shares, of_kind, strict=True)]
        order.append(row)
    return np.array(order)
