"""A fused model against the model that it was made from."""

import copy

import numpy as np
import pytest
import torch

from aiida_dosmatgen.engine.labelling.prototypes import generate
from aiida_dosmatgen.engine.relaxation.forcefields import MaceEvaluator
from aiida_dosmatgen.engine.relaxation.forcefields.fused_mace import (
    TILE,
    RadialTable,
    ScalarContraction,
    ScalarConvolution,
    SpeciesLinear,
    fuse,
)

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


def contraction(correlation: int, degree: int = 2):
    from mace.modules.irreps_tools import o3
    from mace.modules.symmetric_contraction import SymmetricContraction

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(correlation)
        irreps = (o3.Irreps.spherical_harmonics(degree) * 6).sort()[0].simplify()
        return SymmetricContraction(irreps, o3.Irreps("6x0e"), correlation, num_elements=4).contractions[0]
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_invariants_and_two_derivatives(correlation):
    """As a loss of forces takes them: of the densities, and of what is differentiated by the densities by the weights."""
    slow = contraction(correlation)
    quick = ScalarContraction.of(slow)
    assert quick is not None
    assert dict(quick.named_parameters()).keys() == dict(slow.named_parameters()).keys()
    elements = torch.nn.functional.one_hot(torch.tensor([0, 3, 1, 3, 0]), 4).double()
    found = []
    for module in (slow, quick):
        densities = torch.randn(5, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        value = module(densities, elements)
        (slope,) = torch.autograd.grad((value**2).sum(), densities, create_graph=True)
        weights = [w for w in module.parameters() if w.requires_grad]
        found.append([value, slope, *torch.autograd.grad((slope**2).sum(), weights, allow_unused=True)])
    assert found[0][1].abs().max() > 0.1
    for ours, theirs in zip(found[1], found[0], strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)


def test_densities_of_higher_degree_are_left_to_mace():
    assert ScalarContraction.of(contraction(2, degree=3)) is None


def test_a_matrix_for_each_element():
    from e3nn import o3

    product = o3.FullyConnectedTensorProduct("6x0e", "5x0e", "4x0e")
    linear = SpeciesLinear.of(product)
    assert linear is not None and [name for name, _ in linear.named_parameters()] == ["weight"]
    scalars, elements = torch.randn(7, 6), torch.nn.functional.one_hot(torch.tensor([4, 0, 0, 2, 4, 1, 0]), 5).float()
    expected = product(scalars, elements)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(linear(scalars, elements), expected)
    assert SpeciesLinear.of(o3.FullyConnectedTensorProduct("6x0e + 2x1o", "5x0e", "4x0e + 1x1o")) is None


@pytest.mark.parametrize("blocks", ["RealAgnostic", "RealAgnosticDensity"])
def test_models_as_large_as_foundation_models_go_through_the_batched_relaxer(tmp_path, blocks):
    """Vectors in the messages, distances scaled by radii of the elements, two heads: as mace's calculator, one by one."""
    from mace import modules
    from mace.calculators import MACECalculator
    from mace.modules.irreps_tools import o3

    from aiida_dosmatgen.core.job import ForceField, RelaxParameters, sha256_of
    from aiida_dosmatgen.engine.relaxation import gather, relax
    from aiida_dosmatgen.engine.relaxation.forcefields import load

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        foundation = modules.ScaleShiftMACE(
            r_max=4.5, num_bessel=6, num_polynomial_cutoff=5, max_ell=2,
            interaction_cls=modules.interaction_classes[f"{blocks}ResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes[f"{blocks}InteractionBlock"],
            num_interactions=2, num_elements=2, hidden_irreps=o3.Irreps("4x0e + 4x1o"), MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu, atomic_energies=np.array([[-3.0, -5.0], [-30.0, -50.0]]), avg_num_neighbors=9.0,
            atomic_numbers=[6, 14], correlation=3, radial_type="bessel", pair_repulsion=True, distance_transform="Agnesi",
            atomic_inter_scale=[1.0, 1.5], atomic_inter_shift=[0.0, 0.1], heads=["pt_head", "other"],
        )  # fmt: skip
    finally:
        torch.set_default_dtype(before)
    path = tmp_path / "foundation.model"
    torch.save(foundation, path)
    field = ForceField(file=path.name, sha256=sha256_of(path), arguments={"head": "other"})
    evaluator = load(field, tmp_path, dtype=torch.float64)
    crystals = generate(["Si", "C"], 14, 0)[8:].replace(crystal_columns={})
    found = evaluator.evaluate(crystals)
    calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64", head="other")
    for i, atoms in enumerate(crystals.to_ase()):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(found.energies[i], abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), found.forces[crystals.crystal_of_atom == i], atol=1e-6)
    relaxed = gather(crystals, list(relax(crystals, evaluator, RelaxParameters(max_steps=5))))
    assert (relaxed.crystal_columns["energy"] <= relaxed.crystal_columns["start_energy"] + 1e-6).all()
