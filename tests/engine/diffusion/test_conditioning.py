"""The projection of densities of states: what gets in, what must not, and how conditions are dropped."""

import dataclasses
import math

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.diffusion.augmentation import Dropout, stretched
from aiida_dosmatgen.engine.diffusion.condition import Condition, total_curve
from aiida_dosmatgen.engine.diffusion.conditioning import Conditioning, CurveProjection

GRID = EnergyGrid(-5.0, 5.0, 21)


def a_batch(n_crystals=4, n_atoms=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n_crystals, n_atoms, dtype=torch.bool)
    mask[0, 1:] = False
    return DenseBatch(
        torch.zeros(n_crystals, n_atoms, dtype=torch.long),
        torch.rand(n_crystals, n_atoms, 3, generator=generator),
        3 * torch.eye(3).expand(n_crystals, 3, 3),
        mask,
        2 * torch.rand(n_crystals, n_atoms, GRID.n, generator=generator),
        torch.full((n_crystals,), 4.0),
    )


@pytest.fixture
def conditioning():
    torch.manual_seed(0)
    module = Conditioning(GRID, 16).eval()
    module.fit([a_batch()])
    return module


def complete(batch):
    return Condition(
        batch.dos,
        batch.mask,
        total_curve(batch.dos, batch.mask),
        torch.ones(len(batch), dtype=torch.bool),
        batch.complete_below,
    )


def test_statistics_count_complete_points_only():
    projection = CurveProjection(GRID, 8).eval()
    curves = torch.arange(2.0)[:, None].expand(2, GRID.n) * 4
    projection.fit([(curves, torch.tensor([-5.0, -5.0]), torch.tensor([5.0, 0.0]))])
    below, above = GRID.points <= 0, GRID.points > 0
    assert torch.allclose(projection.mean[below], torch.tensor(2.0)) and torch.allclose(
        projection.std[below], torch.tensor(2.0)
    )
    assert torch.allclose(projection.mean[above], torch.tensor(0.0))
    assert (projection.std > 0).all()


def test_nothing_below_the_low_end_gets_in(conditioning):
    batch = dataclasses.replace(a_batch(), low=torch.full((4,), -2.0))
    condition = dataclasses.replace(complete(batch), low=batch.low)
    wrong = batch.dos.clone()
    wrong[..., GRID.points < -2.0] += 100
    others = dataclasses.replace(condition, site=wrong, total=total_curve(wrong, batch.mask))
    for a, b in zip(conditioning(condition, batch.mask), conditioning(others, batch.mask), strict=True):
        assert torch.equal(a, b)
    whole = conditioning(complete(a_batch()), batch.mask)
    assert not torch.equal(whole[0], conditioning(condition, batch.mask)[0])
    fitted = [Conditioning(GRID, 16) for _ in range(2)]
    for module, dos in zip(fitted, (batch.dos, wrong), strict=True):
        module.fit([dataclasses.replace(batch, dos=dos)])
    assert torch.equal(fitted[0].site.mean, fitted[1].site.mean) and torch.equal(fitted[0].total.std, fitted[1].total.std)


def test_low_ends_are_hidden_at_random_in_training():
    batch = a_batch(n_crystals=400)
    low = Dropout()(batch, torch.Generator().manual_seed(1)).low
    hidden = torch.isfinite(low)
    assert 0.15 < hidden.float().mean() < 0.35
    assert (low[hidden] <= -1).all() and (low[hidden] >= -10).all()
    given = dataclasses.replace(batch, low=torch.full((400,), -4.0))
    assert (Dropout()(given, torch.Generator().manual_seed(1)).low >= -4).all()


def test_nothing_beyond_the_complete_energies_gets_in(conditioning):
    batch = a_batch()
    condition = complete(batch)
    wrong = batch.dos.clone()
    wrong[..., GRID.points > 4.0] += 100
    others = dataclasses.replace(condition, site=wrong, total=total_curve(wrong, batch.mask))
    for a, b in zip(conditioning(condition, batch.mask), conditioning(others, batch.mask), strict=True):
        assert torch.equal(a, b)


def test_where_the_curve_ends_is_known(conditioning):
    batch = a_batch()
    mean = conditioning.site.mean.expand_as(batch.dos)  # standardised to zero everywhere: only the edge differs
    condition = dataclasses.replace(complete(batch), site=mean)
    shorter = dataclasses.replace(condition, complete_below=torch.full((4,), 1.0))
    assert not torch.allclose(conditioning(condition, batch.mask)[0], conditioning(shorter, batch.mask)[0])


def test_absent_conditions_give_the_null_whatever_the_curves(conditioning):
    batch = a_batch()
    dropped = complete(batch).dropped()
    nodes, context = conditioning(dropped, batch.mask)
    assert torch.equal(nodes, conditioning.site.null.expand_as(nodes))
    torch.testing.assert_close(context, (conditioning.total.null + conditioning.site.null).expand_as(context))
    nothing = conditioning(Condition.none(4, 3, GRID.n, batch.dos), batch.mask)
    torch.testing.assert_close(nothing[0], nodes)
    torch.testing.assert_close(nothing[1], context)
    assert dropped.empty and not complete(batch).empty


def test_one_site_alone(conditioning):
    batch = a_batch()
    given = torch.zeros_like(batch.mask)
    given[2, 1] = True
    nodes, _ = conditioning(dataclasses.replace(complete(batch), site_given=given), batch.mask)
    torch.testing.assert_close(nodes[2, 1], conditioning(complete(batch), batch.mask)[0][2, 1])
    assert torch.equal(nodes[2, 0], conditioning.site.null)


def test_embeddings_are_differentiable(conditioning):
    batch = a_batch()
    nodes, context = conditioning(complete(batch), batch.mask)
    (nodes.sum() + context.square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in conditioning.parameters() if p.grad is not None)


def test_total_curve_is_the_mean_over_atoms_not_padding():
    batch = a_batch()
    total = total_curve(batch.dos, batch.mask)
    torch.testing.assert_close(total[0], batch.dos[0, 0])
    torch.testing.assert_close(total[1], batch.dos[1].mean(0))


def test_dropout_has_the_probabilities_asked_for():
    batch = a_batch(4000, 4)
    condition = Dropout(0.15, 0.2, 0.3)(batch, torch.Generator().manual_seed(1))
    by_site = condition.site_given.any(-1)
    nothing = ~by_site & ~condition.total_given
    assert not (by_site & condition.total_given).any()
    assert condition.total_given.double().mean().item() == pytest.approx(0.85 * 0.3, abs=0.03)
    assert nothing.double().mean().item() == pytest.approx(0.15, abs=0.05)
    full = batch.mask.all(-1) & by_site
    assert condition.site_given[full].double().mean().item() == pytest.approx(0.8, abs=0.04)
    assert condition.site_given[full].all(-1).double().mean().item() > 0.5
    assert not condition.site_given[~batch.mask].any()
    assert (condition.complete_below <= batch.complete_below).all() and condition.complete_below.min() >= 1.0


@pytest.mark.parametrize("rates", [(1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
def test_dropout_at_the_extremes(rates):
    batch = a_batch(50)
    condition = Dropout(*rates)(batch)
    assert condition.total_given.all().item() == (rates[2] == 1)
    assert condition.empty == (rates[0] == 1 or rates[1] == 1)
    if sum(rates) == 0:
        assert torch.equal(condition.site_given, batch.mask)


def test_infinite_edges_are_fine(conditioning):
    batch = dataclasses.replace(a_batch(), complete_below=torch.full((4,), math.inf))
    condition = Dropout(0, 0, 0)(batch)
    assert torch.isfinite(conditioning(condition, batch.mask)[0]).all()


def test_stretching_keeps_the_states_and_moves_the_bands():
    grid = EnergyGrid(-10.0, 10.0, 801)
    energies = torch.tensor(grid.points)
    band = torch.exp(-0.5 * ((energies + 4) / 0.5).square())
    condition = Condition(
        band.expand(6, 2, -1), torch.ones(6, 2, dtype=torch.bool), band.expand(6, -1),
        torch.ones(6, dtype=torch.bool), torch.full((6,), 5.0, dtype=torch.float64),
    )  # fmt: skip
    out = stretched(condition, grid, torch.Generator().manual_seed(0), scale=0.1)
    factors = 5.0 / out.complete_below
    assert factors.std() > 0.02
    assert torch.allclose(out.site.sum(-1), band.sum().expand(6, 2), rtol=1e-3)
    assert torch.allclose(energies[out.total.argmax(-1)], -4 / factors, atol=grid.spacing)
    same = stretched(condition, grid, torch.Generator().manual_seed(0), scale=0.0)
    assert torch.allclose(same.site, condition.site)
