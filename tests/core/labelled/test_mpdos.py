"""MP-DOS records become crystals; anything else is refused by file, record and key."""

import json

import numpy as np
import pytest

from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.labelled.importing.mpdos import read_records

RECORD = {
    "structure_id": "mp-1",
    "positions": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]],
    "cell": [[0, 2.0, 2.0], [2.0, 0, 2.0], [2.0, 2.0, 0]],
    "atomic_numbers": [14, 6],
    "y": [[0.5] * 400, [0.25] * 400],
    "band_gap": 1.0,
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_records_and_lists_of_records(tmp_path):
    crystals = read_records([write(tmp_path / "a.json", RECORD), write(tmp_path / "b.json", [RECORD, RECORD])])
    assert crystals.formulas == ["SiC"] * 3
    np.testing.assert_allclose(crystals.positions[:2], RECORD["positions"], atol=1e-12)
    np.testing.assert_allclose(crystals.fractional[1], 0.25)
    assert crystals.atom_columns["dos"].shape == (6, 400)
    assert np.isinf(crystals.crystal_columns["complete_below"]).all()
    assert crystals.crystal_columns["structure_id"].tolist() == ["mp-1"] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "record 1: y has shape"),
        ({"y": [[0.5] * 399, [0.5] * 399]}, "y has shape .* 400 energies"),
        ({"positions": [[0, 0, 0]]}, "positions .* for 2 atoms"),
        ({"cell": [[1, 0, 0], [0, 1, 0], [1, 1, 0]]}, "not in a plane"),
        ({"atomic_numbers": [14.6, 6]}, "atomic_numbers must be whole numbers"),
        ({"atomic_numbers": [14, 600]}, "record 1.*atomic number 600 is not an element"),
        ({"y": [[-0.5] * 400, [0.5] * 400]}, "a.json, record 1: the density of states is negative or not finite"),
        ({"y": [[0.0] * 400] * 2}, "the density of states is zero everywhere"),
        ({"positions": [[0, 0, 0], [0.25, 0.25, 0.25]]}, "are the positions fractional ones where Cartesian ones"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    path = write(tmp_path / "a.json", [RECORD, {**RECORD, **change}])
    with pytest.raises(ContentError, match=message):
        read_records(path)


def test_bad_files(tmp_path):
    with pytest.raises(ContentError, match="does not exist"):
        read_records(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ContentError, match="not valid JSON"):
        read_records(tmp_path / "bad.json")
    with pytest.raises(ContentError, match="lacks structure_id"):
        read_records(write(tmp_path / "other.json", {"a": 1}))
    with pytest.raises(ContentError, match="no MP-DOS records"):
        read_records([])


def test_an_insulator_is_aligned_by_its_valence_band_maximum(tmp_path):
    points = np.linspace(-10, 10, 400)
    insulator = np.where((points > -6) & (points < -1.5) | (points > 2), 1.0, 0.0)
    both = [RECORD, {**RECORD, "y": [insulator.tolist()] * 2}]
    crystals = read_records(write(tmp_path / "a.json", both))
    metal, aligned = (curves_of(crystals, row) for row in (0, 1))
    assert (metal.zero, metal.gap, metal.low, metal.sigma) == ("fermi", 0, -10, None)
    assert (aligned.zero, aligned.gap) == ("vbm", pytest.approx(3.5, abs=0.11))
    assert aligned.low == pytest.approx(-8.5, abs=0.06) and aligned.high == 10
    occupied = aligned.total[(aligned.energies < -0.1) & (aligned.energies > -3)]
    assert occupied.min() > 1.5 and aligned.total[(aligned.energies > 0.1) & (aligned.energies < 3)].max() < 0.1
