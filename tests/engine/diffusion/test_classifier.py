"""The classifier: symmetries, what counts of its targets, distances, and that it learns."""

import dataclasses
import math

import pytest
import torch
from torch_geometric.loader import DataLoader

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.batch import DenseBatch, to_dense
from aiida_dosmatgen.engine.diffusion.classifier import Classifier
from aiida_dosmatgen.engine.diffusion.condition import Condition, total_curve
from aiida_dosmatgen.engine.diffusion.denoiser import TYPE_SCALE, State
from aiida_dosmatgen.engine.training.classifier import ClassifierObjective
from aiida_dosmatgen.engine.training.dataset import LabelledDataset

from ..labelled import ELEMENTS, labelled

GRID = EnergyGrid(-5.0, 5.0, 21)
B, N, K = 5, 4, 3


def a_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[0, 2:] = False
    types = torch.randint(0, K, (B, N), generator=generator)
    return DenseBatch(
        types,
        torch.rand(B, N, 3, generator=generator),
        4 * torch.eye(3) + 0.5 * torch.randn(B, 3, 3, generator=generator),
        mask,
        torch.rand(B, N, GRID.n, generator=generator) + types[..., None],
        torch.tensor([4.0, 2.0, 2.0, math.inf, math.inf]),
    ).to(torch.float64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Classifier(["B", "N", "Si"], GRID, width=24, layers=2, frequencies=3).double().eval()
    model.fit_statistics([a_batch()])
    for parameter in model.parameters():  # the last layer starts at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def inputs(model):
    batch = a_batch()
    t = torch.linspace(0.0, 0.9, B, dtype=torch.float64)
    return model.noised(batch, t, torch.Generator().manual_seed(1)), t, batch.mask


def test_invariant_to_translations_and_choice_of_images(model, inputs):
    state, t, mask = inputs
    expected = model(*inputs)
    assert (expected - model(*inputs).mean((0, 1))).abs().max() > 0.1
    integers = torch.randint(-3, 4, state.fractional.shape, generator=torch.Generator().manual_seed(3))
    for move in (torch.tensor([0.3, -0.2, 0.9]).double(), integers):
        moved = model(state._replace(fractional=state.fractional + move), t, mask)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-8)


def test_equivariant_to_permutations(model, inputs):
    state, t, mask = inputs
    order = torch.tensor([2, 0, 3, 1])
    permuted = model(State(state.types[:, order], state.fractional[:, order], state.lattice), t, mask[:, order])
    present = mask[:, order][..., None]
    torch.testing.assert_close(permuted * present, model(*inputs)[:, order] * present, rtol=0, atol=1e-8)


def test_invariant_to_rotations(model):
    batch = a_batch()
    q, _ = torch.linalg.qr(torch.randn(B, 3, 3, generator=torch.Generator().manual_seed(5)).double())
    rotated = dataclasses.replace(batch, lattices=batch.lattices @ q)
    t = torch.full((B,), 0.4).double()
    curves = [model(model.noised(b, t, torch.Generator().manual_seed(6)), t, b.mask) for b in (batch, rotated)]
    torch.testing.assert_close(*curves, rtol=0, atol=1e-8)


def test_padding_changes_nothing(model, inputs):
    state, t, mask = inputs
    alone = model(State(state.types[:1, :2], state.fractional[:1, :2], state.lattice[:1]), t[:1], mask[:1, :2])
    torch.testing.assert_close(alone, model(*inputs)[:1, :2], rtol=0, atol=1e-9)


def test_untrained_clean_prediction_is_the_mean_curve_of_the_element():
    model = Classifier(["B", "N", "Si"], GRID, width=16, layers=1, frequencies=2).double().eval()
    batch = a_batch()
    model.fit_statistics([batch])
    t = torch.zeros(B, dtype=torch.float64)
    curves = model(model.noised(batch, t), t, batch.mask)
    points = torch.tensor(GRID.points)
    known = batch.mask[..., None] & (points <= batch.complete_below[:, None, None])
    for k in range(K):
        chosen = known & (batch.types == k)[..., None]
        mean = (batch.dos * chosen).sum((0, 1)) / chosen.sum((0, 1)).clamp_min(1)
        found = curves[(batch.types == k) & batch.mask]
        torch.testing.assert_close(found, mean.expand_as(found), rtol=0, atol=1e-6)


def test_probabilities_are_the_posterior_of_an_independent_atom(model):
    x = torch.randn(2, N, K, generator=torch.Generator().manual_seed(0)).double()
    t = torch.tensor([0.3, 0.8]).double()
    a, sigma = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
    centres = TYPE_SCALE * a[:, None, None, None] * torch.eye(K).double()
    log_likelihood = -(x[:, :, None] - centres).square().sum(-1) / (2 * sigma[:, None, None].square())
    torch.testing.assert_close(model.probabilities(x, t), torch.softmax(log_likelihood, -1))


def test_at_time_zero_there_is_no_noise(model):
    batch = a_batch()
    t = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.5]).double()
    state = model.noised(batch, t, torch.Generator().manual_seed(0))
    assert torch.equal(state.fractional[:2], batch.fractional[:2])
    assert torch.equal(state.types[3].argmax(-1), batch.types[3])
    assert (state.types[3].sum(-1) == TYPE_SCALE).all()
    assert not torch.isclose(state.fractional[2], batch.fractional[2]).any()


def test_what_is_not_complete_does_not_count(model):
    batch = a_batch()
    beyond = torch.tensor(GRID.points) > batch.complete_below[:, None, None]
    assert beyond.any()
    other = dataclasses.replace(batch, dos=torch.where(beyond, 1e3, batch.dos))
    first, second = (model.loss(b, torch.Generator().manual_seed(0)) for b in (batch, other))
    assert first == second
    refitted = Classifier(["B", "N", "Si"], GRID, width=8, layers=1, frequencies=2).double()
    buffers = []
    for b in (batch, other):
        refitted.fit_statistics([dataclasses.replace(b, mask=torch.ones_like(b.mask))])
        buffers.append([refitted.mean_curves.clone(), refitted.site_std.clone(), refitted.total_std.clone()])
    for a, b in zip(*buffers, strict=True):
        assert torch.equal(a, b)


def a_condition(batch, **changes):
    none = Condition.none(B, N, GRID.n, batch.dos)
    return dataclasses.replace(none, complete_below=batch.complete_below, **changes)


def test_distance_is_the_sum_of_norms_over_given_curves(model):
    batch = a_batch()
    curves = batch.dos + 0.3 * model.site_std
    given = torch.zeros(B, N, dtype=torch.bool)
    given[0, 1], given[3, :3] = True, True
    nan = torch.where(given[..., None], batch.dos, math.nan)  # nothing is asked of the others
    distance = model.distance(curves, a_condition(batch, site=nan, site_given=given), batch.mask)
    points = torch.tensor(GRID.points)
    for crystal, sites in ((0, 1), (3, 3), (4, 0)):
        length = (points <= batch.complete_below[crystal]).sum() * GRID.spacing
        assert distance[crystal].item() == pytest.approx(sites * 0.3 * math.sqrt(length), abs=1e-5)


def test_distance_to_a_total_curve_is_that_of_the_mean_over_atoms(model):
    batch = a_batch()
    total = total_curve(batch.dos, batch.mask)
    condition = a_condition(batch, total=total + 0.5 * model.total_std, total_given=torch.ones(B, dtype=torch.bool))
    distance = model.distance(batch.dos, condition, batch.mask)
    lengths = (torch.tensor(GRID.points) <= batch.complete_below[:, None]).sum(-1) * GRID.spacing
    torch.testing.assert_close(distance, 0.5 * lengths.double().sqrt(), rtol=0, atol=1e-5)


def test_distance_has_a_gradient_where_it_is_zero_and_where_nothing_is_asked(model):
    batch = a_batch()
    curves = batch.dos.clone().requires_grad_()
    site = torch.where(batch.mask[..., None], batch.dos, math.nan)
    model.distance(curves, a_condition(batch, site=site, site_given=batch.mask), batch.mask).sum().backward()
    assert torch.isfinite(curves.grad).all()


def test_half_precision_curves_are_compared_in_single_precision(model):
    batch = a_batch()
    condition = a_condition(batch, site=batch.dos + 1, site_given=batch.mask)
    distance = model.distance(batch.dos.bfloat16(), condition, batch.mask)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance.double(), model.distance(batch.dos, condition, batch.mask), rtol=0.01, atol=0)


def test_it_learns_more_than_the_elements_and_less_where_there_is_more_noise():
    crystals = labelled(60)
    training, held_out = (LabelledDataset(crystals[part], ELEMENTS) for part in (slice(0, 48), slice(48, 60)))
    torch.manual_seed(0)
    model = Classifier(ELEMENTS, width=32, layers=2, frequencies=3)
    model.fit_statistics(to_dense(b) for b in DataLoader(training, batch_size=64))
    objective = ClassifierObjective()
    batch = next(iter(DataLoader(training, batch_size=48)))
    before = objective.evaluate(model.eval(), DataLoader(held_out, batch_size=64))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    touched = set()
    for _ in range(60):
        loss = objective.loss(model, batch, generator)["loss"]
        optimiser.zero_grad()
        loss.backward()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimiser.step()
    assert touched == {name for name, _ in model.named_parameters()}
    after = objective.evaluate(model.eval(), DataLoader(held_out, batch_size=64))
    assert before["dos_mae_ratio"] == pytest.approx(1, abs=0.05)
    assert after["dos_mae_ratio"] < 0.8
    assert after["dos_mae_ratio"] < after["dos_mae_ratio_t0.6"]
    assert after == objective.evaluate(model, DataLoader(held_out, batch_size=64))
