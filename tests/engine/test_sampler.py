"""The sampler: what a candidate depends on, and that its solvers find data that are known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine import sampler as module
from aiida_dosmatgen.engine.denoiser import TYPE_SCALE, Denoiser, Output
from aiida_dosmatgen.engine.sampler import batches, condition_on, sample, sizes, solve

GRID = EnergyGrid(-10.0, 10.0, 400)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(["C", "Si", "Ge"], GRID, width=24, layers=2, frequencies=3).eval()
    for parameter in model.parameters():  # far from identity: errors of rounding must not grow through a rough network either
        torch.nn.init.normal_(parameter, std=0.12)
    model.lattices.std.fill_(0.1)
    model.lattices.mean[0] = math.log(20) / 3
    return model.double().eval()


@pytest.fixture(scope="module")
def target():
    energies = GRID.points
    return DosTarget(np.stack([np.exp(-((energies + 3 - i) ** 2)) for i in range(4)]), complete_below=8.0)


def run(model, target, candidates, *, batch_size=None, seed=7, **parameters):
    parts = sample(model, target, SampleParameters(**parameters), seed, candidates, batch_size=batch_size)
    crystals = CrystalSet.concatenate(parts)
    return crystals[np.argsort(crystals.crystal_columns["candidate"])]


def assert_same(a, b, tolerance=1e-4):
    assert a.n_atoms.tolist() == b.n_atoms.tolist()
    assert a.numbers.tolist() == b.numbers.tolist()
    np.testing.assert_allclose(a.lattices, b.lattices, rtol=0, atol=tolerance)
    difference = a.fractional - b.fractional
    difference -= np.round(difference)
    cartesian = np.einsum("ni,nij->nj", difference, a.lattices[a.crystal_of_atom])
    assert np.abs(cartesian).max() < tolerance


OPTIONS = [
    {"sampler": "ode", "steps": 20, "guidance_scale": 1.0},
    {"sampler": "ancestral", "steps": 12, "guidance_scale": 0.5, "corrector_steps": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["sampler"])
def test_batch_size_and_range_do_not_matter(model, target, options):
    whole = run(model, target, range(0, 80), batch_size=64, **options)
    one_by_one = run(model, target, range(0, 24), batch_size=1, **options)
    part = run(model, target, range(10, 20), **options)
    assert whole.crystal_columns["candidate"].tolist() == list(range(80))
    assert (whole.crystal_columns["seed"] == 7).all()
    assert_same(whole[:24], one_by_one)
    assert_same(whole[10:20], part)


def test_candidates_and_seeds_differ(model, target):
    crystals = run(model, target, range(4), steps=5)
    assert len({tuple(c.fractional.ravel().round(6)) for c in crystals}) == 4
    other = run(model, target, range(4), steps=5, seed=8)
    assert np.abs(other.lattices - crystals.lattices).max() > 1e-3


def test_neighbouring_seeds_share_no_candidates(model):
    draws = {(s, i): torch.rand(1, generator=module.generator_of(s, i)).item() for s in range(5) for i in range(5)}
    assert len(set(draws.values())) == 25


def test_guidance_zero_is_plain_conditioning_and_none_is_unconditional(model, target):
    conditioned = run(model, target, range(3), steps=6, guidance_scale=0.0)
    guided = run(model, target, range(3), steps=6, guidance_scale=2.0)
    free = [run(model, None, range(3), steps=6, n_atoms=4, guidance_scale=w) for w in (0.0, 2.0)]
    assert np.abs(conditioned.lattices - guided.lattices).max() > 1e-4
    assert np.abs(conditioned.lattices - free[0].lattices).max() > 1e-4
    assert free[0] == free[1]


def test_total_targets_and_mixed_sizes(model, target):
    total = DosTarget(target.total, "total", complete_below=8.0)
    crystals = run(model, total, range(7), steps=4, n_atoms=[2, 3])
    assert crystals.n_atoms.tolist() == [2, 3, 2, 3, 2, 3, 2]
    assert_same(crystals[3:5], run(model, total, [3, 4], steps=4, n_atoms=[2, 3]))
    assert run(model, dataclasses.replace(total, n_atoms=5), range(2), steps=2).n_atoms.tolist() == [5, 5]


def test_output_is_crystals(model, target):
    crystals = run(model, target, range(10), steps=10).check()
    assert set(crystals.numbers) <= {6, 14, 32}
    assert crystals.fractional.min() >= 0 and crystals.fractional.max() < 1


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({}, None, "There is no target"),
        ({}, "total", "does not say"),
        ({"n_atoms": 3}, "sites", "4 sites"),
        ({"n_atoms": []}, "total", "at least 1"),
        ({"n_atoms": [2, 0]}, None, "at least 1"),
    ],
)
def test_unknown_sizes_are_one_clear_line(target, parameters, kind, message):
    asked = {None: None, "sites": target, "total": DosTarget(target.total, "total")}[kind]
    with pytest.raises(ContentError, match=message) as error:
        sizes(SampleParameters(**parameters), asked, range(3))
    assert "\n" not in str(error.value)


def test_batches_hold_equal_sizes_and_everything_once():
    n_atoms = [2, 8, 2, 2, 8, 1, 2]
    divided = batches(range(10, 17), n_atoms, 3, torch.device("cpu"))
    assert sorted(i for _, members in divided for i in members) == list(range(10, 17))
    assert all(n_atoms[i - 10] == n for n, members in divided for i in members)
    assert all(len(members) <= 3 for _, members in divided)
    assert [n for n, _ in divided] == [1, 2, 2, 8]


def test_targets_on_another_grid_are_resampled(model, target):
    fine = EnergyGrid(-12.0, 5.0, 1701)
    curve = np.exp(-((fine.points + 1) ** 2))
    condition = condition_on(DosTarget(curve[None], "total", 2, math.inf, fine), model, 3, 2)
    expected = np.where(GRID.points <= 5, np.exp(-((GRID.points + 1) ** 2)), 0)
    np.testing.assert_allclose(condition.total[1].numpy(), expected, atol=1e-4)
    assert (condition.complete_below == 5.0).all()  # zero beyond is ignorance, not absence of states
    assert condition.total_given.all() and not condition.site_given.any()


class Oracle:
    """Exact predictions for one crystal, up to the translation that no denoiser knows."""

    def __init__(self, model, types, fractional, lattice):
        self.model, self.types, self.fractional, self.lattice = model, types, fractional, lattice

    def __call__(self, state, t):
        one_hot = torch.nn.functional.one_hot(self.types, 3).double()
        origin = state.fractional[:, :1] - self.fractional[:1]
        sigma = self.model.coordinates.sigma(t)[:, None, None]
        score = self.model.coordinates.score(state.fractional - self.fractional - origin, sigma.expand(state.fractional.shape))
        a, s = (c[:, None] for c in self.model.types.coefficients(t))
        return Output(
            60 * one_hot.expand(len(t), -1, -1),
            score / self.model.coordinates.score_scale(t)[:, None, None],
            (a * state.lattice - self.lattice) / s,
        )


@pytest.mark.parametrize(
    "options", [{"sampler": "ode"}, {"sampler": "ancestral", "corrector_steps": 1}], ids=["ode", "ancestral"]
)
def test_solvers_find_a_known_crystal(model, options):
    types = torch.tensor([0, 2, 1])
    fractional = torch.tensor([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.1, 0.9, 0.45]], dtype=torch.float64)
    lattice = torch.tensor([0.3, -0.5, 0.2, 0.9, -1.2, 0.1], dtype=torch.float64)
    noise = module._Noise([module.generator_of(0, i) for i in range(8)], 3, 3, torch.float64, torch.device("cpu"))
    state = solve(model, Oracle(model, types, fractional, lattice), noise, steps=60, **options)
    assert (state.types.argmax(-1) == types).all()
    torch.testing.assert_close(state.types.amax(-1), torch.full((8, 3), TYPE_SCALE).double())
    torch.testing.assert_close(state.lattice, lattice.expand(8, -1), rtol=0, atol=1e-8)
    relative = (state.fractional - state.fractional[:, :1]) - (fractional - fractional[:1])
    assert (relative - relative.round()).abs().max() < (1e-8 if options["sampler"] == "ode" else 0.03)
