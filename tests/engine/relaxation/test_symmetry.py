"""Symmetry kept on request."""

from pathlib import Path

import numpy as np
import pytest
import spglib
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.orientation import oriented
from aiida_dosmatgen.core.job import ForceField, RelaxParameters
from aiida_dosmatgen.engine.relaxation import gather, relax
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluation, load
from aiida_dosmatgen.engine.relaxation.symmetry import symmetrize


class Noisy:
    """A force field whose forces and stresses miss the symmetry of the crystal, as learnt ones may."""

    description, sha256 = "noisy", None

    def __init__(self, inner):
        self.inner, self.rng = inner, np.random.default_rng(0)

    def knows(self, numbers):
        return self.inner.knows(numbers)

    def evaluate(self, crystals):
        energies, forces, stresses = self.inner.evaluate(crystals)
        noise = self.rng.normal(0, 1e-3, stresses.shape)
        return Evaluation(energies, forces + self.rng.normal(0, 0.02, forces.shape), stresses + noise + noise.swapaxes(1, 2))


def space_groups(crystals: CrystalSet, tolerance: float) -> list[int]:
    return [spglib.get_symmetry_dataset((c.lattices[0], c.fractional, c.numbers), symprec=tolerance).number for c in crystals]


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    """Simple cubic Cu₃Au, hexagonal Ni, a strained tetragonal Cu, and P1, each with atoms off by a few mÅ."""
    rng = np.random.default_rng(4)
    cu3au = bulk("Cu", "fcc", a=3.9, cubic=True)
    cu3au.symbols[0] = "Au"
    tetragonal = bulk("Cu", "fcc", a=3.6, cubic=True)
    tetragonal.set_cell(np.diag([3.6, 3.6, 3.9]), scale_atoms=True)
    rough = bulk("Al", "fcc", a=4.0, cubic=True)
    rough.rattle(0.1, rng=rng)
    made = [cu3au, bulk("Ni", "hcp", a=2.5, c=4.3), tetragonal, rough]
    for atoms in made:
        atoms.rattle(0.002, rng=rng)
        atoms.rotate(rng.uniform(0, 180), rng.normal(size=3), rotate_cell=True)
    return CrystalSet.from_ase(made)


GROUPS = [221, 194, 139, 1]


def test_the_symmetry_within_the_tolerance_becomes_exact(crystals):
    assert space_groups(crystals, 1e-4) == [1, 2, 1, 1]  # two atoms always have an inversion
    made = [symmetrize(crystal, 0.05) for crystal in crystals]
    assert space_groups(CrystalSet.concatenate(c for c, _ in made), 1e-6) == GROUPS
    assert [len(o.rotations) for _, o in made] == [48, 24, 64, 1]
    for before, (after, _) in zip(crystals, made, strict=True):
        np.testing.assert_allclose(after.positions, before.positions, atol=0.01)


def test_symmetry_is_kept_through_a_relaxation(crystals):
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    starts = crystals.replace(lattices=crystals.lattices * 1.02)

    def groups(symmetry):
        parameters = RelaxParameters(fmax=0.05, smax=1.5, max_steps=30, symmetry=symmetry)
        relaxed = gather(starts, list(relax(starts, Noisy(field), parameters, batch_size=3)))
        assert np.abs(relaxed.volumes / starts.volumes - 1).min() > 0.005
        return space_groups(relaxed, 1e-4)

    assert groups(0.05)[:2] == GROUPS[:2]
    assert groups(0.05)[2] in (139, 225)  # Cu may become cubic, never less than tetragonal
    assert groups(None) == [1, 2, 1, 1]


def test_a_crystal_without_symmetry_relaxes_as_ever(crystals):
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    rough = crystals[3]
    with_it, without = (
        gather(rough, list(relax(rough, field, RelaxParameters(symmetry=s)))).crystal_columns["energy"] for s in (0.01, None)
    )
    np.testing.assert_allclose(with_it, without, atol=1e-9)


def test_a_tolerance_beyond_the_distances_does_no_harm(crystals):
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    relaxed = gather(crystals, list(relax(crystals, field, RelaxParameters(symmetry=5.0))))
    assert relaxed.crystal_columns["status"].tolist() == ["converged"] * 4


class Climbing:
    """A force field whose energies are higher each time."""

    description, sha256 = "climbing", None

    def __init__(self, inner):
        self.inner, self.calls = inner, 0

    def knows(self, numbers):
        return self.inner.knows(numbers)

    def evaluate(self, crystals):
        self.calls += 1
        energies, forces, stresses = self.inner.evaluate(crystals)
        return Evaluation(energies + 0.01 * self.calls * crystals.n_atoms, forces, stresses)


def test_what_converged_gets_its_symmetry_at_the_end(crystals):
    """With thresholds that all meet at once, nothing but the symmetry changes; the results are those of the crystals given."""
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    parameters = RelaxParameters(fmax=5, smax=500, symmetrize=0.05)
    relaxed = gather(crystals, list(relax(crystals, field, parameters)))
    assert space_groups(relaxed, 1e-6) == GROUPS
    assert relaxed.crystal_columns["status"].tolist() == ["converged"] * 4
    assert all(oriented(crystal) is crystal for crystal in relaxed)
    fresh = field.evaluate(relaxed)
    np.testing.assert_allclose(relaxed.crystal_columns["energy"], fresh.energies, atol=1e-9)
    np.testing.assert_allclose(relaxed.atom_columns["forces"], fresh.forces, atol=1e-9)
    np.testing.assert_allclose(relaxed.crystal_columns["stress"], fresh.stresses, atol=1e-9)


def test_symmetry_that_costs_energy_or_the_cell_is_not_made(crystals):
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    for evaluator, changes in ((Climbing(field), {}), (field, {"cell": False})):
        parameters = RelaxParameters(fmax=5, smax=500, symmetrize=0.05, **changes)
        relaxed = gather(crystals, list(relax(crystals, evaluator, parameters)))
        np.testing.assert_allclose(relaxed.lattices, crystals.lattices, atol=1e-9)
    relaxed = gather(crystals, list(relax(crystals, Climbing(field), RelaxParameters(fmax=5, smax=500, symmetrize=0.05))))
    np.testing.assert_allclose(relaxed.positions, crystals.positions, atol=1e-9)


class Distorting:
    """A force field by which cubic crystals are higher in energy."""

    description, sha256 = "distorting", None

    def __init__(self, inner):
        self.inner = inner

    def knows(self, numbers):
        return self.inner.knows(numbers)

    def evaluate(self, crystals):
        energies, forces, stresses = self.inner.evaluate(crystals)
        cubic = np.array(space_groups(crystals, 1e-4)) >= 195
        return Evaluation(energies + 0.01 * cubic * crystals.n_atoms, forces, stresses)


def test_the_highest_symmetry_that_costs_no_energy_is_made():
    """Copper strained by 2 % is cubic within 0.12 Å, tetragonal within 0.04 Å; its atoms are off by a few mÅ."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.set_cell(np.diag([3.6, 3.6, 3.68]), scale_atoms=True)
    atoms.rattle(0.002, rng=np.random.default_rng(0))
    crystals = CrystalSet.from_ase([atoms])
    field = load(ForceField(calculator="ase.calculators.emt:EMT"), Path())
    parameters = RelaxParameters(fmax=5, smax=500, symmetrize=0.12)
    assert [symmetrize(crystals, 0.12 * share)[1].rotations.shape[0] for share in (1, 1 / 3)] == [192, 64]
    for evaluator, group in ((field, 225), (Distorting(field), 139)):
        relaxed = gather(crystals, list(relax(crystals, evaluator, parameters)))
        assert space_groups(relaxed, 1e-6) == [group]
        np.testing.assert_allclose(relaxed.crystal_columns["energy"], evaluator.evaluate(relaxed).energies, atol=1e-9)
