"""The steps of a relaxation: L-BFGS, the springs that it starts from, and what a refused step teaches."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from aiida_dosmatgen.core.contacts import covalent_radii
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters
from aiida_dosmatgen.engine.relaxation import relax, springs
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluation, load
from aiida_dosmatgen.engine.relaxation.lbfgs import ManyLBFGS
from aiida_dosmatgen.engine.relaxation.pool import LARGEST_STEP, Pool, _lowest
from aiida_dosmatgen.engine.relaxation.springs import Springs


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    """Crystals of 1, 2, 2 and 4 atoms, displaced."""
    rng = np.random.default_rng(0)
    made = [bulk("Al"), bulk("GaAs", "zincblende", a=5.6), bulk("Ni", "hcp", a=2.5, c=4.1), bulk("Cu", cubic=True)]
    for atoms in made:
        atoms.rattle(0.1, rng=rng)
    return CrystalSet.from_ase(made)


def quadratics(rng: np.random.Generator, rows: np.ndarray) -> list[np.ndarray]:
    """Positive definite Hessians of problems of so many rows of three."""
    roots = [rng.normal(size=(3 * r, 3 * r)) for r in rows]
    return [root @ root.T + np.eye(len(root)) for root in roots]


def multiply(matrices: list[np.ndarray], vectors: np.ndarray) -> np.ndarray:
    ends = np.cumsum([len(m) // 3 for m in matrices])[:-1]
    parts = np.split(vectors, ends)
    return np.concatenate([(m @ part.reshape(-1)).reshape(-1, 3) for m, part in zip(matrices, parts, strict=True)])


def test_lbfgs_steps_to_the_minimum_if_the_guess_is_right_and_learns_if_it_is_not():
    rng, rows = np.random.default_rng(1), np.array([1, 3, 2])
    hessians = quadratics(rng, rows)
    inverses = [np.linalg.inv(h) for h in hessians]
    gradients = rng.normal(size=(6, 3))
    many = ManyLBFGS(memory=30)
    many.add(rows)
    exact = many.directions(gradients, lambda v: np.stack([multiply(inverses, each) for each in v]))
    np.testing.assert_allclose(multiply(hessians, exact), -gradients, atol=1e-9)

    for _ in range(30):  # steps that span all directions teach the Hessian of a quadratic function
        steps = rng.normal(size=(6, 3))
        many.update(steps, multiply(hessians, steps), np.ones(3, dtype=bool))
    np.testing.assert_allclose(many.directions(multiply(hessians, steps), lambda v: v), -steps, atol=1e-7)


def test_lbfgs_problems_join_leave_and_forget_alone():
    rng, rows = np.random.default_rng(2), np.array([2, 1, 3])
    steps, gradients = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    many = ManyLBFGS()
    many.add(rows[:2])
    many.add(rows[2:])
    many.update(steps, 3 * steps, np.ones(3, dtype=bool))
    many.forget(np.array([False, True, False]))
    found = many.directions(gradients, lambda v: v)
    np.testing.assert_allclose(found[2], -gradients[2])
    np.testing.assert_allclose(found[[0, 1, 3, 4, 5]], -gradients[[0, 1, 3, 4, 5]] / 3)
    many.keep(np.array([True, False, True]))
    np.testing.assert_allclose(many.directions(gradients[[0, 1, 3, 4, 5]], lambda v: v), found[[0, 1, 3, 4, 5]])


def test_springs_are_the_second_derivatives_of_their_bonds(crystals):
    """Against a Hessian put together bond by bond from finite differences of the bond by the variables."""
    rng = np.random.default_rng(3)
    pool = Pool()
    pool.add(np.arange(4), crystals, crystals.volumes, np.zeros(4, dtype=np.int64), np.full(4, np.nan))
    pool.variables = pool.variables + rng.normal(0, 0.05, pool.variables.shape)  # so that F is not 1
    now, scale = pool.crystals(pool.variables), pool.n_atoms.astype(float)
    model = Springs(now, pool._deformation(pool.variables), scale)
    vectors = rng.normal(size=(2, *pool.variables.shape))
    solved = model.solve(vectors)
    first = 0
    for undeformed, crystal in zip(pool.undeformed, now, strict=True):
        n = int(crystal.n_atoms[0])
        rows = slice(first, first + n + 3)
        first += n + 3
        start = pool.variables[rows]
        radii = covalent_radii(crystal.numbers)
        found = neighbor_list("ijDd", crystal.to_ase()[0], 2 * springs._REACH * radii.max())
        hessian = springs._EVERYWHERE * np.eye(3 * (n + 3))
        for i, j, vector, length in zip(*found, strict=True):
            x = length / (radii[i] + radii[j])
            if x >= springs._REACH:
                continue
            # positions of the variables are not wrapped, and images of ASE's list refer to wrapped ones
            shift = np.round((vector @ np.linalg.inv(crystal.lattices[0])) - (crystal.fractional[j] - crystal.fractional[i]))

            def bond(v, i=i, j=j, shift=shift, undeformed=undeformed, n=n):
                return (v[n:] / n) @ (v[j] + shift @ undeformed - v[i])

            np.testing.assert_allclose(bond(start), vector, atol=1e-9)
            jacobian = np.empty((3, start.size))
            for k in range(start.size):
                change = np.zeros(start.size)
                change[k] = 1e-4
                change = change.reshape(start.shape)
                jacobian[:, k] = (bond(start + change) - bond(start - change)) / 2e-4
            decay = np.exp(-springs._DECAY * (max(x, springs._SHORTEST) - 1)) - np.exp(-springs._DECAY * (springs._REACH - 1))
            along = np.outer(vector, vector) / length**2
            stiffness = springs.STIFFNESS * decay * ((1 - springs._ACROSS) * along + springs._ACROSS * np.eye(3))
            hessian += 0.5 * jacobian.T @ stiffness @ jacobian
        for vector, result in zip(vectors, solved, strict=True):
            np.testing.assert_allclose(hessian @ result[rows].reshape(-1), vector[rows].reshape(-1), atol=1e-6)


def test_springs_leave_kept_cells_and_large_crystals_alone(crystals, monkeypatch):
    deformations, scale = np.tile(np.eye(3), (4, 1, 1)), crystals.n_atoms.astype(float)
    atom_rows = np.concatenate([np.arange(n + 3) < n for n in crystals.n_atoms])
    vectors = np.where(atom_rows[:, None], np.random.default_rng(4).normal(size=(len(atom_rows), 3)), 0.0)[None]
    assert np.abs(Springs(crystals, deformations, scale).solve(vectors)[0, ~atom_rows]).max() > 1e-3
    fixed = Springs(crystals, deformations, scale, cell=False).solve(vectors)
    np.testing.assert_array_equal(fixed[0, ~atom_rows], 0.0)
    monkeypatch.setattr(springs, "_LARGEST", 2)
    some = Springs(crystals, deformations, scale, cell=False).solve(vectors)
    np.testing.assert_allclose(some[0, :-7], fixed[0, :-7])
    np.testing.assert_allclose(some[0, -7:], vectors[0, -7:] / springs._WITHOUT_MODEL)


def test_springs_of_atoms_on_one_spot_are_finite(crystals):
    crystal = crystals[3].replace(fractional=crystals[3].fractional[[0, 0, 2, 3]])
    vectors = np.random.default_rng(6).normal(size=(1, 7, 3))
    assert np.isfinite(Springs(crystal, np.eye(3)[None], np.array([4.0])).solve(vectors)).all()


def test_springs_save_steps(crystals, monkeypatch):
    emt = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    metals = crystals[[0, 2, 3]]
    stretch = np.array([[1.04, 0.05, 0], [0, 0.97, 0.04], [0, 0, 1.05]])
    metals = metals.replace(lattices=metals.lattices @ stretch)

    def steps() -> int:
        ends = [relaxed.crystal.crystal_columns for relaxed in relax(metals, emt, RelaxParameters())]
        assert {str(columns["status"][0]) for columns in ends} == {"converged"}
        return sum(int(columns["steps"][0]) for columns in ends)

    with_springs = steps()
    monkeypatch.setattr(springs, "_LARGEST", 0)
    assert with_springs < 0.8 * steps()


def test_lowest_point_of_a_cubic():
    def cubic(x):
        return 2 * x**3 - x**2 - 0.3 * x

    expected = (1 + np.sqrt(1 + 1.8)) / 6
    found = _lowest(np.array([cubic(1.0), np.nan]), np.array([-0.3, -0.3]), np.array([6 - 2 - 0.3, np.nan]))
    np.testing.assert_allclose(found, [expected, 0.25])


def test_a_refused_step_is_learnt_from_and_shortened(crystals):
    """The gradient at a point that was refused bounds the next step, which the bound on steps alone would not."""
    crystal = crystals[3]
    pool = Pool(cell=False)
    pool.add(np.arange(1), crystal, crystal.volumes, np.zeros(1, dtype=np.int64), np.full(1, np.nan))

    def evaluate(stiffness: float) -> Evaluation:
        moves = pool.crystals(pool.trial).positions - crystal.positions - 0.02
        energy = 0.5 * stiffness * (moves**2).sum()
        return Evaluation(np.array([energy]), -stiffness * moves, np.zeros((1, 3, 3)))

    stiffness = 1e4  # far above that of the springs
    pool.take(evaluate(stiffness))
    before = pool.energies.copy()
    pool.step()
    pool.take(evaluate(stiffness))
    assert pool.energies == before and pool.trust[0] < 0.6 * LARGEST_STEP
    pool.step()
    pool.take(evaluate(stiffness))
    assert pool.energies[0] < 0.01 * before[0]
