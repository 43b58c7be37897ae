"""A fused model against the model that it was made from."""

import copy

import numpy as np
import pytest
import torch

from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.relaxation.forcefields import MaceEvaluator
from aiida_dosmatgen.engine.relaxation.forcefields.fused_mace import TILE, RadialTable, ScalarConvolution, fuse

from ..small_mace import save_small_mace


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> torch.nn.Module:
    path = save_small_mace(tmp_path_factory.mktemp("mace") / "small.model")
    return torch.load(path, weights_only=False).eval().requires_grad_(False)


@pytest.fixture
def fused(model) -> torch.nn.Module:
    return fuse(copy.deepcopy(model))


def test_radial_functions_and_their_slopes(model, fused):
    lengths = torch.rand(500, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5.5 + 0.3
    given, tabulated = lengths.clone().requires_grad_(), lengths.clone().requires_grad_()
    nothing = torch.zeros(0)
    for before, after in zip(model.interactions, fused.interactions, strict=True):
        assert isinstance(after.conv_tp_weights, RadialTable)
        expected = before.conv_tp_weights(model.radial_embedding(given, nothing, nothing, nothing)[0])
        found = after.conv_tp_weights(tabulated)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
        slopes = [torch.autograd.grad((w**2).sum(), r)[0] for w, r in ((expected, given), (found, tabulated))]
        assert slopes[0].abs().max() > 1e-3
        torch.testing.assert_close(slopes[1], slopes[0], atol=1e-6, rtol=0)
        assert (found[lengths[:, 0] >= 4.5] == 0).all()  # beyond the cutoff


def test_convolution_and_its_derivatives(fused, model):
    block = fused.interactions[1]
    assert isinstance(block.conv_tp, ScalarConvolution)
    generator = torch.Generator().manual_seed(0)
    receivers = torch.tensor([0, 0, 2, 3]).repeat_interleave(TILE)  # atom 1 has no edges
    edge_index = torch.stack([torch.randint(4, receivers.shape, generator=generator), receivers])
    product = model.interactions[1].conv_tp

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    inputs = [random(4, 8), random(len(receivers), 9), random(len(receivers), product.weight_numel)]
    messages = product(inputs[0][edge_index[0]], *inputs[1:])
    expected = torch.zeros(4, messages.shape[1], dtype=torch.float64).index_add(0, receivers, messages)
    found = block.conv_tp(*inputs, edge_index)
    torch.testing.assert_close(found, expected)
    direction = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad((found * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        strict=True,
    ):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs)


def test_a_model_of_another_kind_is_left_as_it_is(model, monkeypatch):
    """Foundation models with distances that depend on the elements, or with other interactions."""
    crystals = generate(["Si", "C"], 12, 0)
    expected = MaceEvaluator(copy.deepcopy(model), "fused").evaluate(crystals)
    other = copy.deepcopy(model)
    for block in other.interactions:
        block.__class__ = type("AnotherInteractionBlock", (type(block),), {})
    unfused = MaceEvaluator(other, "as it is")
    assert not any(isinstance(m, ScalarConvolution | RadialTable) for m in other.modules())
    for found, value in zip(unfused.evaluate(crystals), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-7)


def test_senders_that_are_vectors_are_left_to_e3nn():
    from e3nn import o3

    product = o3.FullyConnectedTensorProduct("4x0e + 4x1o", "1x0e + 1x1o", "4x0e", shared_weights=False)
    assert ScalarConvolution.of(product) is None
