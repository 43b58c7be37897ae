"""The network for p(elements | curves), and the compositions that are proposed by it and held by the sampler."""

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.constraints.constraints import Constraints, resolve
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import DEFAULT_GRID, gaussian_dos
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.job.sample import Compositions
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.diffusion.augmentation import Dropout
from aiida_dosmatgen.engine.diffusion.candidates import condition_on
from aiida_dosmatgen.engine.diffusion.composition import CompositionNetwork
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.proposals import Proposal, _beam, chosen, electrons_of, propose
from aiida_dosmatgen.engine.diffusion.sampler import sample

ELEMENTS = ["Li", "C", "Si", "Ge"]
STRIDE = 3
CHANNELS = ("s", "p", "d", "f")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 1, "frequencies": 2, "max_atoms": 6, "stride": STRIDE, "composition": 24}
    model = Denoiser(ELEMENTS, DEFAULT_GRID, **sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.lattices.mean[0] = math.log(20) / 3
    return model.double().eval()


def curves(n_sites=3, seed=0, **about):
    rng = np.random.default_rng(seed)
    levels = rng.uniform(-9, -1, (n_sites, 4))
    values = np.array([[[gaussian_dos([x], [2.0])] for x in site] for site in levels])  # (sites, channels, 1, n)
    return Curves(values.transpose(0, 2, 1, 3), DEFAULT_GRID.points, 0.3, -10, 10, gap=1.0, channels=CHANNELS, **about)


def everything(count=20, **changes):
    return Compositions(count=count, **changes)


# --- the network ------------------------------------------------------------------------------------------------------------


def a_batch(n_crystals=64, seed=0):
    """The element decides the channel in which a site has its level; all sums over the channels are alike."""
    rng = np.random.default_rng(seed)
    types = torch.tensor(rng.integers(0, 4, (n_crystals, 3)))
    mask = torch.ones(n_crystals, 3, dtype=torch.bool)
    mask[::4, 2] = False
    level = torch.tensor(gaussian_dos([-3.0], [2.0]), dtype=torch.float32)
    channels = torch.nn.functional.one_hot(types, 4)[..., None] * level[::STRIDE]
    ends = torch.full((n_crystals,), 10.0)
    fractional, lattices = torch.zeros(n_crystals, 3, 3), torch.eye(3).expand(n_crystals, 3, 3)
    return DenseBatch(types, fractional, lattices, mask, level.expand(n_crystals, 3, -1), ends, -ends, channels)


def test_it_learns_the_element_from_the_channel_and_says_nothing_where_there_is_none():
    torch.manual_seed(0)
    batch, unseen = a_batch(), a_batch(seed=1)
    network = CompositionNetwork(ELEMENTS, DEFAULT_GRID, width=32, stride=STRIDE)
    network.fit([batch])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        loss = network.loss(Dropout(channels=0.5)(batch, generator), batch.types, batch.mask, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    shown, hidden = (Dropout(0.0, 0.0, 0.0, p)(unseen, generator) for p in (0.0, 1.0))
    right = unseen.types[unseen.mask]
    assert (network(shown, unseen.mask).argmax(-1)[unseen.mask] == right).double().mean() > 0.95
    without = torch.softmax(network(hidden, unseen.mask), -1)[unseen.mask]
    assert without.max() < 0.6


def test_the_order_of_the_sites_does_not_matter(model):
    condition = condition_on(DosTarget(curves()), model, 1, 3)
    order = torch.tensor([2, 0, 1])
    moved = dataclasses.replace(
        condition,
        **{name: getattr(condition, name)[:, order] for name in ("site", "site_given", "channels", "channels_given")},
    )
    mask = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(model.composition(condition, mask)[:, order], model.composition(moved, mask))


def test_padding_changes_nothing(model):
    network, mask = model.composition, torch.tensor([[True, True, False]])
    total = DosTarget(dataclasses.replace(curves().summed(sites=True)), "total")
    told = torch.tensor([[1, -1, 3]])
    padded = network(condition_on(total, model, 1, 3), mask, told)[:, :2]
    alone = network(condition_on(total, model, 1, 2), mask[:, :2], told[:, :2])
    torch.testing.assert_close(padded, alone)


# --- proposals --------------------------------------------------------------------------------------------------------------


def test_the_beam_has_the_probabilities_of_all_assignments(model):
    """Four elements at three sites: 64 assignments, fewer than the beam holds."""
    target = DosTarget(curves())
    sites, logs = _beam(model, target, 3, np.ones((3, 4), dtype=bool), None)
    assert len({tuple(row) for row in sites.tolist()}) == len(sites)
    logits = model.composition(condition_on(target, model, 1, 3), torch.ones(1, 3, dtype=torch.bool))
    own = torch.log_softmax(logits[0], -1).detach().numpy()
    for row, log in zip(sites, logs, strict=True):
        assert log == pytest.approx(own[np.arange(3), row].sum())
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-6)


def test_of_a_total_only_the_composition_counts(model):
    """Its sites are exchangeable: each composition once, with the probability of all its orders."""
    target = DosTarget(dataclasses.replace(curves().summed(sites=True)), "total")
    sites, logs = _beam(model, target, 3, np.ones((3, 4), dtype=bool), None)
    compositions = {tuple(sorted(row)): log for row, log in zip(sites.tolist(), logs, strict=True)}
    assert len(compositions) == len(sites) == len(list(itertools.combinations_with_replacement(range(4), 3)))
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-6)


def test_electrons_decide_between_elements(model):
    """Twelve electrons of three sites: four for each, or one of Li would leave too many for the others."""
    held = curves(3)
    scale = 12.0 / (held.total.sum() * held.spacing)
    target = DosTarget(dataclasses.replace(held, values=held.values * scale))
    assert electrons_of(target, 3) == pytest.approx((12.0, -10.0), abs=0.05)
    without, weighed = (propose(model, target, 3, everything(electrons=e)) for e in (False, True))
    lithium = [sum(p.probability for p in many if 0 in p.elements) for many in (without, weighed)]
    assert lithium[0] > 0.2
    assert lithium[1] < 0.1 * lithium[0]
    assert sum(p.probability for p in weighed) == pytest.approx(1.0)
    assert electrons_of(DosTarget(dataclasses.replace(held, meaning="projections")), 3) is None
    assert electrons_of(target.at([0, 1, 2], 5), 5) is None


def test_proposals_keep_to_what_is_held(model):
    target = DosTarget(curves(4))
    wanted = Constraints(composition={"C": 2, "Si": 1, "Ge": 1}, sites=[{"sites": [1], "element": "Ge"}])
    restricted = resolve(wanted, 4, ELEMENTS)
    (only,) = propose(model, target, 4, everything(), restricted)
    assert Counter(only.elements.tolist()) == {1: 2, 2: 1, 3: 1}
    assert only.elements[1] == 3
    free = resolve(Constraints(sites=[{"sites": "all", "forbidden": ["Li"]}]), 4, ELEMENTS)
    assert all(0 not in p.elements for p in propose(model, target, 4, everything(), free))


def test_candidates_share_the_compositions_by_their_probability():
    proposals = [Proposal(np.array([k]), p) for k, p in enumerate([0.5, 0.3, 0.2])]
    taken = [chosen(proposals, everything(), 3, i) for i in range(100)]
    counts = np.bincount(taken, minlength=3)
    assert np.abs(counts - [50, 30, 20]).max() <= 2
    assert taken[40:60] == [chosen(proposals, everything(), 3, i) for i in range(40, 60)]
    even = np.bincount([chosen(proposals, everything(temperature=1e6), 3, i) for i in range(99)], minlength=3)
    assert np.abs(even - 33).max() <= 2


# --- sampling ---------------------------------------------------------------------------------------------------------------


def run(model, target, candidates, **parameters):
    parts = sample(model, target, SampleParameters(steps=4, **parameters), 7, candidates)
    crystals = CrystalSet.concatenate(parts)
    return crystals[np.argsort(crystals.crystal_columns["candidate"])]


def test_candidates_have_the_composition_that_they_say(model):
    target = DosTarget(curves())
    crystals = run(model, target, range(12), compositions={"count": 5, "temperature": 3.0})
    proposals = propose(model, target, 3, everything(5))
    ranks = crystals.crystal_columns["proposal"]
    assert len(set(ranks.tolist())) > 2
    numbers = np.array([3, 6, 14, 32])
    for crystal, rank in zip(crystals, ranks, strict=True):
        assert crystal.numbers.tolist() == numbers[proposals[rank].elements].tolist()
    probabilities = np.array([p.probability for p in proposals])[ranks]
    np.testing.assert_allclose(crystals.crystal_columns["proposal_probability"], probabilities)
    alone = run(model, target, [8], compositions={"count": 5, "temperature": 3.0})
    assert alone.numbers.tolist() == crystals[8].numbers.tolist()
    np.testing.assert_allclose(alone.fractional, crystals[8].fractional, atol=1e-6)


def test_channels_change_what_is_sampled(model):
    with_channels, without = (run(model, DosTarget(c), range(2)) for c in (curves(), curves().summed()))
    assert "proposal" not in with_channels.crystal_columns
    assert np.abs(with_channels.lattices - without.lattices).max() > 1e-4


def test_a_checkpoint_without_the_network_refuses():
    plain = Denoiser(ELEMENTS, DEFAULT_GRID, width=16, layers=1, frequencies=2).double().eval()
    with pytest.raises(ContentError, match="proposes none"):
        run(plain, DosTarget(curves()), range(1), compositions={})
    with pytest.raises(ValueError, match="start_time"):
        SampleParameters(compositions={}, start_time=0.5)
