"""Relaxation against analytic potentials and ASE, garbage and all."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters, sha256_of
from aiida_dosmatgen.engine.relaxation import gather, relax
from aiida_dosmatgen.engine.relaxation.forcefields import load
from aiida_dosmatgen.engine.relaxation.pool import Pool
from aiida_dosmatgen.engine.relaxation.repair import make_right_handed, push_apart

EMT_FIELD = ForceField(calculator="ase.calculators.emt:EMT")
TIGHT = RelaxParameters(fmax=0.005, smax=0.05)


@pytest.fixture(scope="module")
def emt():
    return load(EMT_FIELD, Path())


def displaced(amplitude: float = 0.08, seed: int = 0) -> CrystalSet:
    """Metals of 1, 2 and 4 atoms near their minima, strained and displaced."""
    rng = np.random.default_rng(seed)
    made = []
    for symbol in ("Cu", "Al", "Ni", "Au"):
        for atoms in (bulk(symbol), bulk(symbol).repeat((2, 1, 1)), bulk(symbol, cubic=True)):
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
            atoms.rattle(amplitude, rng=rng)
            made.append(atoms)
    return CrystalSet.from_ase(made)


def run(crystals: CrystalSet, evaluator, parameters: RelaxParameters | None = None, **options) -> CrystalSet:
    outcomes = list(relax(crystals, evaluator, parameters or RelaxParameters(), **options))
    assert sorted(o.index for o in outcomes) == list(range(len(crystals)))
    return gather(crystals, outcomes)


def statuses(crystals: CrystalSet) -> list[str]:
    return crystals.crystal_columns["status"].tolist()


def test_same_minima_as_ase_to_1_mev_per_atom(emt):
    crystals = displaced()[[1, 3, 8]]
    relaxed = run(crystals, emt, TIGHT)
    assert statuses(relaxed) == ["converged"] * len(crystals)
    for i, atoms in enumerate(crystals.to_ase()):
        atoms.calc = EMT()
        FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=1000)
        assert relaxed.crystal_columns["energy"][i] == pytest.approx(atoms.get_potential_energy(), abs=1e-3 * len(atoms))


def test_columns_belong_to_the_geometry(emt):
    crystals = displaced().with_columns(crystal={"candidate": np.arange(12) + 100})
    relaxed = run(crystals, emt)
    again = emt.evaluate(relaxed)
    np.testing.assert_allclose(relaxed.crystal_columns["energy"], again.energies, atol=1e-9)
    np.testing.assert_allclose(relaxed.atom_columns["forces"], again.forces, atol=1e-8)
    np.testing.assert_allclose(relaxed.crystal_columns["stress"], again.stresses, atol=1e-9)
    assert relaxed.crystal_columns["candidate"].tolist() == list(range(100, 112))
    for i, crystal in enumerate(relaxed):
        assert crystal.crystal_columns["fmax"][0] == pytest.approx(np.linalg.norm(crystal.atom_columns["forces"], axis=1).max())
        assert crystal.crystal_columns["fmax"][0] < 0.05, i


def test_cell_can_be_kept(emt):
    crystals = displaced()
    relaxed = run(crystals, emt, RelaxParameters(cell=False))
    assert statuses(relaxed) == ["converged"] * len(crystals)
    np.testing.assert_allclose(relaxed.lattices, crystals.lattices, atol=1e-12)
    assert np.abs(relaxed.fractional - crystals.fractional).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_crystal_does_not_depend_on_the_batch(emt, batch_size):
    crystals = displaced()[::2]
    expected, found = run(crystals, emt), run(crystals, emt, batch_size=batch_size)
    np.testing.assert_allclose(found.crystal_columns["energy"], expected.crystal_columns["energy"], atol=1e-8)
    np.testing.assert_allclose(found.lattices, expected.lattices, atol=1e-6)
    assert found.crystal_columns["steps"].tolist() == expected.crystal_columns["steps"].tolist()


def test_step_limit(emt):
    crystals = displaced()
    assert set(statuses(run(crystals, emt, TIGHT.model_copy(update={"max_steps": 2})))) == {"max steps"}
    unmoved = run(crystals, emt, TIGHT.model_copy(update={"max_steps": 0}))
    np.testing.assert_allclose(unmoved.fractional, crystals.fractional, atol=1e-12)
    np.testing.assert_allclose(unmoved.crystal_columns["energy"], emt.evaluate(crystals).energies, atol=1e-9)
    np.testing.assert_array_equal(unmoved.crystal_columns["start_energy"], unmoved.crystal_columns["energy"])
    assert set(unmoved.crystal_columns["steps"].tolist()) == {0}


def test_each_crystal_has_its_time(emt):
    assert set(statuses(run(displaced(), emt, TIGHT.model_copy(update={"max_seconds": 1e-9})))) == {"too slow"}
    pool = Pool()
    pool.add(np.arange(12), displaced(), displaced().volumes, np.zeros(12, dtype=np.int64), np.full(12, np.nan))
    pool.spend(28.0)
    pool.keep(pool.n_atoms > 1)
    pool.spend(24.0)  # what has left is not charged
    assert pool.seconds.tolist() == [4.0, 8.0] * 4


def test_time_budget_keeps_what_is_done_and_continues(emt):
    crystals = displaced()
    calls = itertools.count()
    first = run(crystals, emt, TIGHT, batch_size=4, in_time=lambda: next(calls) < 12)
    late = np.array(statuses(first)) == "out of time"
    running = late & np.isfinite(first.crystal_columns["energy"])
    waiting = late & ~np.isfinite(first.crystal_columns["energy"])
    assert running.sum() <= 4 and waiting.any()
    assert (first.crystal_columns["energy"][running] <= emt.evaluate(crystals).energies[running] + 1e-9).all()
    np.testing.assert_array_equal(
        first.fractional[waiting[crystals.crystal_of_atom]], crystals.fractional[waiting[crystals.crystal_of_atom]]
    )

    left = np.flatnonzero(late)
    begun = np.isfinite(first.crystal_columns["start_energy"])
    assert begun.sum() == len(crystals) - waiting.sum()
    second = run(crystals[left], emt, TIGHT, start=first[left])
    where_it_began = first.crystal_columns["start_energy"].copy()
    where_it_began[left] = second.crystal_columns["start_energy"]  # not where the second run took it up
    np.testing.assert_allclose(where_it_began, emt.evaluate(crystals).energies, atol=1e-9)
    assert set(statuses(second)) == {"converged"}
    assert (second.crystal_columns["steps"] >= first.crystal_columns["steps"][left]).all()


# --- garbage: each with three good crystals beside it ----------------------------------------------------------------------


def cubic(numbers, fractional, a: float) -> CrystalSet:
    return CrystalSet([len(numbers)], numbers, fractional, np.eye(3)[None] * a)


FCC = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
COPPER = cubic([29] * 4, FCC, 3.6)
rng = np.random.default_rng(5)
nan_atom = np.array(FCC, float)
nan_atom[2, 1] = np.nan
GARBAGE = {
    "NaN position": (cubic([29] * 4, nan_atom, 3.6), {"not finite"}),
    "infinite lattice": (COPPER.replace(lattices=np.full((1, 3, 3), np.inf)), {"not finite"}),
    "unknown element": (cubic([29, 29, 92, 29], FCC, 3.6), {"unknown element"}),
    "no element": (cubic([29, 29, 0, 29], FCC, 3.6), {"unknown element"}),
    "flat cell": (COPPER.replace(lattices=np.array([[[3.6, 0, 0], [0, 3.6, 0], [3.6, 3.6, 0]]])), {"collapsed"}),
    "almost flat cell": (COPPER.replace(lattices=np.diag([8.0, 8.0, 0.2])[None]), {"clash"}),
    "needle": (COPPER.replace(lattices=np.diag([0.4, 0.4, 90.0])[None]), {"clash"}),
    "atoms on one spot": (cubic([29] * 4, np.zeros((4, 3)), 3.6), {"converged", "clash"}),
    "random soup": (cubic([29] * 12, rng.random((12, 3)), 5.2), {"converged", "clash", "max steps"}),
    "tiny cell": (cubic([29] * 4, FCC, 0.5), {"clash"}),
    "volume x 64": (cubic([29] * 4, FCC, 4 * 3.6), {"exploded"}),
    "gas below the volume limit": (cubic([29] * 4, FCC, 9.0), {"exploded"}),
    "a million atoms": (cubic([29] * 10**6, np.zeros((10**6, 3)), 300.0), {"too large"}),
    "left-handed": (COPPER.replace(lattices=np.diag([3.7, 3.7, -3.6])[None]), {"converged"}),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_ends_alone(emt, case):
    bad, expected = GARBAGE[case]
    good = displaced(seed=1)[[1, 4, 8]]
    relaxed = run(CrystalSet.concatenate([good[:1], bad, good[1:]]), emt, RelaxParameters(max_steps=100))
    assert statuses(relaxed)[1] in expected
    kept = relaxed[[0, 2, 3]]
    assert statuses(kept) == ["converged"] * 3
    np.testing.assert_allclose(kept.crystal_columns["energy"], run(good, emt).crystal_columns["energy"], atol=1e-8)


def test_garbage_all_at_once_with_mace(tmp_path):
    """One network call for the whole batch: here a NaN could spread."""
    from ..small_mace import save_small_mace

    path = save_small_mace(tmp_path / "m.model", (13, 28, 29, 79))
    field = load(ForceField(file=path.name, sha256=sha256_of(path)), tmp_path, dtype=torch.float64)
    bad = CrystalSet.concatenate([crystal for crystal, _ in GARBAGE.values()])
    good = displaced(seed=2)[[0, 5, 8]]
    few = RelaxParameters(max_steps=5)
    together = run(CrystalSet.concatenate([good, bad]), field, few)
    alone = run(good, field, few)
    np.testing.assert_allclose(together.crystal_columns["energy"][:3], alone.crystal_columns["energy"], atol=1e-7)
    assert statuses(together)[:3] == statuses(alone)
    assert set(statuses(together)[3:]) >= {"not finite", "unknown element", "collapsed", "clash", "exploded"}


class Hole:
    """A force field with a bottomless hole at short distance, as those outside of their training data have."""

    description, sha256 = "hole", None

    def __init__(self, inner, nan: bool):
        self.inner, self.nan, self.calls = inner, nan, 0

    def knows(self, numbers):
        return self.inner.knows(numbers)

    def evaluate(self, crystals):
        result = self.inner.evaluate(crystals)
        self.calls += 1
        falling = crystals.numbers[crystals.offsets[:-1]] == 13
        if self.nan:
            result.energies[falling & (self.calls > 2)] = np.nan
        else:  # a pressure without end
            result.energies[falling] += 5e4 * np.log(crystals.volumes[falling])
            result.stresses[falling] += 5e4 * np.eye(3) / crystals.volumes[falling][:, None, None]
        return result


@pytest.mark.parametrize(("nan", "expected"), [(True, "not finite"), (False, "collapsed")])
def test_force_field_that_fails_on_one_crystal(emt, nan, expected):
    crystals = displaced()[::2]
    relaxed = run(crystals, Hole(emt, nan), TIGHT, batch_size=64)
    aluminium = crystals.numbers[crystals.offsets[:-1]] == 13
    found = np.array(statuses(relaxed))
    assert set(found[aluminium]) <= {expected, "clash"} and expected in found
    assert set(found[~aluminium]) == {"converged"}


# --- repairs ------------------------------------------------------------------------------------------------------------


def test_left_handed_cells_become_the_same_crystal_right_handed():
    crystals = displaced()
    mirrored = crystals.replace(lattices=crystals.lattices * np.array([1, 1, -1])[None, :, None])
    repaired = make_right_handed(mirrored)
    assert (np.linalg.det(repaired.lattices) > 0).all()
    for a, b in zip(mirrored.to_ase(), repaired.to_ase(), strict=True):
        np.testing.assert_allclose(a.get_all_distances(mic=True), b.get_all_distances(mic=True), atol=1e-9)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)


def test_overlapping_atoms_are_pushed_apart():
    soup = cubic([14] * 8, np.random.default_rng(0).random((8, 3)) * 0.3, 5.4)
    assert closest_contacts(soup)[0] < 0.4
    pushed = push_apart(soup)
    assert pushed is not None and closest_contacts(pushed)[0] > 0.7
    assert pushed == push_apart(soup)
    assert push_apart(cubic([55] * 8, np.zeros((8, 3)), 2.0)) is None
