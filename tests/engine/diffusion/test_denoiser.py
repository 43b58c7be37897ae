"""The denoiser: symmetries to 1e-8 in double precision, targets of the loss, and that it learns."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.batch import DenseBatch
from aiida_dosmatgen.engine.diffusion.augmentation import Dropout
from aiida_dosmatgen.engine.diffusion.condition import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import TYPE_SCALE, Denoiser, Encoded, State
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve
from aiida_dosmatgen.engine.niggli import niggli

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


def fields_of(batch):
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


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
    """The origin, and which periodic image of an atom is stored, change neither logits nor velocity nor any atom's score."""
    state, t, encoded, mask = inputs
    expected = model(*inputs)
    assert all(part.abs().mean() > 0.01 for part in expected)
    integers = torch.randint(-3, 4, state.fractional.shape, generator=torch.Generator().manual_seed(3))
    for move in (torch.tensor([0.3, -0.2, 0.9]).double(), integers):
        moved = model(state._replace(fractional=state.fractional + move), t, encoded, mask)
        for a, b in zip(moved, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_equivariant_to_permutation(model, inputs):
    """Atoms in another order, their conditions with them: logits and scores in that order, the same velocity."""
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


def turns(n, sign):
    """n random rotations (sign 1) or rotoreflections (−1)."""
    q, _ = torch.linalg.qr(torch.randn(n, 3, 3, generator=torch.Generator().manual_seed(5)).double())
    return q * (sign * torch.linalg.det(q))[:, None, None]


@pytest.mark.parametrize("sign", [1, -1])
def test_invariant_to_rotations_and_reflections(model, sign):
    """A turned lattice gives the same noised crystal, targets, predictions and loss: all are in the frame of the lattice."""
    batch = a_batch().to(torch.float64)
    turned = dataclasses.replace(batch, lattices=batch.lattices @ turns(len(batch), sign))
    assert (turned.lattices - batch.lattices).abs().max() > 1
    t = torch.linspace(0.1, 0.9, len(batch), dtype=torch.float64)
    encoded = model.encode(Dropout(0, 0.3, 0.2)(batch, torch.Generator().manual_seed(2)), batch.mask)
    results = []
    for crystals in (batch, turned):
        state, target = model.noised(crystals, t, torch.Generator().manual_seed(1))
        results.append([*state, *target, *model(state, t, encoded, batch.mask)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
    losses = [model.loss(b, torch.Generator().manual_seed(6))[0].item() for b in (batch, turned)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-8)


def test_the_choice_of_the_cell_is_taken_out_by_reduction(model):
    """One crystal in two bases of its lattice, L and M·L with det M = 1, gives the same predictions once both are reduced.

    The network itself knows the basis; crystals are trained on in their Niggli cells.
    """
    generator = np.random.default_rng(2)
    lattices = np.array([[[3.1, 0, 0], [0.4, 3.7, 0], [-0.5, 0.3, 4.4]], [[2.9, 0.1, 0], [1.1, 4.0, 0.2], [0.8, 1.3, 5.1]]])
    crystals = niggli(CrystalSet(np.array([3, 3]), np.array([5, 7, 14] * 2), generator.random((6, 3)), lattices))
    basis = np.array([[1, 2, 0], [0, 1, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 1, 0], [-1, 1, 1]])
    fractional = crystals.fractional @ np.linalg.inv(basis) + generator.integers(-2, 3, (6, 3))
    other = crystals.replace(lattices=basis @ crystals.lattices, fractional=fractional)
    t, mask = torch.tensor([0.2, 0.6], dtype=torch.float64), torch.ones(2, 3, dtype=torch.bool)
    n_atoms = mask.sum(-1)

    def predictions(some):
        types = torch.nn.functional.one_hot(torch.arange(3), 3).double().expand(2, -1, -1)
        lattice = model.lattices.standardise(torch.as_tensor(some.lattices), n_atoms)
        state = State(types, torch.as_tensor(some.fractional.reshape(2, 3, 3)), lattice)
        return model(state, t, model.encode(Condition.none(2, 3, GRID.n, lattice), mask), mask)

    expected, unreduced = predictions(crystals), predictions(other)
    for a, b, c in zip(predictions(niggli(other)), expected, unreduced, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
        assert (c - b).abs().max() > 1e-3


class Transformed(Noise):
    """The same noise with the atoms in another order, and the origin elsewhere."""

    ORDER = torch.tensor([2, 0, 3, 1])
    ORIGIN = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)

    def prior(self):
        types, fractional, lattice = super().prior()
        return State(types[:, self.ORDER], fractional[:, self.ORDER] + self.ORIGIN, lattice)

    def normal(self):
        types, fractional, lattice = super().normal()
        return State(types[:, self.ORDER], fractional[:, self.ORDER], lattice)

    def coordinates(self):
        return super().coordinates()[:, self.ORDER]


@pytest.mark.parametrize("sampler", ["ode", "ancestral"])
def test_whole_runs_are_equivariant(model, sampler):
    """Noise in another order and from another origin ends in the same crystal, in that order and with that origin."""
    mask = torch.ones(3, 4, dtype=torch.bool)
    encoded = model.encode(Condition.none(3, 4, GRID.n, torch.zeros(1).double()), mask)
    ends = [
        solve(
            model,
            lambda state, t: model(state, t, encoded, mask),
            kind([generator_of(0, i) for i in range(3)], 4, 3, torch.float64, torch.device("cpu")),
            steps=8,
            sampler=sampler,
        )
        for kind in (Noise, Transformed)
    ]
    torch.testing.assert_close(ends[1].types, ends[0].types[:, Transformed.ORDER], rtol=0, atol=1e-8)
    torch.testing.assert_close(ends[1].lattice, ends[0].lattice, rtol=0, atol=1e-8)
    difference = ends[1].fractional - ends[0].fractional[:, Transformed.ORDER] - Transformed.ORIGIN
    assert (difference - difference.round()).abs().max() < 1e-8


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


def test_noised_crystals_and_targets_belong_together(model):
    """Targets undo the noise: a·x − σ·v is the standardised lattice, and E[x] over the noise is a·2·e_k, f mod 1, a·x_0."""
    batch = a_batch(1, 3, seed=4).to(torch.float64)
    batch = dataclasses.replace(batch, mask=torch.ones_like(batch.mask))
    n, time = 20_000, 0.35
    many = DenseBatch(*(None if one is None else one.expand(n, *one.shape[1:]) for one in fields_of(batch)))
    t = torch.full((n,), time, dtype=torch.float64)
    state, target = model.noised(many, t, torch.Generator().manual_seed(1))
    a, sigma = math.cos(math.pi * time / 2), math.sin(math.pi * time / 2)
    clean = model.lattices.standardise(batch.lattices, batch.n_atoms)
    torch.testing.assert_close(a * state.lattice - sigma * target.velocity, clean.expand(n, -1), rtol=0, atol=1e-9)
    one_hot = torch.nn.functional.one_hot(batch.types, 3).double()
    for values, mean in ((state.types, 2 * a * one_hot), (state.lattice, a * clean)):
        assert (values.mean(0) - mean[0]).abs().max() < 5 * sigma / math.sqrt(n)
        assert (values.std(0) / sigma - 1).abs().max() < 5 / math.sqrt(2 * n)
    width = 0.005**0.65 * 0.5**0.35
    displacement = state.fractional - batch.fractional
    displacement = displacement - displacement.round()
    assert (displacement.std(0) / width - 1).abs().max() < 5 / math.sqrt(2 * n)
    score = -displacement / width  # a narrow kernel's over its root mean square, less the mean over the atoms
    assert (target.score - score + score.mean(1, keepdim=True)).abs().max() < 1e-3


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
    many = DenseBatch(*(None if one is None else torch.cat([one] * 8) for one in fields_of(batch)))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator, history, touched = torch.Generator().manual_seed(0), [], set()
    for _ in range(80):
        loss, _ = model.loss(many, generator)
        optimiser.zero_grad()
        loss.backward()
        touched |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimiser.step()
        history.append(loss.item())
    assert touched == {name for name, _ in model.named_parameters()}
    assert sum(history[-10:]) < 0.75 * sum(history[:10])
