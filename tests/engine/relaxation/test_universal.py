"""Universal potentials by name. The packages are not installed for the tests; where they are, they are tried."""

import importlib.metadata
import importlib.util
import sys

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.forcefields import ENTRY_POINTS, problem_of_calculator
from aiida_dosmatgen.engine.relaxation.forcefields import CalculatorEvaluator, universal

MODULES = {"chgnet": "chgnet.model.dynamics", "sevennet": "sevenn.calculator"}


@pytest.mark.parametrize("name", MODULES)
def test_entry_points_name_them(name):
    entry = importlib.metadata.EntryPoint(name, f"{universal.__name__}:{name}", ENTRY_POINTS)
    assert entry.load() is getattr(universal, name)
    assert problem_of_calculator(name) is None


@pytest.mark.parametrize("name", MODULES)
def test_other_weights_are_refused_before_anything_is_loaded(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(ContentError, match="weights: '/tmp/mine.pth' is none of"):
        getattr(universal, name)(weights="/tmp/mine.pth")


@pytest.mark.parametrize("name", MODULES)
def test_without_the_package(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(ContentError, match=r"cannot be imported .*pip install"):
        getattr(universal, name)()


@pytest.mark.parametrize("name", MODULES)
def test_silicon_is_at_rest(name):
    if importlib.util.find_spec(MODULES[name].partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    silicon = CrystalSet(
        [2], [14, 14], [[0, 0, 0], [0.25, 0.25, 0.25]], 5.469 / 2 * np.array([[[0, 1, 1], [1, 0, 1], [1, 1, 0]]])
    )
    found = CalculatorEvaluator(getattr(universal, name)(), name).evaluate(silicon)
    assert np.abs(found.forces).max() < 1e-3 and np.abs(found.stresses).max() < 0.02
