"""Constraints while sampling: what is held is exactly held, and held parts follow their own noised path."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.constraints.constraints import Constraints, resolve
from aiida_dosmatgen.core.contacts import closest_contacts
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.engine.diffusion.denoiser import TYPE_SCALE, Denoiser, Output, State
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.diffusion.solver import Noise, generator_of, solve
from aiida_dosmatgen.engine.diffusion.steering.constraints import Constrained
from aiida_dosmatgen.engine.niggli import niggli

ELEMENTS = ["C", "Si", "Ge"]
UNREDUCED = [[5.0, 0, 0], [4.0, 4.5, 0.3], [6.0, 0.2, 5.0]]
ROWS = [[0.1, 1.2, -0.3], [1 / 3, 0.5, 0.7]]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, width=24, layers=2, frequencies=3, max_atoms=6)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.12)
    model.lattices.std.fill_(0.1)
    model.lattices.mean[0] = math.log(20) / 3
    return model.double().eval()


@pytest.fixture(scope="module")
def template():
    """One crystal of four atoms, partly outside of a cell that is not reduced."""
    fractional = np.array([[1.2, -0.3, 0.1], [0.5, 0.5, 0.5], [0.25, 0.75, 0.3], [0.7, 0.1, 0.9]])
    return CrystalSet(np.array([4]), np.array([6, 14, 32, 14]), fractional, np.array([UNREDUCED]))


def run(model, candidates, template=None, **parameters):
    given = SampleParameters.model_validate({"n_atoms": 4, "steps": 4, **parameters})
    parts = sample(model, None, given, 7, candidates, template=template)
    crystals = CrystalSet.concatenate(parts)
    return crystals[np.argsort(crystals.crystal_columns["candidate"])]


def symbols(crystals):
    return np.array([SYMBOLS[z] for z in crystals.numbers]).reshape(len(crystals), -1)


def fractional(crystals):
    return crystals.fractional.reshape(len(crystals), -1, 3)


# --- what is held is exactly held, by every sampler and in every precision --------------------------------------------------

WAYS = [
    {"sampler": "ode", "precision": "float64"},
    {"sampler": "ancestral", "precision": "float64", "corrector_steps": 2},
    {"sampler": "ode", "precision": "float32"},
    {"sampler": "ancestral", "precision": "bfloat16"},
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way['sampler']}-{way['precision']}")
def way(request, model):
    """A function that samples three candidates in one of the ways."""
    asked = request.param
    network = model
    if asked["precision"] != "float64":
        network = Denoiser(ELEMENTS, width=24, layers=2, frequencies=3, max_atoms=6).eval()
        network.load_state_dict(model.state_dict())

    def go(constraints, template=None, **further):
        return run(network, range(3), template, constraints=constraints, **asked, **further)

    return go


def test_elements(way):
    sites = [{"sites": [0, 3], "element": "Ge"}, {"sites": "all", "forbidden": ["C"]}, {"sites": [1], "allowed": ["Si", "C"]}]
    found = symbols(way({"sites": sites}))
    assert (found[:, [0, 3]] == "Ge").all()
    assert (found[:, 1] == "Si").all()
    assert np.isin(found[:, 2], ["Si", "Ge"]).all()


@pytest.mark.parametrize(
    ("given", "counts"),
    [({"composition": {"C": 1, "Ge": 3}}, [1, 0, 3]), ({"formula": "SiGe"}, [0, 2, 2])],
    ids=["composition", "formula"],
)
def test_compositions(way, given, counts):
    found = symbols(way({**given, "sites": [{"sites": [2], "element": "Ge"}]}))
    assert all([(row == symbol).sum() for symbol in ELEMENTS] == counts for row in found)
    assert (found[:, 2] == "Ge").all()


def test_coordinates(way):
    crystals = way({"sites": [{"sites": [3, 1], "coordinates": ROWS}]})
    assert (fractional(crystals)[:, [3, 1]] == np.array(ROWS)).all()
    others = fractional(crystals)[:, [0, 2]]
    assert len(np.unique(others.round(7))) == others.size
    assert ((others >= 0) & (others < 1)).all()


def test_coordinates_in_a_given_cell(way):
    crystals = way({"sites": [{"sites": [3, 1], "coordinates": ROWS}], "lattice": {"matrix": UNREDUCED}})
    assert (fractional(crystals)[:, [3, 1]] == np.array(ROWS)).all()
    assert (crystals.lattices == np.array(UNREDUCED)).all()


def test_volumes(way):
    crystals = way({"lattice": {"volume": 77.3}})
    np.testing.assert_allclose(crystals.volumes, 77.3, rtol=1e-14)
    assert np.abs(crystals.lattices[0] - crystals.lattices[1]).max() > 0.01


def test_shapes(way):
    crystals = way({"lattice": {"shape": UNREDUCED}})
    factors = crystals.lattices[:, 0, 0] / UNREDUCED[0][0]
    np.testing.assert_allclose(crystals.lattices, factors[:, None, None] * np.array(UNREDUCED), rtol=1e-15)
    assert len(np.unique(factors.round(3))) == 3


def test_a_template_partly_held_and_partly_regrown(way, template):
    constraints = {
        "sites": [{"sites": [0, 2], "element": "template", "coordinates": "template"}, {"sites": [1, 3], "element": "C"}],
        "lattice": {"matrix": "template"},
        "formula": "C3Ge",
    }
    crystals = way(constraints, template)
    assert (symbols(crystals) == ["C", "C", "Ge", "C"]).all()
    assert (fractional(crystals)[:, [0, 2]] == template.fractional[[0, 2]]).all()
    assert (crystals.lattices == template.lattices[0]).all()
    assert len(np.unique(fractional(crystals)[:, [1, 3]].round(7))) == 18


def test_a_template_to_start_from_with_another_composition(way, template):
    constraints = {
        "sites": [{"sites": [1], "coordinates": "template"}],
        "lattice": {"volume": "template"},
        "composition": {"C": 2, "Ge": 2},
    }
    crystals = way(constraints, template, start_time=0.5)
    assert crystals.formulas == ["GeC"] * 3
    assert (fractional(crystals)[:, 1] == template.fractional[1]).all()
    np.testing.assert_allclose(crystals.volumes, template.volumes[0], rtol=1e-14)


def test_everything_held_is_the_template(way, template):
    sites = [{"sites": "all", "element": "template", "coordinates": "template"}]
    crystals = way({"sites": sites, "lattice": {"matrix": "template"}}, template, n_atoms=None)
    for crystal in crystals:
        assert crystal.replace(crystal_columns={}) == template


# --- candidates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ode", "ancestral"])
def test_a_candidate_does_not_depend_on_its_batch(model, template, sampler):
    other = template.replace(numbers=template.numbers[::-1], lattices=1.1 * template.lattices)
    templates = CrystalSet.concatenate([template, other, template])
    constraints = {
        "sites": [{"sites": [0], "element": "template"}, {"sites": [1], "coordinates": "template"}],
        "lattice": {"shape": "template"},
        "composition": {"C": 1, "Si": 2, "Ge": 1},
    }
    asked = {"constraints": constraints, "sampler": sampler, "start_time": 0.8}
    together = run(model, range(6), templates, **asked)
    assert len({tuple(row) for row in symbols(together)}) > 1
    for i in range(6):
        alone = run(model, [i], templates, **asked)
        assert alone.numbers.tolist() == together[i].numbers.tolist()
        np.testing.assert_allclose(alone.lattices, together[i].lattices, rtol=0, atol=1e-6)
        difference = alone.fractional - together[i].fractional
        np.testing.assert_allclose(difference, np.round(difference), rtol=0, atol=1e-6)


def test_contradictions_are_refused_before_anything_is_computed(model, template):
    def stop():
        raise AssertionError("a step was taken")

    given = SampleParameters.model_validate(
        {"n_atoms": [3, 4], "constraints": {"sites": [{"sites": [2], "element": "template"}, {"sites": [2], "element": "C"}]}}
    )
    three = template.replace(n_atoms=np.array([3]), numbers=np.array([6, 6, 6]), fractional=template.fractional[:3])
    with pytest.raises(ContentError, match=r"sites\[0\] fixes atom 2 to Ge as in the template, but sites\[1\] fixes"):
        list(sample(model, None, given, 1, range(2), template=CrystalSet.concatenate([three, template]), each_step=stop))


# --- on the way -------------------------------------------------------------------------------------------------------------


def constrained(model, n_crystals, template=None, n_atoms=4, start=False, power=1.0, **given):
    held = resolve(Constraints.model_validate(given), n_atoms, ELEMENTS, template, start=start)
    return Constrained(model, [held] * n_crystals, power)


def noise_of(n_crystals, n_atoms=4):
    return Noise([generator_of(1, i) for i in range(n_crystals)], n_atoms, 3, torch.float64, torch.device("cpu"))


def uninformed(seen):
    """A guidance that knows nothing, and writes down the states that it is asked about."""

    def guidance(state, t):
        seen.append((float(t[0]), state))
        return Output(torch.zeros_like(state.types), torch.zeros_like(state.fractional), torch.zeros_like(state.lattice))

    return guidance


def test_held_parts_follow_their_noised_marginals(model):
    """x_t = a·x_0 + σ·ε, and for coordinates x_0 + σ(1)·(σ/σ(1))²·ε, at each state that the network sees."""
    sites = [{"sites": [0, 3], "element": "Ge", "coordinates": ROWS}]
    held = constrained(model, 2, sites=sites, lattice={"matrix": np.diag([3.0, 4, 5]).tolist()}, power=2.0)
    seen = []
    prior = noise_of(2).prior()
    end = solve(model, uninformed(seen), noise_of(2), steps=7, constrained=held)
    types = TYPE_SCALE * torch.tensor([0.0, 0, 1])
    cell = model.lattices.standardise(torch.diag(torch.tensor([3.0, 4, 5])).double()[None], torch.tensor([4]))
    places = torch.tensor(ROWS, dtype=torch.float64)
    normal = math.sqrt(2) * torch.erfinv(2 * prior.fractional[:, [0, 3]] - 1)
    assert len(seen) == 7
    for t, state in [*seen, (0.0, end)]:
        a, sigma, width = math.cos(math.pi * t / 2), math.sin(math.pi * t / 2), 0.5 * 100 ** (2 * t - 2) if t else 0.0
        torch.testing.assert_close(state.types[:, [0, 3]], a * types + sigma * prior.types[:, [0, 3]])
        torch.testing.assert_close(state.lattice, a * cell + sigma * prior.lattice)
        torch.testing.assert_close(state.fractional[:, [0, 3]], places + width * normal)
    assert torch.equal(end.fractional[0, [0, 3]], places)


def test_the_noise_of_held_coordinates_is_normal(model):
    places = np.stack(np.meshgrid(*[np.arange(8) / 8] * 3), -1).reshape(-1, 3)
    held = constrained(model, 4, n_atoms=512, sites=[{"sites": "all", "coordinates": places.tolist()}])
    start = held.start(noise_of(4, 512).prior())
    noise = (start.fractional - torch.from_numpy(places)) / 0.5
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.04
    assert abs((noise**4).mean() - 3) < 0.4


@pytest.mark.parametrize("time", [1e-3, 0.4, 1.0])
def test_a_noised_template(model, template, time):
    """Of types, coordinates and lattice, in the reduced cell."""
    held = constrained(model, 2, template, start=True, lattice={"volume": 90.0}, sites=[{"sites": [1], "allowed": ["C", "Ge"]}])
    noise = noise_of(2).normal()
    state = held.noised_template(time, noise)
    reduced = niggli(template)
    cell = model.lattices.standardise(torch.from_numpy(reduced.lattices), torch.tensor([4]))
    cell[:, 0] = (math.log(90 / 4) / 3 - model.lattices.mean[0]) / model.lattices.std[0]
    types = torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)  # silicon is not allowed there
    a, sigma, width = math.cos(math.pi * time / 2), math.sin(math.pi * time / 2), 0.005 * 100**time
    torch.testing.assert_close(state.types, TYPE_SCALE * a * types + sigma * noise.types)
    torch.testing.assert_close(state.lattice, a * cell + sigma * noise.lattice)
    difference = state.fractional - torch.from_numpy(reduced.fractional) - width * noise.fractional
    torch.testing.assert_close(difference, difference.round(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("given", [{"matrix": UNREDUCED}, {"shape": UNREDUCED}], ids=["matrix", "shape"])
def test_the_network_sees_the_reduced_cell_and_the_user_the_own_one(model, template, given):
    """The crystal is the same on both sides: its closest contact, and its coordinates up to whole numbers."""
    held = constrained(model, 1, template, lattice=given, sites=[{"sites": [0], "coordinates": "template"}])
    generator = torch.Generator().manual_seed(3)
    types = TYPE_SCALE * torch.eye(3, dtype=torch.float64)[[0, 1, 2, 1]]
    places, cell = torch.rand(1, 4, 3, generator=generator).double(), torch.randn(1, 6, generator=generator).double()
    state = State(types[None], places, cell)
    state = held.state(state._replace(lattice=held.lattice(state.lattice)), 0.0)
    inside = model.lattices.lattices(state.lattice, torch.tensor([4]))[0]
    lengths = inside.square().sum(-1).sqrt()
    expected = niggli(template).lattices[0]
    ratio = (torch.linalg.det(inside) / np.linalg.det(expected)) ** (1 / 3)
    np.testing.assert_allclose(lengths / ratio, np.sqrt((expected**2).sum(-1)), rtol=1e-9)
    _, places, cells = held.finish(state)
    numbers = np.array([6, 14, 32, 14])
    internal = CrystalSet(np.array([4]), numbers, state.fractional[0].numpy(), inside[None].numpy())
    external = CrystalSet(np.array([4]), numbers, places[0], cells)
    np.testing.assert_allclose(closest_contacts(internal), closest_contacts(external), rtol=1e-9)
    np.testing.assert_allclose(internal.volumes, external.volumes, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_probabilities_of_elements(model, dtype):
    held = constrained(model, 2, sites=[{"sites": [0], "element": "Ge"}], composition={"Si": 2, "Ge": 2})
    logits = 5 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = logits.clone()
    p = torch.softmax(held.logits(logits), -1)
    assert torch.equal(logits, before)
    assert (p[:, 0] == torch.tensor([0, 0, 1])).all()
    assert (p[..., 0] == 0).all()
    torch.testing.assert_close(p.sum(1).double(), torch.tensor([[0.0, 2, 2]] * 2).double(), rtol=0, atol=1e-5)
    free = constrained(model, 2, sites=[{"sites": [0], "forbidden": ["C"]}])
    torch.testing.assert_close(free.logits(logits)[:, 1:], logits[:, 1:].to(free.logits(logits).dtype))


def test_the_likeliest_assignment_is_chosen(model):
    """Atom by atom, both would be silicon; together they cannot, and the one that loses less gives way."""
    held = constrained(model, 1, n_atoms=2, composition={"Si": 1, "Ge": 1})
    types = torch.tensor([[[0.0, 1.8, 0.2], [0.0, 1.2, 0.8]]], dtype=torch.float64)
    found, _, _ = held.finish(State(types, torch.zeros(1, 2, 3), torch.zeros(1, 6)))
    assert found.tolist() == [[1, 2]]


def test_what_is_held_is_held_of_a_state_that_is_not_a_number(model, template):
    sites = [{"sites": "all", "element": "template", "coordinates": "template"}]
    held = constrained(model, 1, template, lattice={"matrix": "template"}, sites=sites)
    broken = State(*(torch.full(shape, torch.nan, dtype=torch.float64) for shape in [(1, 4, 3), (1, 4, 3), (1, 6)]))
    found, places, cells = held.finish(broken)
    assert found.tolist() == [[0, 1, 2, 1]]
    assert np.array_equal(places[0], template.fractional)
    assert np.array_equal(cells, template.lattices)


# --- regrowing, where the answer is known -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "steps", "power", "tolerance"), [("ode", 30, 2.0, 0.01), ("ancestral", 200, 1.0, 0.02)])
def test_a_regrown_atom_finds_its_place_beside_the_held_one(model, sampler, steps, power, tolerance):
    """Data: two atoms at a fixed displacement d, anywhere. The difference of their noised coordinates is wrapped normal
    around d with the variance s² + 2σ²."""
    d, s = torch.tensor([0.4, 0.15, 0.7], dtype=torch.float64), 0.005
    processes = SimpleNamespace(types=model.types, coordinates=model.coordinates, data_types=model.data_types)

    def guidance(state, t):
        width = torch.sqrt(s**2 + 2 * model.coordinates.sigma(t) ** 2)[:, None]
        pull = model.coordinates.score(state.fractional[:, 1] - state.fractional[:, 0] - d, width)
        score = torch.stack([-pull, pull], 1) / model.coordinates.score_scale(t)[:, None, None]
        return Output(torch.zeros_like(state.types), score, torch.zeros_like(state.lattice))

    place = [0.9, 0.3, 0.55]
    held = constrained(model, 64, n_atoms=2, power=power, sites=[{"sites": [0], "coordinates": [place]}])
    end = solve(processes, guidance, noise_of(64, 2), steps=steps, sampler=sampler, constrained=held, coordinate_power=power)
    assert (end.fractional[:, 0] == torch.tensor(place, dtype=torch.float64)).all()
    error = end.fractional[:, 1] - end.fractional[:, 0] - d
    error = error - error.round()
    assert error.square().mean().sqrt() < tolerance
