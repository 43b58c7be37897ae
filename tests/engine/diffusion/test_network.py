"""The backbone's symmetries, to the last digits in double precision."""

import math

import pytest
import torch

from aiida_dosmatgen.engine.diffusion.network import LATTICE_FEATURES, CrystalNetwork, PairGeometry, lattice_features

B, N, NODE = 3, 5, 7


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = CrystalNetwork(NODE, width=24, layers=3, frequencies=3).double()
    for parameter in model.parameters():  # the layers start as identities, which would hide errors
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def crystals():
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "nodes": normal(B, N, NODE),
        "fractional": torch.rand(B, N, 3, generator=generator, dtype=torch.float64),
        "lattices": 4 * torch.eye(3, dtype=torch.float64) + 0.5 * normal(B, 3, 3),
        "mask": torch.ones(B, N, dtype=torch.bool),
        "context": normal(B, 24),
    }


def rotations(seed):
    q, _ = torch.linalg.qr(torch.randn(B, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return q


def test_invariant_to_rotation_and_reflection(network, crystals):
    expected = network(**crystals)
    assert expected.abs().mean() > 0.1
    rotated = network(**{**crystals, "lattices": crystals["lattices"] @ rotations(2)})
    torch.testing.assert_close(rotated, expected, rtol=0, atol=1e-9)


def test_invariant_to_translation_and_integer_shifts(network, crystals):
    expected = network(**crystals)
    moved = crystals["fractional"] + torch.tensor([0.31, -0.77, 5.2], dtype=torch.float64)
    torch.testing.assert_close(network(**{**crystals, "fractional": moved}), expected, rtol=0, atol=1e-8)
    integers = torch.randint(-3, 4, (B, N, 3), generator=torch.Generator().manual_seed(3))
    moved = crystals["fractional"] + integers
    torch.testing.assert_close(network(**{**crystals, "fractional": moved}), expected, rtol=0, atol=1e-8)


def test_equivariant_to_permutation(network, crystals):
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = {**crystals, "nodes": crystals["nodes"][:, order], "fractional": crystals["fractional"][:, order]}
    torch.testing.assert_close(network(**permuted), network(**crystals)[:, order], rtol=0, atol=1e-9)


def test_padding_changes_nothing(network, crystals):
    expected = network(**crystals)
    wide = {
        **crystals,
        "nodes": torch.cat([crystals["nodes"], torch.randn(B, 2, NODE, dtype=torch.float64)], 1),
        "fractional": torch.cat([crystals["fractional"], torch.rand(B, 2, 3, dtype=torch.float64)], 1),
        "mask": torch.cat([crystals["mask"], torch.zeros(B, 2, dtype=torch.bool)], 1),
    }
    padded = network(**wide)
    torch.testing.assert_close(padded[:, :N], expected, rtol=0, atol=1e-9)
    assert (padded[:, N:] == 0).all()


@pytest.mark.parametrize("changed", ["fractional", "lattices", "context", "nodes"])
def test_everything_matters(network, crystals, changed):
    value = crystals[changed].clone()
    value[0, 0] += 0.07
    difference = (network(**{**crystals, changed: value}) - network(**crystals)).abs()
    assert difference[0].max() > 1e-4
    assert difference[1:].max() == 0


def test_gradients_are_those_of_finite_differences(network, crystals):
    def energy(fractional, lattices):
        return network(**{**crystals, "fractional": fractional, "lattices": lattices}).square().sum()

    fractional, lattices = crystals["fractional"].requires_grad_(), crystals["lattices"].requires_grad_()
    gradients = torch.autograd.grad(energy(fractional, lattices), (fractional, lattices))
    for which, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        values = []
        for step in (1e-5, -1e-5):
            inputs = [fractional.detach(), lattices.detach()]
            inputs[which] = inputs[which] + step * direction
            values.append(energy(*inputs).item())
        numerical = (values[0] - values[1]) / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(numerical, rel=1e-5)


def test_gradients_are_finite_for_perfect_crystals_and_coinciding_atoms(network):
    fractional = torch.tensor([[[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]], dtype=torch.float64, requires_grad=True)
    lattices = (4 * torch.eye(3, dtype=torch.float64))[None].requires_grad_()
    out = network(torch.zeros(1, 3, NODE, dtype=torch.float64), fractional, lattices, torch.ones(1, 3, dtype=torch.bool))
    for gradient in torch.autograd.grad(out.square().sum(), (fractional, lattices)):
        assert torch.isfinite(gradient).all()


def test_geometry_is_continuous_where_the_nearest_image_changes():
    geometry = PairGeometry(frequencies=2).double()
    lattice = torch.tensor([[[2.5, 0, 0], [0.4, 2.6, 0], [0.1, -0.3, 2.4]]], dtype=torch.float64)
    mask = torch.ones(1, 2, dtype=torch.bool)

    def at(x):
        pair = geometry(torch.tensor([[[0, 0, 0], [x, 0.2, 0.5 - x / 3]]], dtype=torch.float64), lattice, mask)
        return torch.cat([pair.scalars[0, 0, 1], pair.vectors[0, 0, 1].flatten()])

    torch.testing.assert_close(at(0.5 + 1e-9), at(0.5 - 1e-9), rtol=0, atol=1e-6)
    slopes = [(at(0.5 + sign * 2e-6) - at(0.5 + sign * 1e-6)) * sign / 1e-6 for sign in (1, -1)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-3)


def test_pair_vectors_are_odd():
    geometry = PairGeometry(frequencies=2).double()
    fractional = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    vectors = geometry(fractional, 3 * torch.eye(3, dtype=torch.float64)[None], torch.ones(1, 4, dtype=torch.bool)).vectors
    torch.testing.assert_close(vectors, -vectors.transpose(1, 2), rtol=0, atol=1e-12)


def test_radial_sum_counts_neighbours():
    """In a simple cubic cell of 3 Å an atom has six images of itself at 3 Å, and 12 at 3√2 Å."""
    geometry = PairGeometry(frequencies=1, cutoff=6.0, radial=111).double()  # centres each 0.05 Å: hardly any overlap
    pair = geometry(torch.zeros(1, 1, 3).double(), 3 * torch.eye(3).double()[None], torch.ones(1, 1, dtype=torch.bool))
    radial = torch.expm1(pair.scalars[0, 0, 0, 2 * len(geometry.waves) : -1])
    for distance, count in ((3.0, 6), (3 * math.sqrt(2), 12)):
        nearest = (geometry.centres - distance).abs().argmin()
        shape = torch.exp(-0.5 * ((geometry.centres[nearest] - distance) / geometry.spacing) ** 2)
        assert radial[nearest].item() == pytest.approx(count * shape.item(), rel=1e-3)


def test_lattice_features_do_not_depend_on_units_of_orientation():
    lattices = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * 3
    counts = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    features = lattice_features(lattices, counts)
    assert features.shape == (4, LATTICE_FEATURES)
    larger = lattice_features(2 * lattices, counts)
    difference = larger - features
    assert difference[:, :12].abs().max() < 1e-9  # shape alone
    torch.testing.assert_close(difference[:, 12], torch.full((4,), math.log(2), dtype=torch.float64))
