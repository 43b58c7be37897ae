"""Matching of elements to atoms, against trying all assignments."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.constraints.assignment import assign, shortage, supported


@st.composite
def problems(draw):
    n_atoms, n_elements = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    elements = draw(st.lists(st.integers(0, n_elements - 1), min_size=n_atoms, max_size=n_atoms))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=n_elements, max_size=n_elements), min_size=n_atoms, max_size=n_atoms))
    return np.array(rows), np.bincount(elements, minlength=n_elements)


def all_assignments(allowed, counts):
    atoms = range(len(allowed))
    elements = np.repeat(np.arange(len(counts)), counts)
    return [p for p in sorted(set(itertools.permutations(elements))) if all(allowed[i, p[i]] for i in atoms)]


@settings(max_examples=300)
@given(problems())
def test_an_assignment_is_found_whenever_there_is_one(problem):
    allowed, counts = problem
    possible = all_assignments(allowed, counts)
    found = assign(allowed, counts)
    assert (found is not None) == bool(possible)
    if possible:
        assert tuple(found) in possible


@settings(max_examples=300)
@given(problems())
def test_a_shortage_is_one_by_halls_theorem(problem):
    allowed, counts = problem
    found = shortage(allowed, counts)
    assert (found is None) == bool(all_assignments(allowed, counts))
    if found is not None:
        elements, atoms = found
        assert np.flatnonzero(allowed[:, elements].any(1)).tolist() == atoms.tolist()
        assert counts[elements].sum() > len(atoms)


@settings(max_examples=300)
@given(problems())
def test_supported_pairs_are_those_of_all_assignments(problem):
    allowed, counts = problem
    expected = np.zeros_like(allowed)
    for assignment in all_assignments(allowed, counts):
        expected[np.arange(len(allowed)), assignment] = True
    np.testing.assert_array_equal(supported(allowed, counts), expected)


@pytest.mark.parametrize("n_atoms", [50, 200])
def test_large_crystals(n_atoms):
    allowed = np.ones((n_atoms, 3), dtype=bool)
    allowed[: n_atoms // 2, 0] = False
    counts = np.array([n_atoms // 2, n_atoms // 2 - 1, 1])
    # only the second half can be element 0, so it is, and the first half takes the rest
    expected = np.zeros_like(allowed)
    expected[n_atoms // 2 :, 0] = True
    expected[: n_atoms // 2, 1:] = True
    np.testing.assert_array_equal(supported(allowed, counts), expected)
