"""What is read of files that leave something open."""

import sys
from pathlib import Path

import pytest

from tests.shards import needs_shards

pytestmark = needs_shards

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def reading():
    """Import the script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import reading

        yield reading
    sys.modules.pop("reading", None)


@pytest.fixture(scope="module")
def labels(reading):
    return reading.labels_of(reading.load_shards(reading.LABELS))


def test_the_valence_band_maximum_is_found_behind_a_broadening(reading, labels):
    wide = [label for label in labels if label.gap > 1.5][:20]
    metals = [label for label in labels if label.gap == 0][:40]
    rows = {(row["crystals"], row["broadening"]): row for row in reading.edges(wide + metals)}
    stated = rows["gap above 1.5 eV", "stated"]
    assert stated["with_gap"] == stated["number"] == 20 and stated["zero_off_median"] < 0.05
    assert rows["metals", "stated"]["with_gap"] <= 1 and rows["metals", "stated"]["zero_off_p90"] == 0


def test_no_crystal_has_a_distance_from_itself(reading, labels):
    for row in reading.comparisons(labels[:30], 6, 1):
        if row["compared_with"] == "itself":
            assert "distance" not in row and sum(row.get(what, 0) for what in ("refused", "alike")) == 6
