"""The denoiser: symmetries, targets of the loss, and that it learns."""

import dataclasses
import math

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.conditioning import Condition, Dropout
from aiida_dosmatgen.engine.denoiser import TYPE_SCALE, Denoiser, Encoded, State

GRID = EnergyGrid(-5.0, 5.0, 21)
ELEMENTS = ["B", "N", "Si"]


def a_batch(n_crystals=5, n_atoms=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(n_crystals, n_atoms, dtype=torch.bool)
    mask[0, 2:] = False
    types = torch.randint(0, 3, (n_crystals, n_atoms), generator=generator)
    dos = torch.rand(n_crystals, n_atoms, GRID.n, generator=generator) + types[..., None]
    return DenseBatch(
        types,
        torch.rand(n_crystals, n_atoms, 3, generator=generator),
        4 * torch.eye(3) + 0.5 * torch.randn(n_crystals, 3, 3, generator=generator),
        mask,
        dos,
        torch.full((n_crystals,), 4.0),
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, GRID, width=24, layers=2, frequencies=3).eval()
    model.fit_statistics([a_batch()])
    for parameter in model.parameters():  # heads start at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.2)
    return model.double()


@pytest.fixture
def inputs(model):
    batch = a_batch().to(torch.float64)
    t = torch.linspace(0.1, 0.9, len(batch), dtype=torch.float64)
    state, _ = model.noised(batch, t, torch.Generator().manual_seed(1))
    encoded = model.encode(Dropout(0, 0.3, 0.2)(batch, torch.Generator().manual_seed(2)), batch.mask)
    return state, t, encoded, batch.mask


def test_invariant_to_translations_and_integer_shifts(model, inputs):
    state, t, encoded, mask = inputs
    expected = model(*inputs)
    assert all(part.abs().mean() > 0.01 for part in expected)
    integers = torch.randint(-3, 4, state.fractional.shape, generator=torch.Generator().manual_seed(3))
    for move in (torch.tensor([0.3, -0.2, 0.9]).double(), integers):
        moved = model(state._replace(fractional=state.fractional + move), t, encoded, mask)
        for a, b in zip(moved, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_equivariant_to_permutation(model, inputs):
    state, t, encoded, mask = inputs
    order = torch.tensor([2, 0, 3, 1])
    expected = model(*inputs)
    permuted = model(
        State(state.types[:, order], state.fractional[:, order], state.lattice),
        t,
        Encoded(encoded.nodes[:, order], encoded.context),
        mask[:, order],
    )
    present = mask[:, order][..., None]
    torch.testing.assert_close(permuted.logits * present, expected.logits[:, order] * present, rtol=0, atol=1e-8)
    torch.testing.assert_close(permuted.score, expected.score[:, order], rtol=0, atol=1e-8)
    torch.testing.assert_close(permuted.velocity, expected.velocity, rtol=0, atol=1e-8)


def test_orientation_of_the_training_crystals_does_not_matter(model):
    batch = a_batch().to(torch.float64)
    q, _ = torch.linalg.qr(torch.randn(len(batch), 3, 3, generator=torch.Generator().manual_seed(5)).double())
    rotated = dataclasses.replace(batch, lattices=batch.lattices @ q)
    losses = [model.loss(b, torch.Generator().manual_seed(6))[0].item() for b in (batch, rotated)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-8)


def test_score_sums_to_zero_over_atoms_and_padding_has_none(model, inputs):
    score = model(*inputs).score
    torch.testing.assert_close(score.sum(1), torch.zeros(5, 3).double(), rtol=0, atol=1e-10)
    assert (score[~inputs[3]] == 0).all()


def test_padding_changes_nothing(model, inputs):
    state, t, encoded, mask = inputs
    alone = model(
        State(state.types[:1, :2], state.fractional[:1, :2], state.lattice[:1]),
        t[:1],
        Encoded(encoded.nodes[:1, :2], encoded.context[:1]),
        mask[:1, :2],
    )
    padded = model(*inputs)
    torch.testing.assert_close(alone.logits, padded.logits[:1, :2], rtol=0, atol=1e-9)
    torch.testing.assert_close(alone.score, padded.score[:1, :2], rtol=0, atol=1e-9)
    torch.testing.assert_close(alone.velocity, padded.velocity[:1], rtol=0, atol=1e-9)


def test_untrained_types_are_the_posterior_of_independent_atoms():
    """With zero heads: P(k | x) ∝ N(x; a·s·e_k, σ²)."""
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, GRID, width=16, layers=1, frequencies=2).double()
    batch = a_batch().to(torch.float64)
    t = torch.full((5,), 0.6, dtype=torch.float64)
    state, _ = model.noised(batch, t, torch.Generator().manual_seed(1))
    condition = Condition.none(5, 4, GRID.n, batch.dos)
    output = model(state, t, model.encode(condition, batch.mask), batch.mask)
    a, sigma = math.cos(0.3 * math.pi), math.sin(0.3 * math.pi)
    centres = a * TYPE_SCALE * torch.eye(3, dtype=torch.float64)
    log_likelihood = -(state.types[..., None, :] - centres).square().sum(-1) / (2 * sigma**2)
    torch.testing.assert_close(torch.softmax(output.logits, -1), torch.softmax(log_likelihood, -1))


def test_untrained_loss_is_that_of_knowing_nothing(model):
    """Zero heads: score and velocity 0 against targets of unit size, mean over the atoms taken out of the score."""
    torch.manual_seed(0)
    fresh = Denoiser(ELEMENTS, GRID, width=16, layers=1, frequencies=2)
    batch = a_batch(400, 4, seed=3)
    fresh.fit_statistics([batch])
    _, parts = fresh.loss(batch, torch.Generator().manual_seed(0))
    assert parts["lattice"].item() == pytest.approx(1, abs=0.1)
    assert parts["coordinates"].item() == pytest.approx(3 / 4, abs=0.05)


def test_loss_depends_on_the_generator_alone(model):
    batch = a_batch().to(torch.float64)
    first, again, other = (model.loss(batch, torch.Generator().manual_seed(s))[0].item() for s in (1, 1, 2))
    assert first == again != other


def test_loss_falls_and_reaches_all_parameters():
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, GRID, width=32, layers=2, frequencies=3)
    batch = a_batch(6)
    model.fit_statistics([batch])
    many = DenseBatch(*(torch.cat([getattr(batch, f.name)] * 8) for f in dataclasses.fields(batch)))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator, history, touched = torch.Generator().manual_seed(0), [], set()
    for _ in range(120):
        loss, _ = model.loss(many, generator)
        optimiser.zero_grad()
        loss.backward()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimiser.step()
        history.append(loss.item())
    assert touched == {name for name, _ in model.named_parameters()}
    assert sum(history[-10:]) < 0.75 * sum(history[:10])
