"""Targets: made from people's files, refused in one line, compared site by site."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import DEFAULT_GRID, EnergyGrid, gaussian_dos
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.archive import save_arrays
from aiida_dosmatgen.core.target import DosTarget

from .strategies import curves

ENERGIES = np.linspace(-12, 12, 241)
CURVE = np.exp(-((ENERGIES + 2) ** 2))
CURVES = np.exp(-((DEFAULT_GRID.points - np.array([[-4.0], [-2.0], [1.0]])) ** 2))
GOOD = np.ones((2, 400))
DISTANCES = ("mae", "mae_window", "mae_total", "wasserstein")


def mean_absolute_error(a, b):
    return float(np.abs(a - b).mean())


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
    assume(values[:, DEFAULT_GRID.points <= 0].sum() > 2e-3 * values.sum())  # else there are no electrons
    table = "\n".join(",".join(map(repr, map(float, row))) for row in np.column_stack([DEFAULT_GRID.points, values.T]))
    record = {"energies": DEFAULT_GRID.points.tolist()}
    record |= {"sites": values.tolist()} if len(values) > 1 else {"total": values[0].tolist()}
    options = {"per_atom": True} if len(values) == 1 else {}
    names = ["dos"] if len(values) == 1 else [f"Si{i}" for i in range(len(values))]
    from_csv = DosTarget.from_text(",".join(["energy", *names]) + "\n# a comment\n\n" + table, **options)
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


# --- chosen sites ---------------------------------------------------------------------------------------------------------


@given(curves(n=3), st.permutations([1, 4, 6]), st.sampled_from([None, 7, 12]))
def test_chosen_sites_are_kept_in_order_through_a_file(tmp_path_factory, values, sites, n_atoms):
    path = tmp_path_factory.mktemp("target") / "target.npz"
    target = DosTarget(values, n_atoms=n_atoms, sites=tuple(sites))
    assert (target.sites, target.atoms, target.n_atoms, target.least_atoms) == ((1, 4, 6), (1, 4, 6), n_atoms, 7)
    for site, curve in zip(sites, values, strict=True):
        np.testing.assert_array_equal(target.curves[target.sites.index(site)], curve)
    target.save(path)
    back = DosTarget.load(path)
    np.testing.assert_array_equal(back.curves, target.curves)
    assert (back.sites, back.n_atoms) == (target.sites, n_atoms)


def test_a_file_of_the_first_version_is_read(tmp_path):
    header = {"format": "dosmatgen-target", "version": 1, "kind": "sites", "n_atoms": 2, "complete_below": 3.5}
    header["grid"] = {"emin": -10.0, "emax": 10.0, "n": 400}
    save_arrays(tmp_path / "old.npz", header, {"curves": GOOD})
    old = DosTarget.load(tmp_path / "old.npz")
    assert (old.kind, old.n_atoms, old.complete_below, old.sites, old.atoms) == ("sites", 2, 3.5, None, (0, 1))
    save_arrays(tmp_path / "cut.npz", {k: v for k, v in header.items() if k != "grid"}, {"curves": GOOD})
    with pytest.raises(ContentError, match="a header that is not a target's: 'grid'"):
        DosTarget.load(tmp_path / "cut.npz")


def test_all_sites_are_no_choice():
    values = np.stack([CURVES[0], CURVES[1]])
    chosen = DosTarget(values, n_atoms=2, sites=(1, 0))
    assert chosen.sites is None
    np.testing.assert_array_equal(chosen.curves, values[::-1])
    assert DosTarget(values, sites=(0, 1)).sites == (0, 1)  # there may be more atoms


def test_one_curve_goes_to_several_sites():
    for kind in ("total", "sites"):
        target = DosTarget(CURVES[0], kind).at([5, 2], n_atoms=8)
        assert (target.kind, target.sites, target.n_atoms) == ("sites", (2, 5), 8)
        np.testing.assert_array_equal(target.curves, [CURVES[0], CURVES[0]])


def test_combined_targets():
    first, second = DosTarget(CURVES[0], "total", complete_below=4.0), DosTarget(CURVES[1:3], complete_below=3.0)
    both = DosTarget.combine([(first, [3, 0]), (second, [1, 5])], n_atoms=6)
    assert (both.sites, both.n_atoms, both.complete_below) == ((0, 1, 3, 5), 6, 3.0)
    np.testing.assert_array_equal(both.curves, CURVES[[0, 1, 0, 2]])
    more = DosTarget.combine([(both, None), (first, [2])])
    assert (more.sites, more.n_atoms) == ((0, 1, 2, 3, 5), None)
    whole = DosTarget.combine([(first, [0]), (second, [2, 1])], n_atoms=3)
    assert whole.sites is None
    np.testing.assert_array_equal(whole.curves, CURVES[[0, 2, 1]])


def test_combined_targets_share_the_energies_of_the_first():
    narrow = EnergyGrid(-5, 5, 201)
    first, second = DosTarget(CURVES[0]), DosTarget.from_curves(ENERGIES, CURVE[None], grid=narrow)
    both = DosTarget.combine([(first, [0]), (second, [1])])
    assert both.grid == DEFAULT_GRID and both.complete_below == 5.0
    inside = abs(DEFAULT_GRID.points) < 5
    np.testing.assert_allclose(both.curves[1, inside], np.interp(DEFAULT_GRID.points, ENERGIES, CURVE)[inside], atol=0.01)
    assert DosTarget.combine([(second, [0]), (first, [1])]).complete_below == math.inf


def test_curves_of_chosen_sites_from_text():
    sites = np.stack([CURVE, 2 * CURVE]).tolist()
    record = {"energies": ENERGIES.tolist(), "sites": sites, "site_indices": [4, 1]}
    target = DosTarget.from_text(json.dumps(record))
    assert (target.sites, target.n_atoms) == ((1, 4), None)
    assert target.curves[0].max() == pytest.approx(2, abs=1e-2)
    assert DosTarget.from_text(json.dumps({**record, "n_atoms": 6})).n_atoms == 6
    table = "\n".join(f"{e:.6f},{v:.6f}" for e, v in zip(ENERGIES, CURVE, strict=True))
    target = DosTarget.from_text(table, site_indices=[0, 3], n_atoms=4)
    assert (target.kind, target.sites, target.n_atoms) == ("sites", (0, 3), 4)
    np.testing.assert_allclose(target.curves.max(1), 1, atol=1e-2)  # a site's curve: not divided by the atoms of the cell


# --- distances ------------------------------------------------------------------------------------------------------------


@given(curves(n=5), st.permutations(range(5)))
def test_chosen_sites_are_compared_with_the_atoms_that_fit_them(values, order):
    target = DosTarget(values[:2], sites=(0, 3))
    dos = values[list(order)]
    np.testing.assert_allclose(dos[target.match(dos)], values[:2])
    found = target.distances(dos)
    assert [found[name] for name in DISTANCES] == pytest.approx([0] * 4, abs=1e-9)


@given(curves(n=2), curves(n=4))
def test_rectangular_matching_is_no_worse_than_any_choice(values, other):
    distances = DosTarget(values, sites=(0, 2)).distances(other)
    best = min(mean_absolute_error(other[list(pair)], values) for pair in itertools.permutations(range(4), 2))
    assert distances["mae"] == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert distances["mae_total"] <= distances["mae"] + 1e-12


def test_too_few_atoms_for_the_chosen_sites_are_compared_by_the_total():
    target = DosTarget(CURVES[:3], sites=(0, 1, 2))
    distances = target.distances(CURVES[:2])
    assert distances["mae"] == distances["mae_total"] > 0
    with pytest.raises(ContentError, match="a crystal of 2 atoms cannot have the 3 sites of the target"):
        target.match(CURVES[:2])


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
    assert set(distances) == {*DISTANCES, "r2", "low", "high", "sigma"}
    assert all(math.isfinite(distances[name]) and distances[name] >= 0 for name in DISTANCES)
    assert distances["r2"] <= 1
    assert (distances["low"], distances["high"], distances["sigma"]) == (-10, 10, 0.3)


@given(curves(n=2), curves(n=3))
def test_another_number_of_atoms_is_compared_by_the_total(values, other):
    distances = DosTarget(values).distances(other)
    assert distances["mae"] == distances["mae_total"]


def test_a_total_target_compares_totals():
    target = DosTarget(np.ones(400), kind="total", n_atoms=2)
    assert target.distances(np.stack([np.zeros(400), np.full(400, 2.0)]))["mae"] == 0


@given(curves(n=2), st.floats(-8, -2))
def test_a_curve_that_begins_later_is_compared_from_there(values, low):
    """What a file does not hold is no absence of states: the identical crystal stays the nearest."""
    part = DEFAULT_GRID.points >= low
    target = DosTarget.from_curves(DEFAULT_GRID.points[part], values[:, part])
    distances = target.distances(Curves(values[:, None, None], DEFAULT_GRID.points, 0.3, -10, 10))
    assert distances["mae"] == pytest.approx(0, abs=1e-12) and distances["mae_total"] == pytest.approx(0, abs=1e-12)
    assert distances["low"] == pytest.approx(low, abs=DEFAULT_GRID.spacing) and distances["high"] == 10


@given(curves(n=2), st.floats(0.1, 0.29), st.sampled_from([(-8, 8, 333), (-14, 9, 800)]))
def test_another_grid_and_broadening_change_no_distance(values, sigma, grid):
    levels = np.array([[-4.0, -1.0, 2.0], [-3.0, -0.5, 2.5]])
    energies = np.linspace(*grid)

    def of(points, width):
        return np.stack([gaussian_dos(row, values[i, :3] + 0.5, points, width) for i, row in enumerate(levels)])

    given_ = of(EnergyGrid(*grid), sigma)
    target = DosTarget.from_curves(energies, given_, sigma=sigma)
    reference = Curves(of(DEFAULT_GRID, 0.3)[:, None, None], DEFAULT_GRID.points, 0.3, -10, 10)
    distances = target.distances(reference)
    assert distances["mae"] < 0.005 and distances["sigma"] == 0.3


def test_what_a_target_says_of_its_curves_comes_back_from_a_file(tmp_path):
    text = "# sigma: 0.1\n# zero: vbm\n# gap: 1.2\n# meaning: projections\n" + "\n".join(
        f"{e:.6f} {v:.6f} {v:.6f}" for e, v in zip(ENERGIES, CURVE, strict=True)
    )
    target = DosTarget.from_text(text, low=-5.0)
    target.save(tmp_path / "target.npz")
    for one in (target, DosTarget.load(tmp_path / "target.npz")):
        dos = one.dos
        assert (dos.sigma, dos.zero, dos.gap, dos.meaning, dos.low, dos.high) == (
            *(0.1, "vbm", 1.2, "projections", -5),
            pytest.approx(12, abs=DEFAULT_GRID.spacing),
        )
    assert DosTarget.from_text(text, sigma=0.2).sigma == 0.2
    assert DosTarget.from_curves(ENERGIES, CURVE, n_atoms=1).sigma is None


def test_a_model_gets_its_energies_and_broadening():
    sharp = DosTarget(gaussian_dos(np.zeros(1), np.ones((1, 1)), sigma=0.2), sigma=0.2)
    wanted = gaussian_dos(np.zeros(1), np.ones((1, 1)), sigma=0.3)
    np.testing.assert_allclose(sharp.for_model(DEFAULT_GRID, 0.3).curves, wanted, atol=2e-3)
    for sigma in (None, 0.3, 0.5):  # taken as it is
        target = DosTarget(wanted, sigma=sigma)
        np.testing.assert_array_equal(target.for_model(DEFAULT_GRID, 0.3).curves, target.curves)
    with pytest.raises(ContentError, match="sigma must be a number in eV"):
        DosTarget.from_curves(ENERGIES, CURVE, n_atoms=1, sigma="x")
    with pytest.raises(ContentError, match="meaning must be one of partition, projections"):
        DosTarget.from_curves(ENERGIES, CURVE, n_atoms=1, meaning="all")


def test_the_lower_of_both_limits_counts():
    curve = np.ones((1, 400))
    beyond = np.where(DEFAULT_GRID.points > 2, 50.0, 1.0)[None]
    assert DosTarget(curve, complete_below=2).distances(beyond)["mae"] == 0
    assert DosTarget(curve).distances(beyond, complete_below=2)["mae"] == 0
    assert DosTarget(curve).distances(beyond)["mae"] > 1


def test_what_is_not_compared_does_not_choose_the_atoms():
    target = DosTarget(CURVES[:2], sites=(0, 1), complete_below=3.0)
    beyond = np.where(DEFAULT_GRID.points > 3, 9.0, 0.0)
    dos = np.stack([CURVES[2], CURVES[1] + beyond, CURVES[0]])
    assert target.match(dos).tolist() == [2, 1]
    assert target.distances(dos)["mae"] == 0
    assert DosTarget(CURVES[:2], sites=(0, 1)).distances(dos, complete_below=3.0)["mae"] == 0


# --- refusals -------------------------------------------------------------------------------------------------------------


def text(**changes):
    return json.dumps({"energies": [0, 1], "sites": [[1, 2], [2, 1]], **changes})


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
        (lambda: DosTarget.from_text("0,1\n1,2,3\n"), "line 2: 3 columns, but 2 in line 1"),
        (lambda: DosTarget.from_text("0\n1\n"), "no table of numbers .two columns and two lines or more"),
        (lambda: DosTarget.from_text("0,1\n1,x\n"), "line 2: 'x' is no number"),
        (lambda: DosTarget.from_text("0,1\n1,nan\n", n_atoms=1), "line 2: 'nan' is no finite number"),
        (lambda: DosTarget.from_text("{"), "not valid JSON"),
        (lambda: DosTarget.from_text('{"energies": [0, 1]}'), "must have the keys energies and one of total, sites"),
        (lambda: DosTarget.from_text('{"energies": [0], "total": [0], "extra": 1}'), r"unknown: \['extra'\]"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "sites": [[1], [1, 2]]}'), "all of one length"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "sites": [1, 2]}'), "total is one list of numbers, sites a list"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": "two"}'), "n_atoms must be"),
        (lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": 0}'), "n_atoms must be"),
        (
            lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "n_atoms": 1, "complete_below": "x"}'),
            "complete_below must be a number in eV",
        ),
        (lambda: DosTarget(GOOD, sites=(0,)), r"2 site curves but 1 sites \[0\]"),
        (lambda: DosTarget(GOOD, sites=(3, 3)), "site 3 is given 2 times; each site has one curve"),
        (lambda: DosTarget(GOOD, sites=(0, 4), n_atoms=4), "there is no site 4: the crystal has 4 atoms, counted from 0"),
        (lambda: DosTarget(GOOD, sites=(0, -1)), r"the sites \(0, -1\) are not a list of indices"),
        (lambda: DosTarget(GOOD, sites=(0, 1.5)), "not a list of indices"),
        (lambda: DosTarget(GOOD, sites=()), "not a list of indices"),
        (lambda: DosTarget(GOOD[0], "total", sites=(0,)), "a total DOS belongs to no site"),
        (lambda: DosTarget(GOOD).at([1, 2, 3]), r"2 site curves but 3 sites \[1, 2, 3\]"),
        (lambda: DosTarget(GOOD[0]).at([]), "not a list of indices"),
        (lambda: DosTarget.combine([]), "there are no targets to combine"),
        (lambda: DosTarget.combine([(DosTarget(GOOD), None)]), "target 0 of those to combine does not say for which sites"),
        (
            lambda: DosTarget.combine([(DosTarget(GOOD), [0, 2]), (DosTarget(GOOD), [3, 2])]),
            "targets 0 and 1 of those to combine are both for site 2",
        ),
        (lambda: DosTarget.combine([(DosTarget(GOOD), [0, 2])], n_atoms=2), "there is no site 2: the crystal has 2 atoms"),
        (lambda: DosTarget.from_text(text(site_indices=[0])), "2 site curves but 1 sites"),
        (lambda: DosTarget.from_text(text(site_indices=3)), "the sites 3 are not a list of indices"),
        (lambda: DosTarget.from_text(text(site_indices="01")), "the sites '01' are not a list of indices"),
        (lambda: DosTarget.from_text(text(site_indices=[True, 0])), "not a list of indices"),
        (
            lambda: DosTarget.from_text('{"energies": [0, 1], "total": [1, 2], "site_indices": [0]}'),
            "the file: a total DOS belongs to no site; give site_indices with sites",
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
