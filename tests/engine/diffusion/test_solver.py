"""The solvers find data that are known."""

import math

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.engine.diffusion.denoiser import TYPE_SCALE, Denoiser, Output
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve


@pytest.fixture(scope="module")
def model():
    model = Denoiser(["C", "Si", "Ge"], EnergyGrid(-10.0, 10.0, 400), width=8, layers=1, frequencies=2)
    model.lattices.std.fill_(0.1)
    model.lattices.mean[0] = math.log(20) / 3
    return model.double().eval()


class Oracle:
    """Exact predictions for one crystal, up to the translation that no denoiser knows."""

    def __init__(self, model, types, fractional, lattice):
        self.model, self.types, self.fractional, self.lattice = model, types, fractional, lattice

    def __call__(self, state, t):
        one_hot = torch.nn.functional.one_hot(self.types, 3).double()
        origin = state.fractional[:, :1] - self.fractional[:1]
        sigma = self.model.coordinates.sigma(t)[:, None, None]
        score = self.model.coordinates.score(state.fractional - self.fractional - origin, sigma.expand(state.fractional.shape))
        a, s = (c[:, None] for c in self.model.types.coefficients(t))
        return Output(
            60 * one_hot.expand(len(t), -1, -1),
            score / self.model.coordinates.score_scale(t)[:, None, None],
            (a * state.lattice - self.lattice) / s,
        )


@pytest.mark.parametrize(
    "options", [{"sampler": "ode"}, {"sampler": "ancestral", "corrector_steps": 1}], ids=["ode", "ancestral"]
)
def test_solvers_find_a_known_crystal(model, options):
    types = torch.tensor([0, 2, 1])
    fractional = torch.tensor([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8], [0.1, 0.9, 0.45]], dtype=torch.float64)
    lattice = torch.tensor([0.3, -0.5, 0.2, 0.9, -1.2, 0.1], dtype=torch.float64)
    noise = Noise([generator_of(0, i) for i in range(8)], 3, 3, torch.float64, torch.device("cpu"))
    state = solve(model, Oracle(model, types, fractional, lattice), noise, steps=60, **options)
    assert (state.types.argmax(-1) == types).all()
    torch.testing.assert_close(state.types.amax(-1), torch.full((8, 3), TYPE_SCALE).double())
    torch.testing.assert_close(state.lattice, lattice.expand(8, -1), rtol=0, atol=1e-8)
    relative = (state.fractional - state.fractional[:, :1]) - (fractional - fractional[:1])
    assert (relative - relative.round()).abs().max() < (1e-8 if options["sampler"] == "ode" else 0.03)
