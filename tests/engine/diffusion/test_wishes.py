"""Sampling for wishes: what the network is shown of them, what a classifier follows, and that it helps."""

import dataclasses
from importlib.resources import files

import numpy as np
import pytest
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.distances import measured_wishes
from aiida_dosmatgen.core.target.wish_text import wishes_of
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.candidates import condition_on, size_probabilities
from aiida_dosmatgen.engine.diffusion.classifier import Classifier
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.diffusion.steering.guidance import make
from aiida_dosmatgen.engine.prediction.predict import predict

ELEMENTS = ["C", "Si"]
B, N = 2, 3
MASK = torch.ones(B, N, dtype=torch.bool)


def shipped(kind):
    return load_model(str(files("aiida_dosmatgen") / "models" / f"{kind}.safetensors"), dtype=torch.float32, kind=kind)[0]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Denoiser(ELEMENTS, DEFAULT_GRID, width=16, layers=1, frequencies=2).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for projection in (model.conditioning.site, model.conditioning.total):
        projection.mean.copy_(torch.rand(DEFAULT_GRID.n))
    return model


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    classifier = Classifier(ELEMENTS, DEFAULT_GRID, width=16, layers=1, frequencies=2).double().eval()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    classifier.total_std.copy_(0.1 + torch.rand(DEFAULT_GRID.n))
    return classifier


def test_the_network_sees_nothing_where_wishes_say_nothing(model):
    target = DosTarget.from_wishes(["nothing from -8 to -5", "states from 1 to 3: 2"])
    spoken = target.spoken(DEFAULT_GRID.points)
    assert 0 < spoken.sum() < ((DEFAULT_GRID.points >= -8) & (DEFAULT_GRID.points <= 3)).sum()
    shown = model.encode(condition_on(target, model, B, N), MASK)
    values = target.dos.values.copy()
    values[..., ~spoken] = 7.0
    other = dataclasses.replace(target, dos=dataclasses.replace(target.dos, values=values))
    for a, b in zip(shown, model.encode(condition_on(other, model, B, N), MASK), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    np.testing.assert_array_equal(size_probabilities(model, target), size_probabilities(model, other))
    values[..., spoken] += 0.5
    different = dataclasses.replace(target, dos=dataclasses.replace(target.dos, values=values))
    assert (model.encode(condition_on(different, model, B, N), MASK)[1] - shown[1]).abs().max() > 1e-3


def test_wishes_beside_a_curve_leave_its_condition_as_it_was(model):
    curve = DosTarget(np.ones((1, 400)), "total", 2)
    for a, b in zip(
        vars(condition_on(curve, model, B, N)).values(),
        vars(condition_on(curve.wishing(["gap >= 1"]), model, B, N)).values(),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_wishes_for_channels_alone_are_sampled_freely(model):
    target = DosTarget.from_wishes(["d band centre -2", "p states from -2 to 0: 3"])
    assert condition_on(target, model, B, N).empty
    parameters = SampleParameters(steps=3, attempts=1, n_atoms=2)
    free, wished = (CrystalSet.concatenate(list(sample(model, one, parameters, 3, range(4)))) for one in (None, target))
    np.testing.assert_array_equal(free.lattices, wished.lattices)
    np.testing.assert_array_equal(free.fractional, wished.fractional)


@pytest.mark.parametrize("text", ["nothing from 1 to 4", "states from -2 to 0: >= 4", "gap >= 2", "band centre <= -3"])
def test_the_distance_from_bounds_is_that_of_the_nearest_curve_within_them(classifier, text):
    """The smallest change is along a·s²; after it nothing is missing, and a little less would not do."""
    (one,) = wishes_of([text])
    bounds = one.bounds(DEFAULT_GRID.points)
    assert len(bounds.rows) == 1
    curve = torch.rand(1, 1, DEFAULT_GRID.n, generator=torch.Generator().manual_seed(3)).double()
    row, std = torch.as_tensor(bounds.rows[0]), classifier.total_std.double()
    beyond = float(row @ curve[0, 0]) - float(bounds.high[0] if np.isfinite(bounds.high[0]) else bounds.low[0])
    change = -beyond * row * std**2 / (row**2 * std**2).sum()

    def distance(values):
        return float(classifier.distance_from_bounds(values, bounds, MASK[:1, :1], torch.ones(1)))

    found = distance(curve)
    assert found == pytest.approx(float(((change / std) ** 2).sum() * DEFAULT_GRID.spacing) ** 0.5, rel=1e-6)
    assert found > 0.1
    assert distance(curve + change) == pytest.approx(0, abs=1e-9)
    assert distance(curve + 0.9 * change) == pytest.approx(0.1 * found)
    assert distance(curve + 1.5 * change) == 0  # what is granted is not pulled any further


def test_a_classifier_follows_bounds_and_curves_each_where_they_speak(model, classifier):
    target = DosTarget.from_wishes(["nothing from 1 to 4 (weight 3)", "peak at -3"])
    condition = condition_on(target, model, B, N)
    guidance = make(
        model, classifier, condition, MASK, SampleParameters(guidance="classifier"), target.wishes, target.only_wishes
    )
    ((bounds, weight),) = guidance.bounds
    assert weight == 3 and bounds.high[0] == 0.1
    said = guidance.condition.said[0].numpy()
    np.testing.assert_array_equal(said, np.abs(DEFAULT_GRID.points + 3) <= 1)
    linear = DosTarget.from_wishes(["nothing from 1 to 4"])
    alone = make(
        model, classifier, condition_on(linear, model, B, N), MASK, SampleParameters(guidance="classifier"), linear.wishes, True
    )
    assert not alone.condition.total_given.any() and len(alone.bounds) == 1
    curve = DosTarget(np.ones((1, 400)), "total", 2).wishing(["nothing from 1 to 4"])
    both = make(
        model, classifier, condition_on(curve, model, B, N), MASK, SampleParameters(guidance="classifier"), curve.wishes, False
    )
    assert both.condition.total_given.all() and both.condition.said.all() and len(both.bounds) == 1


def test_guided_candidates_have_more_of_what_is_wished_for():
    """The shipped models, from pure noise; benchmarks/wishes.py has more of it."""
    denoiser, classifier = shipped("denoiser"), shipped("classifier")
    predictor, header = load_model(str(files("aiida_dosmatgen") / "models" / "predictor.safetensors"), kind="predictor")
    target = DosTarget.from_wishes(["states from -4 to 0: <= 1"])
    common = {"precision": "float32", "steps": 15, "n_atoms": 2}
    ways = {
        "free": (None, SampleParameters(**common), {}),
        "conditioned": (target, SampleParameters(**common), {}),
        "guided": (
            target,
            SampleParameters(**common, guidance="classifier", guidance_scale=10.0),
            {"classifier": classifier},
        ),
    }
    missed = {}
    for way, (asked, parameters, guides) in ways.items():
        crystals = CrystalSet.concatenate(list(sample(denoiser, asked, parameters, 1, range(24), **guides)))
        crystals = predict(predictor.eval(), header, crystals)
        rows = [i for i in range(24) if np.isfinite(crystals[i].atom_columns["predicted_dos"]).all()]
        missed[way] = np.mean([measured_wishes(target.wishes, curves_of(crystals, i, "predicted_dos"))["missed"] for i in rows])
    assert missed["conditioned"] < 0.7 * missed["free"]
    assert missed["guided"] < 0.7 * missed["free"]
