"""Targets with wishes through the calcfunctions: screened by predictions, scored by DFT with channels, ranked by both."""

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import Dict, List, QueryBuilder

from aiida_dosmatgen.calculations.functions import BAD_CONTENT, add_wishes, rank, score_dos, screen
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dft.bands import CHANNELS
from aiida_dosmatgen.core.dos import DEFAULT_GRID, gaussian_dos
from aiida_dosmatgen.core.screening.geometries import join_geometries
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.distances import ONE_MISS
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.target import DosTargetData

pytestmark = pytest.mark.usefixtures("aiida_profile")

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
WISHES = ["states from -4 to -2: 4 +- 0.2", "d band centre -3 +- 0.1", "nothing from 1 to 3"]


def curve(centre, states):
    """States/eV of an atom with one level."""
    return gaussian_dos(np.array([centre]), np.array([states]))


def candidate(number, centre=-3.0, states=4.0, a=4.36, geometry="relaxed"):
    """A zincblende SiC whose two atoms have one predicted level each."""
    return CrystalSet(
        [2], [14, 6], [[0, 0, 0], [0.25] * 3], a * FCC[None],
        {"energy": [-14.4], "status": np.array(["converged"]), "candidate": [number], "geometry": np.array([geometry])},
        {"predicted_dos": np.tile(np.float32(curve(centre, states)), (2, 1))},
    )  # fmt: skip


def screened(crystals, target, **criteria):
    result, node = screen.run_get_node(
        crystals=CrystalSetData(crystals),
        references=Dict({"energies": {"Si": -5.0, "C": -9.0}}),
        target=target,
        criteria=Dict({"unique": False, **criteria}),
    )
    assert node.is_finished_ok, node.exit_message
    return result


def computed(number, centre=-3.0, states=4.0, d_states=10.0, gap=0.0):
    """What DFT says of it: the level of each atom is of p, and one atom has a d level at −3.2 eV."""
    values = np.zeros((2, 1, 4, DEFAULT_GRID.n))
    values[:, 0, 1] = curve(centre, states)
    values[0, 0, 2] = curve(-3.2, d_states)
    about = {"zero": "fermi", "gap": gap, "n_electrons": 2 * states + d_states, "channels": CHANNELS}
    curves = Curves(np.repeat(values, 2, 1) / 2, DEFAULT_GRID.points, 0.3, -10, 8, **about)
    bare = candidate(number).replace(crystal_columns={}, atom_columns={})
    return CrystalSetData(with_curves(bare, curves))


def test_candidates_are_ranked_by_what_they_miss():
    crystals = CrystalSet.concatenate([candidate(0, states=5.0), candidate(1, states=4.4), candidate(2, centre=2.0)])
    result = screened(crystals, DosTargetData.from_wishes(WISHES))
    rows = result["report"].get_dict()["ranking"]
    assert [row["candidate"] for row in rows] == [1, 0, 2]
    first = rows[0]
    assert first["wishes"][0]["value"] == pytest.approx(4.4, abs=0.01)
    assert first["wishes"][0]["missed_by"] == pytest.approx(0.2, abs=0.01) and first["wishes"][0]["met"] is False
    assert first["wishes"][1]["met"] is None and "does not tell d states" in first["wishes"][1]["note"]
    assert first["wishes"][2]["met"] is True
    assert first["missed"] == pytest.approx(1 + 1 + 0, abs=0.05)  # the centre is not known: one tolerance
    assert first["score"] == first["distance"] == pytest.approx(ONE_MISS * first["missed"])
    assert first["predicted_distance"] is None and first["wasserstein"] is None
    assert result["crystals"].crystals.crystal_columns["distance"] == pytest.approx([row["distance"] for row in rows])
    close = screened(crystals, DosTargetData.from_wishes(WISHES), max_predicted_distance=0.3)["report"].get_dict()
    assert close["funnel"]["close"] == 1 and close["rejected"]["predicted distance too large"] == [0, 2]


def test_the_geometry_that_misses_less_counts():
    relaxed, unrelaxed = candidate(7, states=5.0), candidate(7, states=4.1, a=4.5)
    both = {"geometries": ["relaxed", "unrelaxed"]}
    joined = join_geometries(relaxed, unrelaxed)
    rows = screened(joined, DosTargetData.from_wishes(WISHES), **both)["report"].get_dict()["ranking"]
    assert [row["geometry"] for row in rows] == ["unrelaxed"] and rows[0]["wishes"][0]["met"]


def test_a_curve_and_wishes_count_together():
    curve_alone = DosTarget(curve(-3.0, 4.0), "total")
    with_wishes = DosTargetData(curve_alone.wishing(["nothing from 1 to 3", "states from -4 to -2: <= 3 +- 0.5"]))
    crystals = CrystalSet.concatenate([candidate(0, centre=-3.0), candidate(1, centre=-3.0, states=3.0)])
    rows = {row["candidate"]: row for row in screened(crystals, with_wishes)["report"].get_dict()["ranking"]}
    plain = {row["candidate"]: row for row in screened(crystals, DosTargetData(curve_alone))["report"].get_dict()["ranking"]}
    for number, missed in ((0, 2.0), (1, 0.0)):
        assert rows[number]["predicted_distance"] == plain[number]["predicted_distance"]
        assert rows[number]["missed"] == pytest.approx(missed, abs=0.03)
        expected = rows[number]["predicted_distance"] + ONE_MISS * rows[number]["missed"]
        assert rows[number]["score"] == pytest.approx(expected)
        assert "wishes" not in plain[number] and "distance" not in plain[number]


def test_dft_knows_what_predictions_do_not():
    target = DosTargetData.from_wishes([*WISHES, "gap <= 0.1"])
    score = score_dos(computed(0), target).get_dict()
    centre, gap = score["wishes"][1], score["wishes"][3]
    assert centre["value"] == pytest.approx(-3.2, abs=0.02) and centre["missed_by"] == pytest.approx(0.1, abs=0.02)
    assert (gap["value"], gap["met"]) == (0.0, True) and "note" not in gap  # of the calculation, not read from the curve
    assert score["mae"] is None and score["distance"] == pytest.approx(ONE_MISS * score["missed"])
    assert (score["gap"], score["formula"]) == (0.0, "SiC")
    query = QueryBuilder().append(Dict, filters={"attributes.missed": {"<": score["missed"] + 1e-6}}, project="id")
    assert query.count() >= 1


def test_the_final_order_is_that_of_what_dft_says_is_missed():
    nodes = {"dos_0": computed(0, gap=0.9), "dos_1": computed(1, gap=0.3), "dos_2": computed(2, gap=1.4)}
    target = DosTargetData.from_wishes(["gap >= 1 +- 0.1"])
    scores = {f"candidate_{i}": score_dos(nodes[f"dos_{i}"], target) for i in range(3)}
    report = Dict({"ranking": [{"candidate": i} for i in range(4)]})
    ranking = rank(report=report, target=target, **scores, **nodes).get_dict()
    assert ranking["window"] is None
    assert [row["candidate"] for row in ranking["ranking"]] == [2, 0, 1, 3]
    assert [row["dft"]["missed"] for row in ranking["ranking"][:3]] == pytest.approx([0, 1, 7])
    both = DosTargetData(DosTarget(curve(-3.0, 4.0), "total").wishing(["gap >= 1 +- 0.1"]))
    scores = {f"candidate_{i}": score_dos(nodes[f"dos_{i}"], both) for i in range(3)}
    ranking = rank(report=report, target=both, **scores, **nodes).get_dict()
    assert [row["candidate"] for row in ranking["ranking"]] == [2, 0, 1, 3]
    for row in ranking["ranking"][:3]:
        assert row["dft"]["distance"] == pytest.approx(row["dft"]["mae"] + ONE_MISS * row["dft"]["missed"])


def test_wishes_are_added_with_provenance_and_can_be_queried():
    first = DosTargetData(DosTarget(curve(-3.0, 4.0), "total"), label_source="a sketch").store()
    made, node = add_wishes.run_get_node(target=first, wishes=List(["gap >= 1.5", {"kind": "peak", "energy": -3}]))
    assert node.is_finished_ok and node.inputs.target.uuid == first.uuid
    assert made.base.attributes.get("wishes") == ["gap >= 1.5 +- 0.2 eV", "peak at -3 +- 0.2 eV"]
    assert made.base.attributes.get("only_wishes") is False and not made.target.only_wishes
    assert made.base.attributes.get("label_source").startswith("a sketch; gap >= 1.5")
    query = QueryBuilder().append(DosTargetData, filters={"attributes.wish_kinds": {"contains": ["gap"]}}, project="uuid")
    assert made.uuid in query.all(flat=True) and first.uuid not in query.all(flat=True)
    assert "wishes" not in first.base.attributes.all  # as of targets that were stored before there were any
    _, again = add_wishes.run_get_node(target=made, wishes=List(["gap at least 1.5"]))
    assert again.exit_status == BAD_CONTENT and "wished for twice" in again.exit_message


def test_a_node_of_wishes():
    node = DosTargetData.from_wishes(WISHES, n_atoms=4).store()
    get = node.base.attributes.get
    assert (get("kind"), get("n_atoms"), get("only_wishes"), get("wish_kinds")) == (
        "total", 4, True, ["band centre", "nothing", "states"],
    )  # fmt: skip
    assert list(map(str, node.target.wishes)) == get("wishes")
    with pytest.raises(ValidationError, match="wish 1: 'gap > 1' is no wish"):
        DosTargetData.from_wishes(["gap > 1"])
