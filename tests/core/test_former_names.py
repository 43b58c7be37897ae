"""Crystals, rankings and criteria of earlier versions are read with the names of today."""

import io

import numpy as np
import pytest
from pydantic import ValidationError

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.former_names import current_card, current_row
from aiida_dosmatgen.core.screening import ScreenCriteria


def test_stored_columns_form_and_remedy_are_read_as_geometry_and_fallback():
    columns = {
        "form": np.array(["relaxed", "sampled"]),
        "status": np.array(["max steps", "as sampled"]),
        "energy": np.array([-1.0, -0.5]),
        "remedy": np.array([0, 1]),
    }
    stored = CrystalSet([1, 1], [14, 6], np.zeros((2, 3)), np.stack([3 * np.eye(3)] * 2), columns)
    stream = io.BytesIO()
    stored.save(stream)
    stream.seek(0)
    found = CrystalSet.load(stream).crystal_columns
    assert {name: column.tolist() for name, column in found.items()} == {
        "geometry": ["relaxed", "unrelaxed"],
        "status": ["max steps", "unrelaxed"],
        "energy": [-1.0, -0.5],
        "fallback": [0, 1],
    }


def test_a_row_of_an_earlier_ranking():
    assert current_row({"candidate": 3, "form": "sampled"}) == {"candidate": 3, "geometry": "unrelaxed"}
    assert current_row({"geometry": "relaxed"}) == {"geometry": "relaxed"} and current_row({"rank": 1}) == {"rank": 1}


def test_a_data_card_of_an_earlier_labelling():
    assert current_card({"n_crystals": 3, "remedies": {"0": 3}}) == {"n_crystals": 3, "fallbacks": {"0": 3}}
    assert current_card({"fallbacks": {"1": 1}}) == {"fallbacks": {"1": 1}}


def test_criteria_of_earlier_inputs():
    assert ScreenCriteria.model_validate({"forms": ["sampled", "relaxed"]}).geometries == ["unrelaxed", "relaxed"]
    # the default of a campaign with relaxation by pw.x, and a user's override by the former name
    assert ScreenCriteria.model_validate({"geometries": ["relaxed"], "forms": ["sampled"]}).geometries == ["unrelaxed"]
    for wrong in (None, [], "sampled", ["strained"], [3]):
        with pytest.raises(ValidationError, match="geometries"):
            ScreenCriteria.model_validate({"forms": wrong})
    with pytest.raises(ValidationError, match="geometries"):
        ScreenCriteria.model_validate({"geometries": ["sampled"]})
