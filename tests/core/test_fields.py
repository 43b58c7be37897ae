"""Single fields of models: their meaning and what they refuse."""

import pytest

from aiida_dosmatgen.core.campaign import CampaignNumbers
from aiida_dosmatgen.core.fields import described, plain_type, problem_of
from aiida_dosmatgen.core.job import ReferencesJob, RelaxParameters, Runtime, SampleJob, TrainParameters


def test_a_field_means_what_the_docstring_says():
    assert described(Runtime, "batch_size") == "Crystals at a time; by default the engine chooses by size."
    assert described(RelaxParameters, "max_seconds").endswith("after which a crystal is given up in one run of the job.")
    assert described(SampleJob, "seed") == "Seed of all randomness."  # the last one of its docstring
    with pytest.raises(KeyError, match="Runtime does not say what nothing is"):
        described(Runtime, "nothing")


def test_the_type_of_a_field_leaves_none_out():
    assert plain_type(Runtime, "batch_size") is int
    assert plain_type(Runtime, "device") is str


@pytest.mark.parametrize(
    ("model", "name", "value", "problem"),
    [
        (Runtime, "threads", 2, None),
        (Runtime, "threads", None, None),
        (Runtime, "threads", 0, "threads is 0: Input should be greater than or equal to 1"),
        (CampaignNumbers, "top_k", 0, None),
        (CampaignNumbers, "top_k", -1, "top_k is -1: Input should be greater than or equal to 0"),
        (ReferencesJob, "elements", ["Si", "Xx"], "elements is ['Si', 'Xx']: 'Xx' is not a chemical element; give a symbol"),
        (TrainParameters, "model", "gan", "model is 'gan': Input should be 'denoiser', 'classifier', 'predictor' or"),
    ],
)
def test_a_value_is_refused_in_one_line(model, name, value, problem):
    found = problem_of(model, name, value)
    assert found is None if problem is None else found.startswith(problem)
