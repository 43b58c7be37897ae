"""Guidance: the limits of both kinds, closed forms of the pull of a classifier, and that it pulls where it should."""

import dataclasses
import itertools
import math

import pytest
import torch

from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.engine.diffusion.classifier import Classifier
from aiida_dosmatgen.engine.diffusion.condition import Condition
from aiida_dosmatgen.engine.diffusion.denoiser import TYPE_SCALE, Denoiser, State
from aiida_dosmatgen.engine.diffusion.steering.guidance import ClassifierFree, ClassifierGuided, make

GRID = EnergyGrid(-5.0, 5.0, 21)
ELEMENTS = ["C", "Si"]
B, N = 3, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, GRID, width=16, layers=2, frequencies=2).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def a_classifier(elements=ELEMENTS, seed=1, grid=GRID):
    torch.manual_seed(seed)
    classifier = Classifier(elements, grid, width=16, layers=2, frequencies=2).double().eval()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    classifier.mean_curves.copy_(torch.rand_like(classifier.mean_curves))
    classifier.site_std.copy_(0.1 + torch.rand_like(classifier.site_std))
    return classifier


@pytest.fixture(scope="module")
def classifier():
    return a_classifier()


def a_state(seed=0, n_elements=2):
    generator = torch.Generator().manual_seed(seed)
    return State(
        torch.randn(B, N, n_elements, generator=generator).double(),
        torch.rand(B, N, 3, generator=generator).double(),
        torch.randn(B, 6, generator=generator).double(),
    )


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    state = a_state()
    condition = dataclasses.replace(
        Condition.none(B, N, GRID.n, state.types),
        site=torch.rand(B, N, GRID.n, generator=generator).double(),
        site_given=torch.ones(B, N, dtype=torch.bool),
    )
    return state, torch.full((B,), 0.4).double(), condition, torch.ones(B, N, dtype=torch.bool)


def branch(model, state, t, condition, mask):
    return model(state, t, model.encode(condition, mask), mask)


def assert_equal(got, expected, atol=0.0):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.fixture
def evaluated(model):
    """Sizes of the stacked batches that the network has seen."""
    sizes = []
    hook = model.type_head.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    yield sizes
    hook.remove()


# --- classifier-free --------------------------------------------------------------------------------------------------------


def test_scale_zero_is_the_conditional_branch(model, given, evaluated):
    state, t, condition, mask = given
    guided = ClassifierFree(model, condition, mask, 0.0)(state, t)
    assert_equal(guided, branch(model, state, t, condition, mask))
    assert evaluated == [B, B]


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_is_linear_in_both_branches(model, given, scale):
    state, t, condition, mask = given
    guided = ClassifierFree(model, condition, mask, scale)(state, t)
    conditional, unconditional = branch(model, state, t, condition, mask), branch(model, state, t, condition.dropped(), mask)
    for a, c, u in zip(guided, conditional, unconditional, strict=True):
        assert (c - u).abs().max() > 1e-3
        torch.testing.assert_close(a, (1 + scale) * c - scale * u, rtol=0, atol=1e-10)


def test_nothing_asked_is_unconditional_at_any_scale(model, given, evaluated):
    state, t, condition, mask = given
    nothing = Condition.none(B, N, GRID.n, state.types)
    for empty in (nothing, condition.dropped()):
        guided = ClassifierFree(model, empty, mask, 2.0)(state, t)
        assert_equal(guided, branch(model, state, t, nothing, mask), 1e-12)
    assert set(evaluated) == {B}


def test_crystals_of_a_batch_do_not_mix(model, given):
    state, t, condition, mask = given
    given_to_one = torch.zeros_like(condition.site_given)
    given_to_one[1] = True
    guided = ClassifierFree(model, dataclasses.replace(condition, site_given=given_to_one), mask, 2.0)(state, t)
    all_of_them = ClassifierFree(model, condition, mask, 2.0)(state, t)
    none_of_them = branch(model, state, t, condition.dropped(), mask)
    for a, b, c in zip(guided, all_of_them, none_of_them, strict=True):
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=1e-10)
        torch.testing.assert_close(a[0], c[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("time", "inside"), [(0.19, False), (0.2, True), (0.5, True), (0.7, True), (0.71, False)])
def test_outside_of_the_interval_the_conditional_branch_runs_alone(model, given, evaluated, time, inside):
    state, _, condition, mask = given
    t = torch.full((B,), time).double()
    guided = ClassifierFree(model, condition, mask, 2.0, (0.2, 0.7))(state, t)
    assert evaluated == [2 * B if inside else B]
    expected = ClassifierFree(model, condition, mask, 2.0)(state, t) if inside else branch(model, state, t, condition, mask)
    assert_equal(guided, expected)


def test_each_crystal_has_its_own_time(model, given):
    state, _, condition, mask = given
    t = torch.tensor([0.1, 0.4, 0.9]).double()
    guided = ClassifierFree(model, condition, mask, 2.0, (0.2, 0.7))(state, t)
    always, never = ClassifierFree(model, condition, mask, 2.0)(state, t), branch(model, state, t, condition, mask)
    for g, a, n in zip(guided, always, never, strict=True):
        torch.testing.assert_close(g, torch.stack([n[0], a[1], n[2]]), rtol=0, atol=1e-12)


# --- classifier -------------------------------------------------------------------------------------------------------------


def mixed(condition):
    """Curves for some sites of one crystal, the total of another, nothing for the third."""
    sites = torch.zeros_like(condition.site_given)
    sites[0, 1:3] = True
    return dataclasses.replace(
        condition,
        site_given=sites,
        total=condition.site.mean(1),
        total_given=torch.tensor([False, True, False]),
        complete_below=torch.tensor([3.0, math.inf, 4.0]).double(),
    )


def test_the_pull_is_the_gradient_of_the_distance(model, classifier, given):
    """All three parts, turned back from what the denoiser predicts, against central differences."""
    state, t, condition, mask = given
    scale, step = 0.7, 1e-5
    guidance = ClassifierGuided(model, classifier, mixed(condition), mask, scale)
    plain, guided = branch(model, state, t, condition.dropped(), mask), guidance(state, t)
    a, sigma = math.cos(0.2 * math.pi), math.sin(0.2 * math.pi)
    pulls = (
        (plain.logits - guided.logits) / scale,
        (plain.score - guided.score) * model.coordinates.score_scale(t)[:, None, None] / scale,
        (guided.velocity - plain.velocity) * a / sigma / scale,
    )
    parts = [classifier.probabilities(state.types, t), state.fractional, state.lattice]
    for index, pull in enumerate(pulls):
        differences = torch.zeros_like(parts[index])
        for place in itertools.product(*(range(n) for n in parts[index].shape[1:])):
            ends = []
            for sign in (1, -1):
                moved = [part.clone() for part in parts]
                moved[index][(slice(None), *place)] += sign * step
                ends.append(guidance.distance(*moved, t))
            differences[(slice(None), *place)] = (ends[0] - ends[1]) / (2 * step)
        assert differences[:2].abs().amax() > 1e-3
        torch.testing.assert_close(pull, differences, rtol=1e-5, atol=1e-8)
        assert (pull[2] == 0).all()  # of the crystal that nothing is asked of


def test_the_distance_is_that_of_the_classifier_in_its_own_units(model, given):
    """Another order of the elements, one more of them, and other statistics of the lattices change nothing."""
    state, _, condition, mask = given
    t = torch.full((B,), 1e-9).double()  # so that the state is the crystal itself
    ours, wide = a_classifier(), a_classifier(["Si", "B", "C"])
    weights = {k: v.clone() for k, v in ours.state_dict().items()}
    for key, axis in (("embed_types.weight", 1), ("mean_curves", 0)):
        si, c = weights[key].select(axis, 1), weights[key].select(axis, 0)
        weights[key] = torch.stack([si, torch.full_like(c, 7.0), c], axis)
    wide.load_state_dict(weights)
    reference = ClassifierGuided(model, ours, condition, mask, 1.0)
    translated = ClassifierGuided(model, wide, condition, mask, 1.0)
    q = torch.rand(B, N, 2).double()
    arguments = (q, state.fractional, state.lattice, t)
    torch.testing.assert_close(translated.distance(*arguments), reference.distance(*arguments), rtol=0, atol=1e-12)

    seen = []
    wide.network.geometry.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    wide.lattices.mean.copy_(torch.linspace(-0.3, 0.4, 6))
    wide.lattices.std.copy_(torch.linspace(0.5, 2.0, 6))
    translated.distance(*arguments)
    torch.testing.assert_close(seen[0], model.lattices.lattices(state.lattice, mask.sum(-1)), rtol=0, atol=1e-6)


class _Linear(ClassifierGuided):
    """Guidance by a distance that is linear, for which the tilted distribution is known."""

    def set(self, by_element, by_lattice):
        self.by_element, self.by_lattice = by_element, by_lattice
        return self

    def distance(self, probabilities, fractional, lattice, t):
        of_types = (probabilities * self.by_element).sum((1, 2))
        # the mean of x₀ given x_t is a·x_t: of standard normal data
        return of_types + (torch.cos(t * math.pi / 2)[:, None] * lattice * self.by_lattice).sum(-1) + 0 * fractional.sum()


def test_a_linear_distance_tilts_types_and_lattices_exactly(classifier, given):
    """An untrained denoiser is exact for independent elements and normal lattices; so is its tilt by exp(−w·c·x₀)."""
    _, _, condition, mask = given
    model = Denoiser(ELEMENTS, GRID, width=16, layers=1, frequencies=2).double().eval()
    state, t, w = a_state(), torch.tensor([0.1, 0.5, 0.9]).double(), 1.5
    cost, slope = torch.tensor([0.4, -0.8]).double(), torch.linspace(-1, 1, 6).double()
    output = _Linear(model, classifier, condition, mask, w).set(cost, slope)(state, t)
    a, sigma = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
    centres = TYPE_SCALE * a[:, None, None, None] * torch.eye(2).double()
    log_likelihood = -(state.types[:, :, None] - centres).square().sum(-1) / (2 * sigma[:, None, None] ** 2)
    torch.testing.assert_close(torch.softmax(output.logits, -1), torch.softmax(log_likelihood - w * cost, -1))
    mean = -w * slope  # of the tilted normal distribution, whose variance stays one
    expected = a[:, None] * state.lattice + sigma[:, None] ** 2 * mean
    torch.testing.assert_close(model.types.data_from_velocity(state.lattice, t, output.velocity), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_gradient_is_there_in_every_mode_of_autograd(model, given, mode):
    classifier, wider = a_classifier(), a_classifier(["Si", "B", "C"])
    reference = ClassifierGuided(model, classifier, given[2], given[3], 1.0)(*given[:2])
    with mode():
        state, t = State(*(part.clone() for part in given[0])), given[1].clone()
        condition = Condition(**{name: value.clone() for name, value in vars(given[2]).items()})
        guided = ClassifierGuided(model, classifier, condition, given[3].clone(), 1.0)(state, t)
        assert_equal(guided, reference, 1e-12)
        guided = ClassifierGuided(model, wider, condition, given[3].clone(), 1.0)(state, t)
        assert all(torch.isfinite(part).all() for part in guided)


def test_outside_of_its_interval_a_classifier_does_nothing(model, classifier, given):
    state, _, condition, mask = given
    t = torch.tensor([0.1, 0.4, 0.9]).double()
    guided = ClassifierGuided(model, classifier, condition, mask, 2.0, (0.2, 0.7))(state, t)
    plain, always = (
        branch(model, state, t, condition.dropped(), mask),
        ClassifierGuided(model, classifier, condition, mask, 2.0)(state, t),
    )
    for g, p, a in zip(guided, plain, always, strict=True):
        assert (a - p).abs().amax() > 1e-3
        torch.testing.assert_close(g, torch.stack([p[0], a[1], p[2]]), rtol=0, atol=1e-12)
    early = torch.full((B,), 0.9).double()
    assert_equal(
        ClassifierGuided(model, classifier, condition, mask, 2.0, (0.2, 0.7))(state, early),
        branch(model, state, early, condition.dropped(), mask),
    )


def test_the_pull_does_not_move_the_crystal_as_a_whole(model, classifier, given):
    state, t, condition, _ = given
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[1, 3:] = False
    score = ClassifierGuided(model, classifier, condition, mask, 5.0)(state, t).score
    torch.testing.assert_close(score.sum(1), torch.zeros(B, 3).double(), rtol=0, atol=1e-9)
    assert (score[~mask] == 0).all()


@pytest.mark.parametrize("kind", ["sites", "total"])
def test_guided_samples_are_nearer_to_the_target(kind):
    """The untrained denoiser samples random crystals exactly; guided ones of the same noise end nearer to the target."""
    model = Denoiser(ELEMENTS, GRID, width=16, layers=1, frequencies=2).double().eval()
    classifier = a_classifier()
    n = 32
    generator = torch.Generator().manual_seed(3)
    prior = State(
        torch.randn(n, N, 2, generator=generator).double(),
        torch.rand(n, N, 3, generator=generator).double(),
        torch.randn(n, 6, generator=generator).double(),
    )
    mask = torch.ones(n, N, dtype=torch.bool)
    now = torch.zeros(n).double()
    # what is asked for are curves that some crystal has
    one_hot = TYPE_SCALE * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 0]), 2).double()
    wanted = State(one_hot[None], prior.fractional[:1], prior.lattice[:1])
    curves = classifier(wanted, now[:1], mask[:1])
    condition = Condition.none(n, N, GRID.n, prior.types)
    if kind == "sites":
        given = torch.ones(n, N, dtype=torch.bool)
        condition = dataclasses.replace(condition, site=curves.expand(n, -1, -1), site_given=given)
    else:
        given = torch.ones(n, dtype=torch.bool)
        condition = dataclasses.replace(condition, total=curves.mean(1).expand(n, -1), total_given=given)

    def final_distance(scale):
        guidance = ClassifierGuided(model, classifier, condition, mask, scale)
        state, steps = prior, 20
        with torch.no_grad():
            for i in range(steps):
                t, s = 1 - i / steps, 1 - (i + 1) / steps
                times = torch.full((n,), t).double()
                output = guidance(state, times)
                score = output.score * model.coordinates.score_scale(times)[:, None, None]
                state = State(
                    model.types.ode_step(state.types, model.data_types(output.logits), t, s),
                    model.coordinates.ode_step(state.fractional, score, t, s)[0],
                    model.types.ode_step(
                        state.lattice, model.types.data_from_velocity(state.lattice, times, output.velocity), t, s
                    ),
                )
            return classifier.distance(classifier(state, now, mask), condition, mask)

    free, guided = final_distance(0.0), final_distance(1.0 if kind == "sites" else N)
    assert guided.mean() < 0.8 * free.mean()
    assert (guided < free).double().mean() > 0.8


# --- which one --------------------------------------------------------------------------------------------------------------


def test_parameters_choose(model, classifier, given):
    state, t, condition, mask = given

    def guided(**parameters):
        return make(model, classifier, condition, mask, SampleParameters(**parameters))(state, t)

    assert_equal(guided(guidance="none", guidance_scale=3.0), branch(model, state, t, condition, mask))
    assert_equal(guided(guidance_scale=3.0), ClassifierFree(model, condition, mask, 3.0)(state, t))
    outside = guided(guidance_scale=3.0, guidance_interval=(0.5, 1.0))
    assert_equal(outside, branch(model, state, t, condition, mask))
    expected = ClassifierGuided(model, classifier, condition, mask, 3.0)(state, t)
    assert_equal(guided(guidance="classifier", guidance_scale=3.0), expected)
    free = branch(model, state, t, condition.dropped(), mask)
    assert_equal(guided(guidance="classifier", guidance_scale=0.0), free)
    assert_equal(guided(guidance="classifier", guidance_scale=3.0, guidance_interval=(0.5, 1.0)), free)


def test_refusals(model, classifier, given):
    _, _, condition, mask = given
    parameters = SampleParameters(guidance="classifier")
    with pytest.raises(ContentError, match="needs a classifier; give the job one"):
        make(model, None, condition, mask, parameters)
    with pytest.raises(ContentError, match="there is none; give one"):
        make(model, classifier, condition.dropped(), mask, parameters)
    with pytest.raises(ContentError, match="it knows B C, but the checkpoint generates Si too"):
        make(model, a_classifier(["B", "C"]), condition, mask, parameters)
    with pytest.raises(
        ContentError, match=r"its curves are on the grid -5 … 6 eV, 21 points, those of the checkpoint on -5 … 5"
    ):
        make(model, a_classifier(grid=EnergyGrid(-5.0, 6.0, 21)), condition, mask, parameters)
