"""The sampler: what a candidate depends on, how many atoms it has, and what happens when memory does not suffice."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.diffusion.candidates import batches, condition_on, size_probabilities, sizes
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.sampler import Sampler, sample
from aiida_dosmatgen.engine.diffusion.solver import generator_of

GRID = EnergyGrid(-10.0, 10.0, 400)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(["C", "Si", "Ge"], GRID, width=24, layers=2, frequencies=3, max_atoms=6).eval()
    for parameter in model.parameters():  # far from identity: errors of rounding must not grow through a rough network either
        torch.nn.init.normal_(parameter, std=0.12)
    model.sizes.frequencies.copy_(torch.log(torch.tensor([0.1, 0.3, 0.1, 0.25, 0.05, 0.2])))
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
    assert np.abs(cartesian).max() <= tolerance


OPTIONS = [
    {"sampler": "ode", "steps": 20, "guidance_scale": 1.0},
    {"sampler": "ancestral", "steps": 12, "guidance_scale": 0.5, "corrector_steps": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["sampler"])
def test_batch_size_and_range_do_not_matter(model, target, options):
    whole = run(model, target, range(0, 40), batch_size=32, **options)
    one_by_one = run(model, target, range(0, 8), batch_size=1, **options)
    part = run(model, target, range(28, 36), **options)
    assert whole.crystal_columns["candidate"].tolist() == list(range(40))
    assert (whole.crystal_columns["seed"] == 7).all()
    assert_same(whole[:8], one_by_one)
    assert_same(whole[28:36], part)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["sampler"])
def test_a_second_run_gives_the_same_bits(model, target, options):
    first, second = (run(model, target, range(12), batch_size=5, **options) for _ in range(2))
    assert first.n_atoms.tolist() == second.n_atoms.tolist()
    for name in ("numbers", "fractional", "lattices"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def test_atoms_on_each_other_are_drawn_again(model, target):
    """Most candidates of an untrained network have contacts below 1.0: each attempt is one more chance; the best is kept."""
    once, thrice = (run(model, target, range(32), steps=5, min_contact=1.0, attempts=n) for n in (1, 3))
    contacts, attempt = closest_contacts(thrice), thrice.crystal_columns["attempt"]
    assert (once.crystal_columns["attempt"] == 0).all()
    assert set(attempt.tolist()) == {0, 1, 2}
    same = attempt == 0
    assert_same(thrice[np.flatnonzero(same)], once[np.flatnonzero(same)])
    assert (contacts[~same] > closest_contacts(once)[~same]).all()
    assert (closest_contacts(once)[~same] < 1.0).all()
    # not the whole batch decides, but the candidate
    alone = run(model, target, np.flatnonzero(attempt == 2)[:2].tolist(), steps=5, min_contact=1.0, batch_size=1)
    assert_same(alone, thrice[np.flatnonzero(attempt == 2)[:2]])
    assert_same(run(model, target, range(32), steps=5, min_contact=0.0), once)


def test_candidates_and_seeds_differ(model, target):
    crystals = run(model, target, range(4), steps=5)
    assert len({tuple(c.fractional.ravel().round(6)) for c in crystals}) == 4
    other = run(model, target, range(4), steps=5, seed=8)
    assert np.abs(other.lattices - crystals.lattices).max() > 1e-3


def test_neighbouring_seeds_share_no_candidates(model):
    draws = {(s, i): torch.rand(1, generator=generator_of(s, i)).item() for s in range(5) for i in range(5)}
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
        ({"n_atoms": 3}, "sites", "4 sites"),
        ({"n_atoms": []}, "total", "empty"),
        ({"n_atoms": [2, 0]}, None, "at least 1"),
        ({"n_atoms": {"max": 99}}, None, "up to 6 atoms"),
        ({"n_atoms": {"min": 5, "max": 6}}, "sites", "from 5 to 6"),
        ({"n_atoms": 3}, "chosen", "site 4"),
        ({"n_atoms": 3, "constraints": {"composition": {"C": 2, "Si": 2}}}, None, "composition"),
        ({"n_atoms": {"min": 4, "max": 5}, "constraints": {"formula": "Si2C"}}, None, "Si2C"),
    ],
)
def test_impossible_sizes_are_one_clear_line(model, target, parameters, kind, message):
    chosen = DosTarget(target.curves[:2], "sites", None, sites=(1, 4))
    asked = {None: None, "sites": target, "total": DosTarget(target.total, "total"), "chosen": chosen}[kind]
    with pytest.raises(ContentError, match=message) as error:
        sizes(model, asked, SampleParameters(**parameters), 0, range(3))
    assert "\n" not in str(error.value)


def test_what_the_checkpoint_has_not_seen_is_refused_unless_asked_for(model, target):
    total = DosTarget(target.total, "total")
    broad = dataclasses.replace(total, dos=dataclasses.replace(total.dos, sigma=0.5))
    for asked, wanted, message in (
        (total, 7, "up to 6 atoms, not of 7"),
        (broad, 4, r"broadened by 0.5 eV, more than the 0.3 eV"),
    ):
        with pytest.raises(ContentError, match=message) as error:
            run(model, asked, range(1), steps=2, n_atoms=wanted)
        assert "\n" not in str(error.value) and "parameters.unseen" in str(error.value)
        assert run(model, asked, range(1), steps=2, n_atoms=wanted, unseen=True).n_atoms.tolist() == [wanted]


def test_sizes_come_from_where_they_are_known(model, target):
    def of(kind, **parameters):
        return sizes(model, kind, SampleParameters(**parameters), 0, range(4))

    assert of(target) == [4] * 4
    assert of(None, n_atoms=[2, 3]) == [2, 3, 2, 3]
    assert of(None, constraints={"composition": {"C": 2, "Si": 1}}) == [3] * 4
    assert of(DosTarget(target.total, "total", 5)) == [5] * 4


def test_drawn_sizes_follow_the_distribution(model, target):
    """χ² of 4,000 drawn sizes against p(N | target) is below its 99.9 % quantile for 5 degrees of freedom, 20.5."""
    total = DosTarget(target.total, "total")
    probabilities = size_probabilities(model, total)
    assert probabilities.sum() == pytest.approx(1) and len(probabilities) == 6
    drawn = np.bincount(sizes(model, total, SampleParameters(), 3, range(4000)), minlength=7)[1:]
    assert ((drawn - 4000 * probabilities) ** 2 / (4000 * probabilities)).sum() < 20.5
    within = sizes(model, total, SampleParameters(n_atoms={"min": 2, "max": 3}), 3, range(4000))
    assert set(within) == {2, 3}
    share = probabilities[1] / probabilities[1:3].sum()
    assert np.mean(np.array(within) == 2) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_drawn_sizes_respect_the_formula_and_are_functions_of_the_candidate(model):
    parameters = SampleParameters(n_atoms={"min": 1, "max": 6}, constraints={"formula": "SiC"})
    drawn = sizes(model, None, parameters, 1, range(60))
    assert set(drawn) == {2, 4, 6}
    assert sizes(model, None, parameters, 1, [17, 5]) == [drawn[17], drawn[5]]


def test_a_drawn_candidate_is_the_one_of_that_size(model):
    drawn = run(model, None, range(6), steps=4)
    for i, crystal in enumerate(drawn):
        assert_same(crystal, run(model, None, [i], steps=4, n_atoms=int(crystal.n_atoms[0])))


def test_chosen_sites_are_conditioned_and_the_others_are_free(model, target):
    chosen = DosTarget(target.curves[:2], "sites", 4, 8.0, sites=(1, 3))
    condition = condition_on(chosen, model, 2, 4)
    assert condition.site_given.tolist() == [[False, True, False, True]] * 2
    np.testing.assert_array_equal(condition.site[1, [1, 3]].numpy(), target.curves[:2])
    crystals = [run(model, t, range(3), steps=6) for t in (chosen, target)]
    assert np.abs(crystals[0].lattices - crystals[1].lattices).max() > 1e-4


def test_out_of_memory_halves_the_batch_and_loses_nothing(model, target, monkeypatch, caplog):
    whole = run(model, target, range(11), steps=4)
    forward, largest = Denoiser.forward, 3

    def limited(self, state, *rest):  # what the allocator says when it has no more, from a batch above three crystals on
        if len(state.lattice) > largest:
            torch.empty(1 << 60)
        return forward(self, state, *rest)

    monkeypatch.setattr(Denoiser, "forward", limited)
    assert_same(whole, run(model, target, range(11), steps=4))
    assert "out of memory with 11 candidates of 4 atoms at a time; continuing with 6" in caplog.text
    assert "with 6 candidates of 4 atoms at a time; continuing with 3" in caplog.text
    largest = 0
    with pytest.raises(ContentError, match="one candidate of 4 atoms does not fit into memory"):
        run(model, target, range(2), steps=1)


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


def test_templates_that_nothing_uses_and_starts_without_one_are_refused(model, target):
    template = run(model, target, [0], steps=2)
    with pytest.raises(ContentError, match="nothing is taken from it"):
        list(sample(model, None, SampleParameters(), 0, range(2), template=template))
    with pytest.raises(ContentError, match="there is none"):
        list(sample(model, None, SampleParameters(start_time=0.5), 0, range(2)))


def test_a_start_from_a_template_stays_near_it_when_little_noised(model, target):
    template = run(model, target, range(2), steps=2)
    parameters = SampleParameters(start_time=0.01, steps=1)
    crystals = CrystalSet.concatenate(sample(model, None, parameters, 0, range(4), template=template))
    for i, crystal in enumerate(crystals):
        assert crystal.numbers.tolist() == template[i % 2].numbers.tolist()
        np.testing.assert_allclose(np.linalg.det(crystal.lattices), np.linalg.det(template[i % 2].lattices), rtol=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lower_precision_gives_nearly_the_same_first_steps(model, target, precision):
    reference = run(model, target, range(4), steps=2, guidance_scale=0.0)
    try:
        lower = CrystalSet.concatenate(
            sample(model.float(), target, SampleParameters(steps=2, guidance_scale=0.0, precision=precision), 7, range(4))
        )
    finally:
        model.double()
    volumes = [np.linalg.det(c.lattices) for c in (lower, reference)]
    np.testing.assert_allclose(*volumes, rtol=1e-3 if precision == "float32" else 0.3)


def test_a_sampler_forgets_nothing_in_lower_precision(model, target):
    sampler, asked = Sampler(model), {"steps": 2, "n_atoms": 4, "seed": 7}
    before = sampler(3, target, precision="float64", **asked)
    lower = sampler(3, target, precision="float32", **asked)
    assert np.abs(lower.lattices - before.lattices).max() > 0
    assert_same(before, sampler(3, target, precision="float64", **asked), tolerance=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
