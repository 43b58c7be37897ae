import importlib
from pathlib import Path

import pytest

from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import systems_of


@pytest.fixture
def learning(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("learning")


def test_targets_are_of_unseen_systems(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    run = importlib.import_module("learning_run")
    crystals = load_shards(run.SHARDS)
    elements = [SYMBOLS[z] for z in set(crystals.numbers.tolist())]
    rows = run.chosen(crystals, elements, 5, seed=1)
    chosen = crystals[list(rows.values())]
    assert set(chosen.crystal_columns["split"]) == {"test-final"} and len(set(systems_of(chosen))) == 5
    assert set(chosen.crystal_columns["kind"]) == {"real"} and chosen.formulas == list(rows)
    assert run.chosen(crystals, elements, 5, seed=1) == rows != run.chosen(crystals, elements, 5, seed=2)
    assert set(crystals.n_atoms[list(run.chosen(crystals, elements, 5, seed=1, n_atoms=3).values())]) == {3}
    left_out = systems_of(chosen)[0].split("-")[0]
    others = systems_of(crystals[list(run.chosen(crystals, elements, 5, seed=1, left_out=[left_out]).values())])
    assert len(others) == 5 and not any(left_out in system.split("-") for system in others)
    assert set(systems_of(chosen)) - set(others) == {one for one in systems_of(chosen) if left_out in one.split("-")}
    with pytest.raises(SystemExit, match="only 0 chemical systems"):
        run.chosen(crystals, ["H"], 1, seed=1)


def rounds(*best, runs=({}, {})):
    return [{"number": i, "best": one, "spent": 10 * i, "entered": i, "runs": runs[i - 1]} for i, one in enumerate(best, 1)]


def test_the_gain_is_the_mean_over_the_targets(learning):
    with_learning = rounds({"a": 0.4, "b": 0.2, "c": None}, {"a": 0.1, "b": 0.2, "c": 0.3})
    without = rounds({"a": 0.4, "b": 0.2, "c": 0.3}, {"a": 0.2, "b": 0.2, "c": 0.3})
    figures = learning.compared(with_learning, without)
    first, second = figures["rounds"]
    assert first["best"] == {"gain": 0.0, "targets": 2, "interval": [0.0, 0.0]}
    assert second["best"]["gain"] == pytest.approx(0.5 / 3) and second["spent"] == [20, 20]
    low, high = second["best"]["interval"]
    assert low == 0.0 and second["best"]["gain"] < high <= 0.5
    assert figures["targets"]["a"]["best"] == {"learning": [0.4, 0.1], "without": [0.4, 0.2]}
    assert learning.compared(rounds({"a": 0.1}), rounds({"a": 0.2}))["rounds"][0]["best"]["interval"] is None


def test_the_mean_of_the_runs_of_a_round_is_compared_too(learning):
    best = {"a": 0.1, "b": None}
    with_learning = rounds(best, best, runs=({"a": [0.1, 0.3], "b": []}, {"a": [0.1, 0.1]}))
    without = rounds(best, best, runs=({"a": [0.1, 0.3], "b": []}, {"a": [0.1, 0.3]}))
    figures = learning.compared(with_learning, without)
    assert figures["targets"]["a"]["mean"] == {"learning": pytest.approx([0.2, 0.1]), "without": pytest.approx([0.2, 0.2])}
    assert figures["targets"]["b"]["mean"] == {"learning": [None, None], "without": [None, None]}
    first, second = figures["rounds"]
    assert first["mean"]["gain"] == 0.0 and second["mean"] == {"gain": pytest.approx(0.5), "targets": 1, "interval": None}
    assert second["runs"] == [2, 2] and second["near"] == [1.0, 0.5]
