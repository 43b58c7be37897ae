"""Mixed precision: features may be rounded, positions may not."""

import pytest
import torch

from aiida_dosmatgen.engine.diffusion.lattice import LatticeScaler, decode, encode
from aiida_dosmatgen.engine.diffusion.network import PairGeometry
from aiida_dosmatgen.engine.precision import full_precision
from aiida_dosmatgen.engine.prediction.environment import PairMoments

LATTICES = 5.0 * torch.eye(3).expand(2, 3, 3) + 0.3 * torch.arange(18.0).reshape(2, 3, 3).sin()
FRACTIONAL = torch.arange(24.0).reshape(2, 4, 3).sin().remainder(1)
MASK = torch.ones(2, 4, dtype=torch.bool)
COUNT = MASK.sum(-1)


def test_a_product_is_rounded_outside_of_it_only():
    def product(x):
        return x @ x

    x = torch.full((1, 1), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(x).dtype == torch.bfloat16
        assert full_precision(product)(x).dtype == torch.float32
        assert product(x).dtype == torch.bfloat16  # and back again
    assert full_precision(product)(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "compute",
    [
        lambda: PairMoments()(FRACTIONAL, LATTICES, MASK),
        lambda: torch.cat([x.flatten() for x in PairGeometry(4)(FRACTIONAL, LATTICES, MASK)]),
        lambda: encode(LATTICES, COUNT),
        lambda: decode(encode(LATTICES, COUNT), COUNT),
        lambda: LatticeScaler().lattices(torch.ones(2, 6), COUNT),
    ],
    ids=["moments", "geometry", "encode", "decode", "scaler"],
)
def test_geometry_keeps_its_precision(compute):
    expected = compute()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compute(), expected)
