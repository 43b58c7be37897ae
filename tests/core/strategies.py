"""Hypothesis strategies that the core's tests share."""

import numpy as np
from hypothesis import strategies as st

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID


@st.composite
def crystal_sets(draw, min_size=0, max_size=5, columns=True):
    """Valid crystals of 1-6 atoms in random cells, with columns of several types."""
    n_atoms = draw(st.lists(st.integers(1, 6), min_size=min_size, max_size=max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, total = len(n_atoms), sum(n_atoms)
    crystals = CrystalSet(
        np.array(n_atoms),
        rng.integers(1, 103, total),
        rng.uniform(-1, 2, (total, 3)),
        rng.uniform(2, 8, (n, 1, 1)) * (np.eye(3) + rng.uniform(-0.2, 0.2, (n, 3, 3))),
    )
    if not columns:
        return crystals
    energy = rng.normal(size=n)
    energy[rng.random(n) < 0.3] = np.nan
    status = np.array(["ok", "Ω nope"])[rng.integers(0, 2, n)]
    return crystals.with_columns(
        crystal={"energy": energy, "stress": rng.normal(size=(n, 3, 3)), "status": status},
        atom={"forces": rng.normal(size=(total, 3)), "dos": rng.random((total, 7)).astype(np.float32)},
    )


@st.composite
def curves(draw, n=None):
    """Non-negative curves on the default grid, sums of a few Gaussians, shape (n, 400)."""
    n = draw(st.integers(1, 4)) if n is None else n
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres, widths = rng.uniform(-9, 9, (n, 5, 1)), rng.uniform(0.2, 2, (n, 5, 1))
    heights = rng.uniform(0.05, 3, (n, 5, 1))
    return (heights * np.exp(-(((DEFAULT_GRID.points - centres) / widths) ** 2))).sum(1)
