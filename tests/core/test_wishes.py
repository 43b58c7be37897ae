"""Wishes: read as they are written, measured as by hand, weighed in one number, and granted by the curve made of them."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.distances import (
    ONE_MISS,
    distance_of,
    in_short,
    in_words,
    measured_wishes,
    rank_key,
    with_distance,
)
from aiida_dosmatgen.core.target.measuring import empty_above_zero
from aiida_dosmatgen.core.target.possible import check_possible
from aiida_dosmatgen.core.target.wish_text import wish, wishes_of
from aiida_dosmatgen.core.target.wishes import (
    KINDS,
    BandCentre,
    BandWidth,
    Gap,
    Nothing,
    Peak,
    States,
    wish_of,
)

ENERGIES = np.linspace(-15, 10, 501)
CHANNELS = ("s", "p", "d", "f")


def levels(*where, sigma=0.1, sites=2, high=10.0, gap=None, channels=CHANNELS):
    """Curves of a crystal with Gaussian levels (energy, states for the whole cell, channel), shared by its sites."""
    values = np.zeros((sites, 1, len(channels), len(ENERGIES)))
    for energy, states, channel in where:
        shape = np.exp(-0.5 * ((ENERGIES - energy) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        values[:, 0, channels.index(channel)] += states / sites * shape
    return Curves(values, ENERGIES, sigma, -15, high, "vbm", gap, channels=channels)


CRYSTAL = levels((-6, 4, "s"), (-3, 8, "p"), (-2, 12, "d"), (2, 6, "d"))  # two atoms: 12 electrons each below zero


# --- as people write them ---------------------------------------------------------------------------------------------

numbers = st.floats(-20, 20, allow_nan=False).map(lambda x: x + 0.0)
positive = st.floats(0.001, 50, allow_nan=False)
windows = st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1])
relations = st.sampled_from([">=", "<=", "="])
channels = st.sampled_from([None, *CHANNELS])


@st.composite
def any_wish(draw):
    """A wish of any kind with any numbers."""
    common = {"tolerance": draw(positive), "weight": draw(positive)}
    low, high = draw(windows)
    window, channel, relation = {"low": low, "high": high}, draw(channels), draw(relations)
    return draw(
        st.sampled_from(
            [
                Gap(relation=relation, value=draw(positive), **common),
                Nothing(channel=channel, **window, **common),
                States(channel=channel, relation=relation, value=draw(positive), **window, **common),
                Peak(channel=channel, energy=draw(numbers), **common),
                BandCentre(channel=channel, relation=relation, value=draw(numbers), **window, **common),
                BandWidth(channel=channel, relation=relation, value=draw(positive), **window, **common),
            ]
        )
    )


@given(any_wish())
def test_what_is_written_is_read_as_the_same(one):
    assert wish(str(one)) == one
    assert wish_of(json.loads(json.dumps(one.model_dump()))) == one


@given(any_wish(), st.data())
def test_it_may_be_written_in_many_ways(one, data):
    """Signs of typesetting, words for relations, other spelling, spaces and units that were left out."""
    text = str(one)
    same = {
        ">=": ("≥", "at least"), "<=": ("≤", "at most"), "+-": ("±", "+/-"), " eV": ("", " ev"),
        " per atom": ("", " states/atom", "/atom"), "centre": ("center",),
    }  # fmt: skip
    for sign, others in same.items():
        text = text.replace(sign, data.draw(st.sampled_from([sign, *others])))
    text = text.replace(" -", data.draw(st.sampled_from([" -", " −"])))
    text = data.draw(st.sampled_from([text, text.upper(), text.replace(" ", "  ")]))
    assert wish(text) == one


@settings(max_examples=300)
@given(st.one_of(st.text(), st.from_regex(r"(gap|states|nothing|peak|d band) .{0,40}", fullmatch=True)))
def test_anything_else_is_refused_in_one_line(text):
    try:
        found = wish(text)
    except ContentError as exception:
        assert len(str(exception).splitlines()) == 1
    else:
        assert wish(str(found)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap > 2", "'gap > 2' is no wish; write it like 'gap >= 1.5 +- 0.1'"),
        ("states between -2 and 0: 4", "write it like 'states from -2 to 0: 4 +- 0.5 per atom'"),
        ("states from 0 to -2: 4", "the energies go from 0 to -2 eV; give the lower one first"),
        ("gap >= -1", "value: Input should be greater than or equal to 0"),
        ("peak at -3 +- 0", "tolerance: Input should be greater than 0"),
        ("g band centre -2", "is no wish; write it like 'd band centre -2"),
        ("something", "write it like 'gap >= 1.5 +- 0.1' | 'nothing from 0.2 to 2"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(ContentError, match="^[^\n]*$") as refused:
        wish(text)
    assert message in str(refused.value)


def test_lists_of_them():
    texts = ["gap >= 1.5", "d band centre -2"]
    assert wishes_of(texts) == wishes_of({"wishes": texts}) == (Gap(relation=">=", value=1.5), wish(texts[1]))
    assert wishes_of([{"kind": "gap", "relation": ">=", "value": 1.5}]) == wishes_of(texts[:1])
    for content, message in (
        ({"wishes": texts, "curve": 1}, "expected a list of wishes, or the single key 'wishes'"),
        ("gap >= 1.5", "expected a list of wishes, not"),
        ([], "there are none"),
        (["gap >= 1.5", "gap at least 1.5 eV"], "gap >= 1.5 +- 0.2 eV is wished for twice"),
        (["gap >= 1.5", {"kind": "gaps"}], "wish 2: a wish of kind 'gaps' is not known; known are gap, nothing"),
        ([{"kind": "gap", "value": 1, "tolerence": 2}], "unknown key, did you mean 'tolerance'"),
    ):
        with pytest.raises(ContentError) as refused:
            wishes_of(content, "mine.yaml")
        assert str(refused.value).startswith("mine.yaml") and message in str(refused.value)


# --- measured ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "missed_by"),
    [
        ("states from -7 to -5: 2 +- 0.1", 2, 0),
        ("states from -4 to 0: 8 +- 0.5", 10, 1.5),
        ("states from -4 to 0: >= 12 +- 0.5", 10, 2),
        ("states from -4 to 0: <= 12", 10, 0),
        ("d states from -4 to 4: 9", 9, 0),
        ("p states from -4 to 4: 9 +- 1", 4, 4),
        ("nothing from -5 to -4", 0, 0),
        ("nothing from 1 to 3 +- 0.5", 3, 2.5),
        ("no p states from 1 to 3", 0, 0),
        ("peak at -2.1 +- 0.2", -2, 0),
        ("p peak at -2.1 +- 0.2", -3, 0.7),
        ("band centre -3 from -8 to 0", -3, 0),
        ("d band centre -2 +- 0.1", -2 + 4 * 6 / 18, 4 * 6 / 18 - 0.1),
        ("d band centre <= -2 +- 0.1", -2 + 4 * 6 / 18, 4 * 6 / 18),
        ("d band width 2 +- 0.2", np.sqrt(16 * 2 / 9), 0),
        ("s band width <= 0.05", 0, 0),
    ],
)
def test_measured_by_hand(text, value, missed_by):
    found = wish(text).measure(CRYSTAL)
    assert found.value == pytest.approx(value, abs=0.02)
    assert found.missed_by == pytest.approx(missed_by, abs=0.02)
    assert found.met is (missed_by == 0)


def test_the_broadening_does_not_widen_a_band():
    narrow, broad = (levels((-3, 4, "d"), (-1, 4, "d"), sigma=sigma) for sigma in (0.05, 0.4))
    one = wish("d band width 1")
    assert one.measure(narrow).value == pytest.approx(1, abs=0.01)
    assert one.measure(broad).value == pytest.approx(1, abs=0.01)


def test_the_gap_is_that_of_the_calculation_or_else_that_of_the_curve():
    one = wish("gap >= 1.5 +- 0.1")
    assert one.measure(dataclasses.replace(CRYSTAL, gap=1.2)).missed_by == pytest.approx(0.3)
    assert one.measure(dataclasses.replace(CRYSTAL, gap=0.0)).value == 0
    read = one.measure(CRYSTAL)
    assert read.met and "from the curve" in read.note and 1.5 < read.value < 2
    metal = levels((-2, 4, "s"), (0, 2, "s"), (1, 2, "s"), sigma=0.5)
    assert empty_above_zero(metal) == (0.0, "from the curve")
    value, note = empty_above_zero(levels((-2, 4, "s")))
    assert value == 10 and "empty as far as it is known" in note


def test_channels_that_a_curve_does_not_tell_are_not_known_and_never_met():
    summed = CRYSTAL.summed()
    for text in ("d states from -4 to 0: <= 100", "no f states from -4 to 0", "d band centre -2", "d peak at -2"):
        found = wish(text).measure(summed)
        assert (found.value, found.missed_by, found.met) == (None, None, None)
        assert "does not tell" in found.note
        assert wish(text).measure(CRYSTAL).met is not None


def test_energies_that_a_curve_does_not_reach_are_not_known():
    found = wish("nothing from 2 to 5").measure(levels((-2, 4, "s"), high=4.0))
    assert found.met is None and found.note == "not known: the curve goes from -15.0 to 4.0 eV"
    assert wish("d band centre -2").measure(CRYSTAL.cut(high=3.0)).met is None


def test_without_peaks_and_without_states_there_is_no_value():
    flat = Curves(np.ones((1, 1, 1, 501)), ENERGIES, 0.1, -15, 10)
    found = wish("peak at -3").measure(flat)
    assert found.met is False and found.value is None and found.missed_by == 25
    assert wish("f band centre -2").measure(CRYSTAL) == wish("f band width 2").measure(CRYSTAL)
    assert wish("f band centre -2").measure(CRYSTAL).met is None


def test_a_total_needs_its_number_of_atoms():
    total = CRYSTAL.summed(sites=True)
    assert wish("nothing from -7 to -5").measure(total, n_atoms=2).value == pytest.approx(2, abs=0.02)
    with pytest.raises(ContentError, match="needs the number of atoms"):
        wish("nothing from -7 to -5").measure(total)


# --- weighed ----------------------------------------------------------------------------------------------------------


def test_the_distance_is_the_sum_of_weighted_misses():
    wishes = wishes_of(["states from -4 to 0: 8 +- 0.5", "d states from -4 to 4: 9", "nothing from 1 to 3 +- 0.5 (weight 2)"])
    found = measured_wishes(wishes, CRYSTAL)
    assert found["missed"] == pytest.approx(1.5 / 0.5 + 0 + 2 * 2.5 / 0.5, abs=0.1)
    assert in_short(found["wishes"]) == "1 of 3"
    assert in_words(found["wishes"][0]) == "10.00 states/atom, missed by 1.50"
    assert distance_of(with_distance({"mae": None, **found})) == pytest.approx(ONE_MISS * found["missed"])
    assert distance_of(with_distance({"mae": 0.2, **found})) == pytest.approx(0.2 + ONE_MISS * found["missed"])
    assert distance_of({"mae": 0.2}) == 0.2 and rank_key({}) == rank_key(None) == np.inf
    json.dumps(found, allow_nan=False)


def test_what_is_not_known_counts_as_missed_by_one_tolerance():
    found = measured_wishes(wishes_of(["d band centre 1 (weight 3)", "nothing from -5 to -4"]), CRYSTAL.summed())
    assert found["missed"] == 3 and in_short(found["wishes"]) == "1 of 2 (1 not known)"
    assert "does not tell d states" in in_words(found["wishes"][0])


# --- as targets -------------------------------------------------------------------------------------------------------

GRANTED = (
    ["gap >= 1.5"], ["gap 3"], ["gap 0"], ["nothing from -1 to 0"], ["nothing from 1 to 4"], ["states from -2 to 0: 4 +- 0.5"],
    ["states from -4 to 0: <= 1"], ["peak at -3"], ["band centre -3 from -8 to 0"], ["band centre <= -5 from -8 to 0"],
    ["gap 1.5", "states from -4 to 0: 4 +- 0.2", "peak at -3", "nothing from -8 to -5"],
)  # fmt: skip


@pytest.mark.parametrize("wishes", GRANTED, ids="; ".join)
def test_the_curve_that_is_made_grants_them(wishes):
    target = DosTarget.from_wishes(wishes)
    found = measured_wishes(target.wishes, target.dos, n_atoms=1)
    assert found["missed"] < 0.5 * len(wishes), [in_words(row) for row in found["wishes"]]
    assert target.kind == "total" and target.n_atoms is None and target.total.min() >= 0
    spoken = target.spoken(target.grid.points)
    assert spoken.any() and not spoken.all()


@pytest.mark.parametrize("wishes", GRANTED, ids="; ".join)
def test_a_curve_within_the_bounds_meets_the_wish_and_one_that_does_not_is_not(wishes):
    """What a classifier follows says the same as the measure, for random curves."""
    rng, points = np.random.default_rng(0), DEFAULT_GRID.points
    compared = 0
    for one in wishes_of(wishes):
        bounds = one.bounds(points)
        if bounds is None or one.kind == "gap":
            continue
        for _ in range(60):
            centres, heights = rng.uniform(-8, 8, (8, 1)), rng.uniform(0, 3, (8, 1)) * rng.integers(0, 2, (8, 1))
            values = (heights * np.exp(-(((points - centres) / 0.8) ** 2))).sum(0) + 1e-3
            inside = bool(((bounds.rows @ values >= bounds.low) & (bounds.rows @ values <= bounds.high)).all())
            missed_by = one.measure(Curves(values[None, None, None], points, None, -10, 10)).missed_by
            if inside or missed_by > 0.1:  # the sum over points is not quite the integral
                assert inside == (missed_by < 0.1)
                compared += 1
    assert compared or all(one.kind in ("gap", "peak") for one in wishes_of(wishes))


def test_wishes_that_contradict_each_other_are_found():
    target = DosTarget.from_wishes(["nothing from -2 to 0", "states from -2 to 0: 3"])
    assert measured_wishes(target.wishes, target.dos, n_atoms=1)["missed"] > 3


def test_stored_and_read(tmp_path):
    plain = DosTarget.from_wishes(["gap >= 1.5 (weight 2)", "d band centre -2"], n_atoms=4)
    plain.save(tmp_path / "wishes.npz")
    read = DosTarget.load(tmp_path / "wishes.npz")
    assert (read.wishes, read.only_wishes, read.n_atoms, read.kind) == (plain.wishes, True, 4, "total")
    np.testing.assert_array_equal(read.total, plain.total)
    both = DosTarget(np.ones((2, 400))).wishing(["gap >= 1.5"])
    both.save(tmp_path / "both.npz")
    read = DosTarget.load(tmp_path / "both.npz")
    assert (read.wishes, read.only_wishes, read.kind) == (both.wishes, False, "sites")


def test_a_target_without_wishes_is_the_file_that_it_was(tmp_path):
    DosTarget(np.ones((2, 400))).save(tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as archive:
        header = json.loads(str(archive["__header__"]))
    assert header["version"] == 3 and not any("wish" in key for key in header)


def test_the_curve_and_the_wishes_are_compared_together():
    dos = CRYSTAL.summed()
    curve = DosTarget(dos)
    both = curve.wishing(["states from -4 to 0: 8 +- 0.5", "d states from -4 to 4: 9"])
    found = both.distances(dos, resolved=CRYSTAL)
    assert found["mae"] == pytest.approx(0, abs=1e-9) and found["distance"] == pytest.approx(ONE_MISS * 3, abs=0.01)
    assert both.distances(dos)["wishes"][1]["met"] is None
    assert "distance" not in curve.distances(dos) and "wishes" not in curve.distances(dos)
    alone = DosTarget.from_wishes(both.wishes).distances(dos, resolved=CRYSTAL)
    assert alone["mae"] is None and alone["distance"] == pytest.approx(ONE_MISS * 3, abs=0.01)
    json.dumps(alone, allow_nan=False)


def test_wishes_go_where_their_curves_go():
    sites = DosTarget(np.ones((1, 400))).wishing(["gap >= 1.5"])
    assert sites.at([1], 3).wishes == sites.wishes == sites.on(DEFAULT_GRID).wishes == sites.for_model(DEFAULT_GRID, 0.3).wishes
    other = DosTarget(np.ones((1, 400))).wishing(["peak at -3", "gap >= 1.5"])
    joined = DosTarget.combine([(sites, [0]), (other, [1])])
    assert list(map(str, joined.wishes)) == ["gap >= 1.5 +- 0.2 eV", "peak at -3 +- 0.2 eV"]
    alone = DosTarget.from_wishes(["gap >= 1.5"])
    with pytest.raises(ContentError, match="wishes are for the whole crystal"):
        alone.at([0])
    more = alone.wishing(["peak at -3"])
    assert more.only_wishes and len(more.wishes) == 2 and not np.allclose(more.total, alone.total)
    with pytest.raises(ContentError, match="wished for twice"):
        more.wishing(["gap >= 1.5"])


def test_each_kind_has_a_name():
    assert set(KINDS) == {"gap", "nothing", "states", "peak", "band centre", "band width"}


# --- what no crystal can have -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["peak at 100"], "curves are known from -20 to 20 eV at most"),
        (["states from 30 to 40: 1"], "curves are known from"),
        (["gap >= 30"], "no crystal has a gap of more than 20 eV"),
        (["states from -2 to 0: 100"], "they are counted for each atom, not for the cell"),
        (["nothing from -20 to 20"], "no room for the valence electrons"),
        (["d band centre -20"], "the centre of states from -10 to 4 eV is between these"),
        (["band width 9 from -10 to 0"], "at most 5 eV"),
        (["gap >= 3", "gap <= 1"], "exclude each other"),
        (["nothing from -1 to 1", "gap 0"], "exclude each other"),
        (["band centre -2 from -10 to 0", "band centre -5 from -10 to 0"], "exclude each other"),
        (["d states from -2 to 0: 1", "d states from -2 to 0: 3"], "exclude each other"),
    ],
)
def test_what_no_crystal_can_have_is_refused(texts, message):
    with pytest.raises(ContentError, match="^[^\n]*$") as refused:
        check_possible(wishes_of(texts))
    assert message in str(refused.value) and texts[0].split()[0] in str(refused.value)


def test_what_is_hard_is_not_refused():
    check_possible(
        wishes_of(["gap >= 1", "gap <= 2", "nothing from -1 to 1", "d states from -2 to 0: 3", "s states from -2 to 0: 1"])
    )
    check_possible(wishes_of(["gap 0", "nothing from 1 to 3", "band width 4.9 from -10 to 0", "band centre -2 from -8 to 0"]))
    check_possible(
        wishes_of(["band centre -2 from -10 to 0", "d band centre -5 from -10 to 0", "states from -2 to 0: 40 +- 10"])
    )


@pytest.mark.parametrize(
    ("text", "unit"), [("gap >= 1500 meV", "mev"), ("gap 0.1 Ha", "ha"), ("states from -2 to 0: 4 per cell", "per cell")]
)
def test_other_units_are_named(text, unit):
    with pytest.raises(ContentError, match=f"is in '{unit}'; give energies in eV, and states per atom"):
        wish(text)


def test_a_decimal_comma_is_understood_and_a_long_text_is_not_repeated():
    assert wish("gap >= 1,5 +- 0,1 eV") == wish("gap >= 1.5 +- 0.1 eV")
    with pytest.raises(ContentError) as refused:
        wish(100_000 * "x")
    assert len(str(refused.value)) < 400
