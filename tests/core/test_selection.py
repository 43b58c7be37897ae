import numpy as np
import pytest
from pydantic import ValidationError

from aiida_dosmatgen.core.screening.selection import SelectionWeights, select

NONE = SelectionWeights(uncertainty=0, diversity=0)


def test_without_weights_the_ranking_decides():
    taken = select(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 9, 9, 9]), np.eye(4), 3, NONE)
    assert [(one.place, one.reason) for one in taken] == [
        (0, "best score"), (1, "best score of those left"), (2, "best score of those left")
    ]  # fmt: skip


def test_uncertain_ones_come_later_if_it_is_to_be_sure():
    weights = SelectionWeights(uncertainty=1, diversity=0)
    taken = select(np.array([0.10, 0.12, 0.14]), np.array([0.09, 0.01, 0.01]), None, 3, weights)
    assert [one.place for one in taken] == [1, 2, 0]
    assert taken[0].reason == "surer than better ones: its DOS is uncertain by 0.01 states/eV/atom"


def test_uncertain_ones_come_earlier_if_it_is_to_explore():
    weights = SelectionWeights(uncertainty=-1, diversity=0)
    taken = select(np.array([0.10, 0.12, 0.14]), np.array([0.0, 0.01, 0.07]), None, 2, weights)
    assert [one.place for one in taken] == [2, 0]
    assert taken[0].reason == "may be better than its score: its DOS is uncertain by 0.07 states/eV/atom"
    assert taken[1].reason == "best score of those left"


def test_copies_of_what_is_taken_come_later():
    curves = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    scores, weights = np.array([0.10, 0.11, 0.20]), SelectionWeights(uncertainty=0, diversity=0.5)
    taken = select(scores, np.full(3, np.nan), curves, 3, weights)
    assert [one.place for one in taken] == [0, 2, 1]
    assert taken[1].reason == "unlike those taken: its DOS differs by 1 states/eV/atom or more"
    assert [one.place for one in select(scores, np.zeros(3), curves, 3, NONE)] == [0, 1, 2]
    assert [one.place for one in select(scores, np.zeros(3), None, 3, weights)] == [0, 1, 2]


def test_the_distance_is_that_of_the_nearest_one_taken():
    curves = np.array([[0.0], [1.0], [0.6], [0.9]])
    taken = select(np.array([0.0, 0.01, 0.02, 0.03]), np.zeros(4), curves, 4, SelectionWeights(uncertainty=0, diversity=1))
    assert [one.place for one in taken] == [0, 1, 2, 3]


def test_no_more_than_there_are_and_unknown_scores_last():
    taken = select(np.array([np.inf, 0.5]), np.zeros(2), np.zeros((2, 3)), 9)
    assert [one.place for one in taken] == [1, 0]
    assert select(np.zeros(0), np.zeros(0), None, 3) == []
    assert select(np.zeros(2), np.zeros(2), None, 0) == []


def test_negative_weights_are_refused():
    with pytest.raises(ValidationError):
        SelectionWeights(diversity=-1)


def test_a_share_of_the_places_goes_to_what_is_least_known():
    scores, uncertainties = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.01, 0.02, 0.5, 0.3])
    curves = np.array([[1.0], [1.0], [1.1], [1.2]])

    def taken(exploration):
        weights = SelectionWeights(uncertainty=0, diversity=0, exploration=exploration)
        return select(scores, uncertainties, curves, 4, weights)

    assert [one.place for one in taken(0.0)] == [0, 1, 2, 3]
    assert [one.place for one in taken(0.5)] == [0, 2, 1, 3]
    assert [one.place for one in taken(1.0)] == [2, 3, 1, 0]
    assert taken(0.5)[1].reason.startswith("to learn from: its DOS is uncertain by 0.5 states/eV/atom, and differs")
    tenth = SelectionWeights(uncertainty=0, diversity=0, exploration=0.1)
    many = select(np.arange(20.0), np.arange(20.0), None, 20, tenth)
    assert [place for place, one in enumerate(many) if "learn from" in one.reason] == [9, 19]
