"""Which atoms can be which elements at once, when each element must occur an exact number of times.

Atoms and places ("the second Ga") form a bipartite graph; a composition is possible if it has a perfect matching (P. Hall, J.
London Math. Soc. 10, 26, 1935).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, maximum_bipartite_matching


def assign(allowed: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
    """Return one assignment of elements to atoms, shape (N,), or None if there is none.

    :param allowed: whether atom i may be element e, shape (N, K) bool.
    :param counts: atoms of each element, shape (K,) int, with the sum N.
    """
    places, matched = _match(allowed, counts)
    return None if (matched < 0).any() else places[matched]


def shortage(allowed: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a set of elements that needs more atoms than may be one of them, and these atoms; None if all can be met.

    :return: indices of elements and of atoms, by Hall's theorem: there is such a set whenever there is no assignment.
    """
    places, matched = _match(allowed, counts)
    free = np.setdiff1d(np.arange(len(places)), matched)
    if not len(free):
        return None
    elements, atoms = {int(places[free[0]])}, np.zeros(len(allowed), dtype=bool)
    while True:  # alternating paths from an empty place; all atoms that they reach are taken by the elements that they reach
        reached = np.asarray(allowed[:, sorted(elements)].any(1))
        if np.array_equal(reached, atoms):
            return np.array(sorted(elements)), np.flatnonzero(atoms)
        atoms = reached
        elements |= {int(places[place]) for place in matched[atoms]}


def supported(allowed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which of the allowed elements of each atom occur in any assignment, shape (N, K) bool; all False if none does.

    An atom assigned to e can be f if atoms can be moved along a cycle of elements e → f → … → e, so e and f must lie in one
    strongly connected component of the graph of possible moves.
    """
    assigned = assign(allowed, counts)
    if assigned is None:
        return np.zeros_like(allowed)
    moves = np.zeros((allowed.shape[1],) * 2, dtype=bool)
    np.logical_or.at(moves, assigned, allowed)
    _, component = connected_components(csr_array(moves), directed=True, connection="strong")
    return allowed & (component[None] == component[assigned][:, None])


def _match(allowed: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The element of each place, and the place that each atom is matched to, −1 for none."""
    places = np.repeat(np.arange(len(counts)), counts)
    graph = csr_array(allowed[:, places].astype(np.int8))
    return places, maximum_bipartite_matching(graph, perm_type="column")
