"""Whether a checkpoint is kept, what a round may spend, and when a loop stops."""

import math

import pytest

from aiida_dosmatgen.core.learning.rounds import best_so_far, distances, gained, plan, stop_reason, verdict_on
from aiida_dosmatgen.core.learning.settings import LearnSettings

BEFORE = {"dos_mae": 0.100, "formation_energy_mae": 0.2}


def settings(**changes):
    return LearnSettings(**{"budget": 20, "max_rounds": 9, "top_k": 3, "repeats": 1, **changes})


@pytest.mark.parametrize(
    ("after", "accepted", "reason"),
    [
        ({"dos_mae": 0.09, "formation_energy_mae": 0.203}, True, "no figure got worse by more than 2%"),
        ({"dos_mae": 0.1021, "formation_energy_mae": 0.1}, False, "dos_mae got worse by 2.1%, from 0.1 to 0.1021"),
        ({"dos_mae": 0.05, "formation_energy_mae": 0.21}, False, "formation_energy_mae got worse by 5.0%"),
        ({"dos_mae": 0.05}, False, "formation_energy_mae could not be computed"),
        ({"dos_mae": math.nan, "formation_energy_mae": 0.2}, False, "dos_mae could not be computed"),
        ({}, False, "could not be computed"),
    ],
)
def test_a_checkpoint_that_got_worse_is_rejected(after, accepted, reason):
    verdict = verdict_on("predictor", BEFORE, after, 0.02)
    assert verdict["accepted"] is accepted and reason in verdict["reason"]


def test_figures_that_are_known_of_neither_do_not_count():
    verdict = verdict_on("predictor", {"dos_mae": 0.1}, {"dos_mae": 0.1}, 0.02)
    assert verdict["accepted"] and [row["figure"] for row in verdict["figures"]] == ["dos_mae"]
    assert not verdict_on("denoiser", {}, {}, 0.02)["accepted"]
    assert verdict_on("denoiser", {"loss": 1.0}, {"loss": 1.019}, 0.02)["accepted"]


def test_a_round_spends_what_is_left():
    assert plan(settings(), 1, 2, 0) == {"seed": 1, "top_k": 3}
    assert plan(settings(seed=7), 3, 2, 14) == {"seed": 9, "top_k": 2}  # six are left, one of them for a second run
    assert plan(settings(), 4, 2, 18)["top_k"] == 1  # two are left: none for a second run
    assert plan(settings(), 4, 2, 19)["top_k"] == 0


def test_best_distances_go_over_the_rounds():
    rows = [{"status": "validated", "dft": {"mae": 0.3}}, {"status": "validated", "dft": {"mae": 0.2}}]
    found = distances({"targets": {"a": [*rows, {"status": "failed"}], "b": [{"status": "not validated"}]}})
    assert found == {"a": 0.2, "b": None}
    assert best_so_far({"a": 0.1, "b": None}, found) == {"a": 0.1, "b": None}
    wishes = {"targets": {"a": [{"status": "validated", "dft": {"mae": None, "missed": 1.0, "distance": 0.1}}]}}
    assert distances(wishes) == {"a": 0.1}


def test_what_is_a_gain():
    assert gained({}, {"a": 0.3}, 0.01) and not gained({}, {"a": None}, 0.01)
    assert gained({"a": 0.3, "b": None}, {"a": 0.3, "b": 0.9}, 0.01)  # the first of a target
    assert gained({"a": 0.3, "b": 0.3}, {"a": 0.3, "b": 0.28}, 0.02)
    assert not gained({"a": 0.3, "b": 0.3}, {"a": 0.3, "b": 0.299}, 0.01)
    assert not gained({"a": 0.3}, {"a": 0.3}, 0.0)


def history(*gains, spent=4):
    return [{"spent": spent, "distance_gained": one, "curves_gained": other} for one, other in gains]


def test_when_the_loop_stops():
    go_on = history((True, False), (False, True), (True, False))
    assert stop_reason(settings(), go_on, 2) is None
    assert stop_reason(settings(max_rounds=3), go_on, 2) == "3 rounds are done"
    assert stop_reason(settings(), history((True, True), spent=19), 2).startswith("19 of 20 DFT runs are spent")
    idle = history((True, True), (False, True), (False, True))
    assert stop_reason(settings(), idle, 2) == "no gain on the DFT distance of the targets in 2 rounds in a row"
    assert stop_reason(settings(patience=3), idle, 2) is None
    assert stop_reason(settings(distance_gain=None), idle, 2) is None
    blunt = history((True, False), (True, False))
    assert stop_reason(settings(), blunt, 2) is None
    assert "held-out crystals in 2 rounds" in stop_reason(settings(curves_gain=0.0), blunt, 2)
