import sys

import numpy as np
import pytest

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.screening import ScreenCriteria, funnel, looking, screen, thin, thinning
from aiida_dosmatgen.core.screening.geometries import join_geometries
from aiida_dosmatgen.core.target import DosTarget

REFERENCES = {"Ga": -3.0, "As": -4.0}
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
N = 120


def curve(centre: float) -> np.ndarray:
    return 4 / (0.3 * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((DEFAULT_GRID.points - centre) / 0.3) ** 2)


TARGET = DosTarget(curve(-3.0))


def candidates() -> CrystalSet:
    """Zincblende crystals: many equal ones, some too small, some not converged, some too high in energy."""
    rng = np.random.default_rng(0)
    a = rng.choice([5.2, 5.6, 6.2, 6.9, 7.5, 1.5], N, p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.1]) + rng.normal(0, 1e-3, N)
    lattices = a[:, None, None] * FCC
    columns = {
        "energy": -7.2 - np.round(a, 1) / 10 + rng.choice([0, 1e-3, 8.0], N, p=[0.7, 0.2, 0.1]),
        "status": rng.choice(["converged", "exploded"], N, p=[0.9, 0.1]),
        "candidate": 1000 + np.arange(N),
    }
    sites = rng.permutation(np.tile([[0, 0, 0], [0.25] * 3], (N, 1, 1)), axis=1).reshape(-1, 3)
    return CrystalSet(np.full(N, 2), np.tile([31, 33], N), sites, lattices, columns)


def centres(crystals: CrystalSet) -> np.ndarray:
    """Where the predicted curve of each crystal has its peak: the same for equal crystals."""
    return -3.0 + 0.5 * np.abs(np.round(20 * crystals.lattices[:, 0, 1]) % 7 - 2)


class Predictor:
    """Predicts batches of seven, and notes what it was asked for; its first look is off by a little."""

    def __init__(self, crystals: CrystalSet) -> None:
        self.crystals, self.asked = crystals, {True: [], False: []}

    def predict(self, crystals: CrystalSet, off: float = 0.0) -> CrystalSet:
        dos = np.repeat([curve(c + off) for c in centres(crystals)], crystals.n_atoms, axis=0).astype(np.float32)
        dos[np.repeat(np.abs(crystals.volumes - 60) < 2, crystals.n_atoms)] = np.nan
        return crystals.with_columns(
            crystal={"predicted_dos_uncertainty": 0.1 + 0.001 * (np.arange(len(crystals)) % 2)}, atom={"predicted_dos": dos}
        )

    def __call__(self, rows, first_look=False):
        self.asked[first_look] += rows.tolist()
        for start in range(0, len(rows), 7):
            some = rows[start : start + 7]
            yield some, self.predict(self.crystals[some], 0.05 if first_look else 0.0)

    def look(self, target):
        return looking(lambda rows: self(rows, True), target)


CASES = {
    "relaxed": {},
    "all of equal ones": {"unique": False, "max_ranked": 20},
    "near ones": {"max_predicted_distance": 0.3},
    "certain ones": {"max_uncertainty": 0.2},
    "hull": {"max_hull_distance": 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_the_best_are_those_of_the_screening_of_all(case):
    crystals = candidates()
    criteria = ScreenCriteria(**{"geometries": ["relaxed"], "max_ranked": 2, **CASES[case]})
    predictor = Predictor(crystals)
    thinned = thin(crystals, REFERENCES, TARGET, criteria, predictor, predictor.look(TARGET))
    found = screen(thinned.crystals, REFERENCES, TARGET, criteria, left_out=thinned.left_out)
    expected = screen(predictor.predict(crystals), REFERENCES, TARGET, criteria)
    keys = ("formula", "formation_energy", "predicted_distance", "score")
    for row, other in zip(found.ranking, expected.ranking, strict=True):
        assert [row[k] for k in keys if k in row] == pytest.approx([other[k] for k in keys if k in other], abs=2e-3)
    assert found.funnel["candidates"] == N and list(found.funnel.values())[-1] == len(found.ranking) > 0
    for name in ("valid", "converged", "formation energy"):
        assert found.funnel[name] == expected.funnel[name]
    told = [i for candidates in found.rejected.values() for i in candidates] + [row["candidate"] for row in found.ranking]
    assert sorted(told) == list(range(1000, 1000 + N))
    assert len(set(predictor.asked[False])) == len(predictor.asked[False]) < N  # none twice, and not all


def test_only_what_is_near_at_a_first_look_is_predicted_in_full(monkeypatch):
    crystals, criteria = candidates(), ScreenCriteria(geometries=["relaxed"], unique=False, max_ranked=4)
    monkeypatch.setattr(thinning, "LOOKED_AT", 2)
    predictor = Predictor(crystals)
    thinned = thin(crystals, REFERENCES, TARGET, criteria, predictor, predictor.look(TARGET))
    assert len(predictor.asked[False]) == 8 < len(predictor.asked[True])
    columns = thinned.left_out.crystal_columns
    assert set(columns["criterion"]) >= {"valid", "converged", "near", "best"}
    looked_at = np.isin(columns["candidate"] - 1000, predictor.asked[True])
    assert (np.isfinite(columns["first_look"]) <= looked_at).all()
    assert len(thinned.crystals) == 4 and "predicted_dos" in thinned.crystals.atom_columns
    assert not thinned.left_out.atom_columns


def test_two_geometries_stay_together_and_the_nearer_counts():
    relaxed = candidates()
    sampled = relaxed.replace(
        lattices=relaxed.lattices * np.random.default_rng(1).uniform(0.98, 1.1, N)[:, None, None],
        crystal_columns={"candidate": relaxed.crystal_columns["candidate"]},
    )
    both = join_geometries(relaxed.with_columns(crystal={"start_energy": relaxed.crystal_columns["energy"] + 0.1}), sampled)
    for geometries in (["relaxed", "unrelaxed"], ["unrelaxed"]):
        criteria = ScreenCriteria(max_ranked=3, geometries=geometries)
        predictor = Predictor(both)
        thinned = thin(both, REFERENCES, TARGET, criteria, predictor, predictor.look(TARGET))
        found = screen(thinned.crystals, REFERENCES, TARGET, criteria, left_out=thinned.left_out)
        expected = screen(predictor.predict(both), REFERENCES, TARGET, criteria)
        assert [(row["candidate"], row["geometry"]) for row in found.ranking] == [
            (row["candidate"], row["geometry"]) for row in expected.ranking
        ]
        assert len(found.ranking) == 3


def test_without_a_target_only_the_ranked_are_predicted_and_nothing_may_stay():
    crystals, criteria = candidates(), ScreenCriteria(unique=False, max_ranked=5)
    predictor = Predictor(crystals)
    thinned = thin(crystals, REFERENCES, None, criteria, predictor)
    found = screen(thinned.crystals, REFERENCES, None, criteria, left_out=thinned.left_out)
    expected = screen(crystals, REFERENCES, None, criteria)
    assert [row["candidate"] for row in found.ranking] == [row["candidate"] for row in expected.ranking]
    assert len(predictor.asked[False]) == 5 and not predictor.asked[True]
    none = ScreenCriteria(max_formation_energy=-5.0)
    for target in (None, TARGET):
        thinned = thin(crystals, REFERENCES, target, none, predictor, target and predictor.look(target))
        assert screen(thinned.crystals, REFERENCES, target, none, left_out=thinned.left_out).ranking == []


@pytest.mark.parametrize(("needs", "place"), [("relaxation", 2), ("prediction", 7), ("ranking", 9)])
def test_a_new_criterion_is_one_entry_of_the_table(needs, place, monkeypatch):
    def odd(of, rows):
        return {i: "odd" for i in rows if of.names[i] % 2}

    table = [*funnel.CRITERIA]
    table.insert(place, funnel.Criterion("even", "of even number", odd, needs))
    for name in ("funnel", "screen", "thinning"):
        monkeypatch.setattr(sys.modules[f"aiida_dosmatgen.core.screening.{name}"], "CRITERIA", tuple(table))
    crystals, criteria = candidates(), ScreenCriteria(geometries=["relaxed"], unique=False, max_ranked=50)
    predictor = Predictor(crystals)
    alone = screen(predictor.predict(crystals), REFERENCES, TARGET, criteria)
    thinned = thin(crystals, REFERENCES, TARGET, criteria, predictor, predictor.look(TARGET))
    both = screen(thinned.crystals, REFERENCES, TARGET, criteria, left_out=thinned.left_out)
    assert list(alone.funnel).index("even") == list(both.funnel).index("even") > 0
    assert alone.rejected["odd"] and both.rejected["odd"]
    assert all(row["candidate"] % 2 == 0 for row in both.ranking) and both.ranking
    early = "even" in thinned.left_out.crystal_columns["criterion"]
    assert early == (needs != "ranking")
    if early:
        assert [row["candidate"] for row in both.ranking] == [row["candidate"] for row in alone.ranking]


def test_a_funnel_counts_what_fell_to_a_criterion_that_is_not_in_the_table():
    assert list(funnel.counted(9, {"of tomorrow": 2, "unique": 1, "valid": 3}).items()) == [
        ("candidates", 9),
        ("valid", 6),
        ("unique", 5),
        ("of tomorrow", 3),
    ]
