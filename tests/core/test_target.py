"""Targets: made from people's files, refused in one line, compared site by site."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid, mean_absolute_error
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.target import DosTarget

from .strategies import curves

ENERGIES = np.linspace(-12, 12, 241)
CURVE = np.exp(-((ENERGIES + 2) ** 2))


# --- round trips ----------------------------------------------------------------------------------------------------------


@given(curves(), st.sampled_from([math.inf, 3.25, -1.0]))
def test_file_round_trip(tmp_path_factory, values, limit):
    path = tmp_path_factory.mktemp("target") / "target.npz"
    target = DosTarget(values, complete_below=limit)
    target.save(path, source="test")
    back = DosTarget.load(path)
    np.testing.assert_array_equal(back.curves, target.curves)
    assert (back.kind, back.n_atoms, back.complete_below, back.grid) == ("sites", len(values), limit, DEFAULT_GRID)


def test_file_round_trip_of_a_total_curve_on_another_grid(tmp_path):
    grid = EnergyGrid(-5, 5, 101)
    target = DosTarget.from_curves(ENERGIES, CURVE, n_atoms=2, grid=grid)
    target.save(tmp_path / "target.npz")
    back = DosTarget.load(tmp_path / "target.npz")
    np.testing.assert_array_equal(back.curves, target.curves)
    assert (back.kind, back.n_atoms, back.grid) == ("total", 2, grid)


@given(curves())
def test_csv_and_json_say_the_same(values):
    table = "\n".join(",".join(map(repr, map(float, row))) for row in np.column_stack([DEFAULT_GRID.points, values.T]))
    record = {"energies": DEFAULT_GRID.points.tolist()}
    record |= {"sites": values.tolist()} if len(values) > 1 else {"total": values[0].tolist()}
    options = {"per_atom": True} if len(values) == 1 else {}
    from_csv = DosTarget.from_text("energy,dos\n# a comment\n\n" + table, **options)
    from_json = DosTarget.from_text(json.dumps(record | options))
    np.testing.assert_array_equal(from_csv.curves, from_json.curves)
    np.testing.assert_allclose(from_csv.curves, values)
    assert from_csv.kind == from_json.kind == ("sites" if len(values) > 1 else "total")


@pytest.mark.parametrize("separator", [",", " ", "\t", ";", "  "])
def test_csv_separators(separator):
    text = "\n".join(f"{e:.6f}{separator}{v:.6f}" for e, v in zip(ENERGIES, CURVE, strict=True))
    target = DosTarget.from_text(text, n_atoms=2)
    assert target.n_atoms == 2
    assert target.total.max() == pytest.approx(0.5, abs=1e-2)


def test_a_total_curve_is_stored_per_atom():
    total, per_atom = (DosTarget.from_curves(ENERGIES, CURVE, n_atoms=4, per_atom=p) for p in (False, True))
    np.testing.assert_allclose(4 * total.curves, per_atom.curves)


def test_a_curve_is_trusted_to_its_end():
    assert DosTarget.from_curves(ENERGIES, CURVE, n_atoms=1).complete_below == math.inf
    short = ENERGIES < 4.05
    assert DosTarget.from_curves(ENERGIES[short], CURVE[short], n_atoms=1).complete_below == pytest.approx(4)
    assert DosTarget.from_curves(ENERGIES, CURVE, n_atoms=1, complete_below=2).complete_below == 2


def test_rounding_noise_below_zero_is_clipped():
    curve = CURVE.copy()
    curve[:50] = -1e-9
    assert DosTarget.from_curves(ENERGIES, curve, n_atoms=1).curves.min() == 0


# --- distances ------------------------------------------------------------------------------------------------------------


@given(curves(n=4), st.permutations(range(4)))
def test_the_order_of_atoms_does_not_matter(values, order):
    target = DosTarget(values)
    np.testing.assert_allclose(values[list(order)][target.match(values[list(order)])], values)
    assert target.distances(values[list(order)])["mae"] == pytest.approx(0, abs=1e-12)


@given(curves(n=3), curves(n=3))
def test_matching_is_no_worse_than_any_order(values, other):
    distances = DosTarget(values).distances(other)
    assert distances["mae"] <= mean_absolute_error(other, values) + 1e-12
    assert distances["mae_total"] <= distances["mae"] + 1e-12
    assert set(distances) == {"mae", "mae_window", "mae_total", "wasserstein"}
    assert all(math.isfinite(d) and d >= 0 for d in distances.values())


@given(curves(n=2), curves(n=3))
def test_another_number_of_atoms_is_compared_by_the_total(values, other):
    distances = DosTarget(values).distances(other)
    assert distances["mae"] == distances["mae_total"]


def test_a_total_target_compares_totals():
    target = DosTarget(np.ones(400), kind="total", n_atoms=2)
    assert target.distances(np.stack([np.zeros(400), np.full(400, 2.0)]))["mae"] == 0


def test_the_lower_of_both_limits_counts():
    curve = np.ones((1, 400))
    beyond = np.where(DEFAULT_GRID.points > 2, 50.0, 1.0)[None]
    assert DosTarget(curve, complete_below=2).distances(beyond)["mae"] == 0
    assert DosTarget(curve).distances(beyond, complete_below=2)["mae"] == 0
    assert DosTarget(curve).distances(beyond)["mae"] > 1


# --- refusals -------------------------------------------------------------------------------------------------------------

GOOD = np.ones((2, 400))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DosTarget(np.where(np.arange(400) == 7, np.nan, 1.0)), "NaN or infinite"),
        (lambda: DosTarget(np.where(np.arange(400) == 7, -0.5, 1.0)), r"negative \(-0.5 states/eV at -9.65 eV, curve 0\)"),
        (lambda: DosTarget(np.zeros(400)), "zero everywhere between -10 and 10 eV"),
        (lambda: DosTarget(np.ones((2, 399))), r"shape \(2, 399\), expected \(number of sites, 400\)"),
        (lambda: DosTarget(np.ones((0, 400))), "expected"),
        (lambda: DosTarget(GOOD, kind="total"), "a total DOS is one curve, not 2"),
        (lambda: DosTarget(GOOD, kind="partial"), "of kind 'sites' or 'total', not 'partial'"),
        (lambda: DosTarget(GOOD, n_atoms=3), "2 site curves but 3 atoms"),
        (lambda: DosTarget(GOOD[0], kind="total", n_atoms=0), "cannot have 0 atoms"),
        (lambda: DosTarget(GOOD, complete_below=-10), "complete below -10 eV only, left of the grid"),
        (lambda: DosTarget.from_curves(ENERGIES, CURVE), "needs n_atoms"),
        (lambda: DosTarget.from_curves(ENERGIES + 40, CURVE, n_atoms=1), "zero everywhere"),
        (lambda: DosTarget.from_curves(ENERGIES[::-1], CURVE, n_atoms=1), "must increase strictly"),
        (lambda: DosTarget.from_curves(ENERGIES[1:], CURVE, n_atoms=1), "240 energies but 241 values"),
        (lambda: DosTarget.from_text(""), "no table of numbers"),
        (lambda: DosTarget.from_text("energy,dos\n"), "no table of numbers"),
        (lambda: DosTarget.from_text("0,1\n1,2,3\n"), "line 2: 3 columns, expected 2"),
        (lambda: DosTarget.from_text("0\n1\n"), "line 1: 1 columns, expected 2"),
        (lambda: DosTarget.from_text("0,1\n1,x\n"), "line 2: '1,x' are not numbers"),
        (lambda: DosTarget.from_text("0,1\n1,nan\n", n_atoms=1), "NaN"),
        (lambda: DosTarget.from_text("{"), "not valid JSON"),
        (lambda: DosTarget.from_text('{"energies": [0, 1]}'), "must have the keys energies and one of total, sites"),
        (lambda: DosTarget.from_text('{"energies": [0], "total": [0], "extra": 1}'), r"unknown: \['extra'\]"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "sites": [[1], [1, 2]]}'), "all of one length"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "sites": [1, 2]}'), "total is one list of numbers, sites a list"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": "two"}'), "n_atoms must be"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": 0}'), "n_atoms must be"),
        (
            lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": 1, "complete_below": "x"}'),
            "complete_below must be",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ContentError, match=message) as info:
        make()
    assert "\n" not in str(info.value)


def test_a_truncated_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "target.npz"
    DosTarget(GOOD).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ContentError, match="not a whole dosmatgen-target file"):
        DosTarget.load(path)
    np.savez(path, curves=GOOD)
    with pytest.raises(ContentError, match="no dosmatgen-target header"):
        DosTarget.load(path)
