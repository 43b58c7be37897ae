import json

import numpy as np
import pytest
from pydantic import ValidationError

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.screening import RankWeights, ScreenCriteria, screen
from aiida_dosmatgen.core.screening.geometries import join_geometries
from aiida_dosmatgen.core.target import DosTarget

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
REFERENCES = {"Si": -5.0, "C": -9.0}


def curve(centre: float) -> np.ndarray:
    return np.exp(-((DEFAULT_GRID.points - centre) ** 2))


TARGET = DosTarget(np.stack([curve(-3.0), curve(-3.0)]))


def candidate(a=4.36, numbers=(14, 6), energy=-14.4, status="converged", centre=-3.0, site=0.25) -> CrystalSet:
    """A zincblende crystal with a formation energy of (energy + 14)/2."""
    return CrystalSet(
        [2], numbers, [[0, 0, 0], [site] * 3], a * FCC[None],
        {"energy": [energy], "status": np.array([status])},
        {"predicted_dos": np.tile(np.float32(curve(centre)), (2, 1))},
    )  # fmt: skip


def made(*candidates: CrystalSet) -> CrystalSet:
    joined = CrystalSet.concatenate(candidates)
    return joined.with_columns(crystal={"candidate": 100 + np.arange(len(joined))})


def broken() -> CrystalSet:
    return candidate().replace(fractional=np.full((2, 3), np.nan))


REJECTED = {
    "not a crystal": broken(),
    "atoms too close": candidate(site=0.1),
    "volume too large": candidate(a=12.0),
    "relaxation: max steps": candidate(status="max steps"),
    "relaxation: exploded": candidate(status="exploded"),
    "formation energy too high": candidate(energy=-11.0),
    "formation energy too low to be true": candidate(energy=-140.0),
    "formation energy unknown": candidate(numbers=(14, 7)),
    "no predicted density of states": candidate(centre=np.nan),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_each_reason(reason):
    screened = screen(made(candidate(), REJECTED[reason]), REFERENCES, TARGET)
    assert screened.rejected == {reason: [101]}
    assert [row["candidate"] for row in screened.ranking] == [100]


def test_everything_at_once_is_counted_once_and_is_json():
    crystals = made(*REJECTED.values(), candidate(centre=-2.0), candidate(a=4.5), candidate(a=4.51, energy=-14.41))
    screened = screen(crystals, REFERENCES, TARGET)
    n = len(REJECTED)
    assert [row["candidate"] for row in screened.ranking] == [100 + n + 1]
    assert sorted(screened.rejected["duplicate"]) == [100 + n, 100 + n + 2]
    assert list(screened.funnel) == ["candidates", "valid", "converged", "formation energy", "predicted", "unique"]
    assert list(screened.funnel.values()) == [n + 3, n, n - 2, n - 5, n - 6, 1]
    assert sum(map(len, screened.rejected.values())) + len(screened.ranking) == n + 3
    json.dumps([screened.ranking, screened.funnel, screened.rejected], allow_nan=False)


def test_ranking_by_hand():
    crystals = made(candidate(centre=-1.0), candidate(centre=-3.0), candidate(energy=-13.0, a=4.4, centre=-3.0))
    criteria = ScreenCriteria(unique=False, max_formation_energy=0.6)
    rows = screen(crystals, REFERENCES, TARGET, criteria).ranking
    assert [row["candidate"] for row in rows] == [101, 102, 100]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["predicted_distance"] == pytest.approx(0, abs=1e-7)
    assert rows[1]["score"] == pytest.approx(0.1 * 0.5, abs=1e-7)
    assert rows[0]["formation_energy"] == pytest.approx(-0.2)
    assert rows[2]["score"] == pytest.approx(rows[2]["predicted_distance"])
    assert rows[2]["wasserstein"] == pytest.approx(2.0, abs=0.02)
    assert rows[0]["formula"] == "SiC" and rows[0]["n_atoms"] == 2 and rows[0]["status"] == "converged"
    only_energy = criteria.model_copy(update={"rank_by": RankWeights(distance=0.0)})
    assert screen(crystals, REFERENCES, TARGET, only_energy).ranking[-1]["candidate"] == 102


def test_criteria_can_be_relaxed():
    crystals = made(candidate(status="max steps"), candidate(numbers=(14, 7)), candidate(site=0.1))
    criteria = ScreenCriteria(require_converged=False, max_formation_energy=None, min_contact=0.0, unique=False)
    rows = screen(crystals, REFERENCES, TARGET, criteria).ranking
    assert {row["candidate"] for row in rows} == {100, 101, 102}
    assert next(row for row in rows if row["candidate"] == 101)["formation_energy"] is None
    screened = screen(crystals, REFERENCES, TARGET, ScreenCriteria(allowed_elements=["Si", "C"]))
    assert screened.rejected["element not allowed"] == [101]


def test_missing_columns_and_unknown_criteria():
    with pytest.raises(ContentError, match="no column 'status'"):
        screen(candidate().replace(crystal_columns={"energy": [-1.0]}), REFERENCES, TARGET)
    with pytest.raises(ContentError, match="no column 'predicted_dos'"):
        screen(candidate().replace(atom_columns={}), REFERENCES, TARGET)
    with pytest.raises(ValidationError):
        ScreenCriteria(max_energy=1.0)


def test_without_a_target_the_most_stable_comes_first():
    crystals = made(
        candidate(energy=-14.2, centre=np.nan),
        candidate(energy=-14.9, a=4.4, status="max steps"),
        candidate(numbers=(14, 7)),
        candidate(energy=-14.6, a=4.5),
        candidate(energy=-12.0, a=4.45),
        broken(),
    )
    criteria = ScreenCriteria(require_converged=False, max_formation_energy=None, unique=False)
    for given in (crystals, crystals.replace(atom_columns={})):
        screened = screen(given, REFERENCES, None, criteria)
        rows = screened.ranking
        assert [row["candidate"] for row in rows] == [101, 103, 100, 104, 102]
        assert [row["score"] for row in rows] == [pytest.approx(s) for s in (-0.35, -0.3, -0.1, 1.0)] + [None]
        assert all(row["predicted_distance"] is row["wasserstein"] is None for row in rows)
        assert list(screened.funnel) == ["candidates", "valid", "converged", "formation energy"]
        json.dumps([rows, screened.funnel, screened.rejected], allow_nan=False)
    equal = crystals.with_columns(crystal={"energy": np.array([-14.57, -14.9, -14.0, -14.6, -11.9, -14.0])})
    assert [row["candidate"] for row in screen(equal, REFERENCES, None).ranking] == [103]  # equal to 100, and better


def test_chosen_sites_rank_by_the_atoms_that_fit_them():
    target = DosTarget(curve(-3.0), sites=(1,))
    half = candidate(a=4.5)
    half = half.replace(atom_columns={"predicted_dos": np.stack([curve(-3.0), curve(5.0)])})
    rows = screen(made(candidate(centre=-2.9), half), REFERENCES, target, ScreenCriteria(unique=False)).ranking
    assert [row["candidate"] for row in rows] == [101, 100]
    assert rows[0]["predicted_distance"] == pytest.approx(0, abs=1e-7)


def test_nothing_to_screen():
    screened = screen(made(broken()), REFERENCES, TARGET)
    assert screened.ranking == [] and screened.funnel["unique"] == 0


def test_hull_distance_of_the_elements_and_of_known_phases():
    crystals = made(candidate(energy=-14.4), candidate(energy=-13.6, a=4.8))
    assert [row["hull_distance"] for row in screen(crystals, REFERENCES, TARGET).ranking] == [None, None]
    phases = candidate(energy=-15.0)
    rows = screen(crystals, REFERENCES, TARGET, phases=phases).ranking
    assert [row["hull_distance"] for row in rows] == pytest.approx([0.3, 0.7])
    limited = screen(crystals, REFERENCES, TARGET, ScreenCriteria(max_hull_distance=0.5), phases)
    assert limited.rejected == {"too far above the hull": [101]} and limited.funnel["hull"] == 1
    alone = screen(crystals, REFERENCES, TARGET, ScreenCriteria(max_hull_distance=0.1))
    assert [row["hull_distance"] for row in alone.ranking] == pytest.approx([-0.2])
    unknown = made(candidate(numbers=(14, 7)))
    criteria = ScreenCriteria(max_hull_distance=0.1, max_formation_energy=None)
    assert screen(unknown, REFERENCES, TARGET, criteria).rejected == {"hull distance unknown": [100]}


def test_predicted_distance_and_uncertainty_can_be_limited():
    crystals = made(candidate(), candidate(a=4.5, centre=0.0), candidate(a=4.6))
    crystals = crystals.with_columns(crystal={"predicted_dos_uncertainty": np.array([0.05, 0.01, np.nan])})
    criteria = ScreenCriteria(max_predicted_distance=0.05, max_uncertainty=0.1, unique=False)
    screened = screen(crystals, REFERENCES, TARGET, criteria)
    assert screened.rejected == {"predicted distance too large": [101], "prediction too uncertain": [102]}
    assert (screened.funnel["close"], screened.funnel["certain"]) == (2, 1)
    assert screened.ranking[0]["uncertainty"] == pytest.approx(0.05)
    with pytest.raises(ContentError, match="max_predicted_distance needs a target"):
        screen(crystals, REFERENCES, None, criteria)
    with pytest.raises(ContentError, match="needs the column 'predicted_dos_uncertainty'"):
        screen(made(candidate()), REFERENCES, TARGET, criteria)


def test_known_crystals_are_named_or_left_out():
    crystals = made(candidate(), candidate(numbers=(14, 14), energy=-10.0, a=5.43))
    known = CrystalSet.concatenate([candidate(numbers=(6, 6)), candidate(a=4.0)]).replace(crystal_columns={}, atom_columns={})
    rows = screen(crystals, REFERENCES, TARGET, known=known).ranking
    assert {row["candidate"]: row["known"] for row in rows} == {100: 1, 101: None}
    screened = screen(crystals, REFERENCES, TARGET, ScreenCriteria(novel=True), known=known)
    assert screened.rejected == {"known": [100]} and screened.funnel["novel"] == 1
    with pytest.raises(ContentError, match="novel leaves out known crystals, but none are given"):
        screen(crystals, REFERENCES, TARGET, ScreenCriteria(novel=True))


def test_formulas_can_be_prescribed():
    crystals = made(candidate(), candidate(numbers=(14, 14), energy=-10.0, a=5.43))
    screened = screen(crystals, REFERENCES, TARGET, ScreenCriteria(allowed_formulas=["Si2C2", "SiC2"]))
    assert [row["candidate"] for row in screened.ranking] == [100]
    assert screened.rejected == {"formula not allowed": [101]}
    for wrong in ("Xx2", "SiC0.5", ""):
        with pytest.raises(ValidationError, match="is not a chemical formula"):
            ScreenCriteria(allowed_formulas=[wrong])


# --- candidates in two geometries --------------------------------------------------------------------------------------------


def in_both_geometries(relaxed: CrystalSet, sampled: CrystalSet, start_energies) -> CrystalSet:
    columns = {"candidate": sampled.crystal_columns["candidate"]}
    unrelaxed = sampled.replace(crystal_columns=columns)
    return join_geometries(relaxed.with_columns(crystal={"start_energy": np.array(start_energies, dtype=float)}), unrelaxed)


@pytest.fixture
def two() -> CrystalSet:
    """Candidate 100 is nearer to the target unrelaxed, and 0.4 eV/atom above its relaxed geometry; 101 is nearer relaxed."""
    relaxed = made(candidate(centre=-2.0), candidate(a=4.8, centre=-2.9))
    sampled = made(candidate(a=4.5, centre=-3.0), candidate(a=4.9, centre=-2.5))
    return in_both_geometries(relaxed, sampled, [-13.6, -14.3])


def test_each_candidate_is_ranked_in_the_closer_geometry(two):
    screened = screen(two, REFERENCES, TARGET)
    assert [(row["candidate"], row["geometry"], row["index"]) for row in screened.ranking] == [
        (100, "unrelaxed", 2),
        (101, "relaxed", 1),
    ]
    assert screened.funnel == {"candidates": 2, "valid": 2, "converged": 2, "formation energy": 2, "predicted": 2, "unique": 2}
    first, second = screened.ranking
    assert first["predicted_distance"] == pytest.approx(0, abs=1e-7)
    assert first["relaxation_energy"] == pytest.approx(0.4) and second["relaxation_energy"] == 0
    assert first["formation_energy"] == pytest.approx(-0.2) and first["status"] == "converged"


def test_stability_is_that_of_the_relaxed_geometry(two):
    criteria = ScreenCriteria(max_formation_energy=-0.1)  # unrelaxed 100 has +0.2
    assert [row["candidate"] for row in screen(two, REFERENCES, TARGET, criteria).ranking] == [100, 101]
    unrelaxed = two.with_columns(crystal={"status": np.array(["max steps", "converged", "unrelaxed", "unrelaxed"])})
    screened = screen(unrelaxed, REFERENCES, TARGET)
    assert [row["candidate"] for row in screened.ranking] == [101]
    assert screened.rejected == {"relaxation: max steps": [100]}


def test_the_relaxation_energy_can_be_limited(two):
    def geometries(limit):
        return {
            r["candidate"]: r["geometry"]
            for r in screen(two, REFERENCES, TARGET, ScreenCriteria(max_relaxation_energy=limit)).ranking
        }

    assert geometries(0.5) == {100: "unrelaxed", 101: "relaxed"}
    assert geometries(0.3) == {100: "relaxed", 101: "relaxed"}
    unknown = two.with_columns(crystal={"energy": np.array([-14.4, -14.4, np.nan, np.nan])})
    assert screen(unknown, REFERENCES, TARGET).ranking[0]["relaxation_energy"] is None
    rows = screen(unknown, REFERENCES, TARGET, ScreenCriteria(max_relaxation_energy=9.0)).ranking
    assert {row["geometry"] for row in rows} == {"relaxed"}


def test_geometries_can_be_chosen(two):
    def geometries(*chosen, crystals=two):
        rows = screen(crystals, REFERENCES, TARGET, ScreenCriteria(geometries=chosen)).ranking
        return {row["candidate"]: row["geometry"] for row in rows}

    assert geometries("relaxed") == {100: "relaxed", 101: "relaxed"}
    assert geometries("unrelaxed") == {100: "unrelaxed", 101: "unrelaxed"}
    assert geometries("unrelaxed", "relaxed") == {100: "unrelaxed", 101: "relaxed"}
    assert geometries("relaxed", "unrelaxed", crystals=made(candidate())) == {100: "relaxed"}
    with pytest.raises(
        ContentError, match="only unrelaxed geometries are to count, but the crystals have no column 'geometry'"
    ):
        geometries("unrelaxed", crystals=made(candidate()))
    for wrong in ([], ["as sampled"]):
        with pytest.raises(ValidationError, match="geometries"):
            ScreenCriteria(geometries=wrong)


def test_what_is_no_crystal_unrelaxed_counts_relaxed():
    relaxed = made(candidate(centre=-2.0))
    for sampled in (candidate(site=0.1), broken(), candidate(centre=np.nan)):
        rows = screen(in_both_geometries(relaxed, made(sampled), [-14.0]), REFERENCES, TARGET).ranking
        assert [(row["geometry"], row["index"]) for row in rows] == [("relaxed", 0)]


def test_relaxed_geometries_without_a_prediction_do_not_count(two):
    dos = two.atom_columns["predicted_dos"].copy()
    dos[:4] = np.nan
    rows = screen(two.with_columns(atom={"predicted_dos": dos}), REFERENCES, TARGET).ranking
    assert [(row["candidate"], row["geometry"]) for row in rows] == [(100, "unrelaxed"), (101, "unrelaxed")]


def test_an_uncertain_geometry_gives_way_to_a_certain_one(two):
    uncertain = two.with_columns(crystal={"predicted_dos_uncertainty": np.array([0.1, 0.1, 0.5, 0.5])})
    assert screen(uncertain, REFERENCES, TARGET).ranking[0]["uncertainty"] == 0.5
    screened = screen(uncertain, REFERENCES, TARGET, ScreenCriteria(max_uncertainty=0.2))
    assert {row["candidate"]: row["geometry"] for row in screened.ranking} == {100: "relaxed", 101: "relaxed"}
    assert screened.funnel["certain"] == 2


def test_candidates_that_relax_to_one_crystal_are_duplicates():
    relaxed = made(candidate(centre=-1.0), candidate(centre=-1.0))
    sampled = made(candidate(a=4.5, centre=-2.5), candidate(a=5.2, centre=-2.9))
    screened = screen(in_both_geometries(relaxed, sampled, [-14.0, -14.0]), REFERENCES, TARGET)
    assert [(row["candidate"], row["geometry"]) for row in screened.ranking] == [(101, "unrelaxed")]
    assert screened.rejected == {"duplicate": [100]}


def test_equally_close_geometries_count_as_relaxed_and_free_candidates_too(two):
    same = made(candidate())
    assert screen(in_both_geometries(same, same, [-14.4]), REFERENCES, TARGET).ranking[0]["geometry"] == "relaxed"
    rows = screen(two, REFERENCES, None).ranking
    assert [(row["geometry"], row["predicted_distance"]) for row in rows] == [("relaxed", None)] * 2
