"""The quality report: its targets are unseen, its candidates are the sampler's, its figures and its page say what was found."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.core.labelled.shards import add_shard, load_shards, read_manifest, splits_of
from aiida_dosmatgen.core.labelled.splits import systems_of
from aiida_dosmatgen.core.screening.training_crystals import TrainingCrystals
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.training.dataset import load_labelled, with_formation_energies

from ..shards import SHARDS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PACKAGE = Path(__file__).parents[2] / "aiida_dosmatgen"
DATASET, PREDICTOR = PACKAGE / "datasets" / "debian-pbe" / "labelled.npz", PACKAGE / "models" / "predictor.safetensors"
QUICK = LabelSettings(kpoints_distance=0.8, max_seconds_per_crystal=60)


@pytest.fixture(scope="module")
def quality():
    """Import the script; its parts are ``sys.modules["quality_report.…"]``."""
    sys.path.insert(0, str(BENCHMARKS))
    import quality
    from quality_report import (
        accuracy,
        figures,
        likeness,
        modes,
        page,
        protocol,
        report,
        summary,
        surrogate,
        targets,
        unseen,
        ways,
        work,
    )

    parts = (accuracy, figures, likeness, modes, page, protocol, report, summary, surrogate, targets, unseen, ways, work)
    yield type("Parts", (), {"quality": quality, **{part.__name__.split(".")[1]: part for part in parts}})
    sys.path.remove(str(BENCHMARKS))
    for name in [n for n in sys.modules if n == "quality" or n.startswith(("quality_report", "sampling_report"))]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def crystals() -> CrystalSet:
    """The shipped data set, with formation energies."""
    return with_formation_energies(load_labelled(DATASET))


@pytest.fixture(scope="module")
def few(crystals) -> CrystalSet:
    """A binary of two atoms, one of four, and a ternary."""
    kinds = [len(set(crystals.numbers[a:b])) for a, b in zip(crystals.offsets[:-1], crystals.offsets[1:], strict=True)]
    kinds = np.array(kinds)
    wanted = ((2, 2), (2, 4), (3, 3))
    return crystals[[int(np.flatnonzero((kinds == k) & (crystals.n_atoms == n))[0]) for k, n in wanted]]


# --- targets ----------------------------------------------------------------------------------------------------------------


def test_crystals_far_from_equilibrium_are_told(quality, crystals):
    near = quality.targets.near_equilibrium(crystals)
    assert 0 < near.sum() < len(crystals)
    i = int(np.flatnonzero(near)[0])
    forces = crystals[i].atom_columns["forces"].copy()
    forces[0, 0] = 1.1
    assert not quality.targets.near_equilibrium(crystals[i].with_columns(atom={"forces": forces}))[0]
    stress = np.eye(3)[None] * 11 / 160.2
    assert not quality.targets.near_equilibrium(crystals[i].with_columns(crystal={"stress": stress}))[0]


# --- candidates -------------------------------------------------------------------------------------------------------------


def test_templates_have_the_size_and_prototype_but_other_elements(quality, few, crystals):
    for i, crystal in enumerate(few):
        template = quality.modes.template_for(crystal, crystals, i, 0)
        assert template.n_atoms[0] == crystal.n_atoms[0]
        assert quality.targets.chemical_systems(template) != quality.targets.chemical_systems(crystal)
        match = [k for k in range(len(crystals)) if np.array_equal(crystals[k].lattices, template.lattices)]
        same = crystals.crystal_columns["prototype"] == crystal.crystal_columns["prototype"][0]
        others = np.array(
            [s != quality.targets.chemical_systems(crystal)[0] for s in quality.targets.chemical_systems(crystals)]
        )
        if (same & others & (crystals.n_atoms == crystal.n_atoms[0])).any():
            assert any(same[k] for k in match)


# --- surrogate ----------------------------------------------------------------------------------------------------------------


def test_what_is_valid(quality):
    silicon, dense = bulk("Si"), bulk("Si", a=1.0)  # nearest neighbours at a·√3/4
    overlapping = bulk("Si")
    overlapping.positions[1] = [0.0, 0.0, 0.4]
    sparse = bulk("Si", a=12.0)
    crystals = CrystalSet.from_ase([silicon, dense, overlapping, sparse])
    distances = quality.surrogate.shortest_distances(crystals)
    np.testing.assert_allclose(distances, [5.43 * 3**0.5 / 4, 3**0.5 / 4, 0.4, 12 * 3**0.5 / 4], rtol=1e-6)
    assert quality.surrogate.valid(crystals).tolist() == [True, False, False, True]
    assert quality.surrogate.strictly_valid(crystals).tolist() == [True, False, False, False]
    broken = crystals.replace(lattices=crystals.lattices * np.array([np.nan, 1, 1, 1])[:, None, None])
    assert quality.surrogate.valid(broken).tolist() == [False, False, False, True]


def test_the_surrogate_sees_only_the_candidates_and_caches_its_predictions(quality, few, tmp_path):
    sampling = sys.modules["sampling_report.targets"]
    surrogate = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1)
    targets = sampling.targets_of(few)
    shuffled = few[[2, 0, 1]]
    distances = surrogate.distances(shuffled, np.array([2, 1, 1]), targets)
    dos, offsets = surrogate.predicted(few).atom_columns["predicted_dos"], few.offsets
    np.testing.assert_allclose(distances[0], targets[2].distances(dos[offsets[2] : offsets[3]])["mae"])
    (path,) = {p for p in tmp_path.iterdir() if len(CrystalSet.load(p)) == 3 and CrystalSet.load(p).formulas == few.formulas}
    stamp = path.stat().st_mtime_ns
    again = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1).predicted(few)
    np.testing.assert_array_equal(again.atom_columns["predicted_dos"], dos)
    assert path.stat().st_mtime_ns == stamp


# --- ranking and DFT --------------------------------------------------------------------------------------------------------


def test_the_protocol_is_the_campaign_s(quality):
    found = quality.protocol.protocol()
    assert found.sample.sampler == "ode" and found.relax.fmax == 0.02 and found.criteria.require_converged
    assert found.criteria.max_formation_energy == 1.0


# --- figures and the page ---------------------------------------------------------------------------------------------------


def test_figures(quality):
    figures = quality.figures
    ours, theirs = np.array([1.0, 2.0, np.nan, 3.0]), np.array([2.0, 4.0, 1.0, 6.0])
    value, interval = figures.ratio(ours, theirs, 0)
    assert value == pytest.approx(0.5) and interval == pytest.approx((0.5, 0.5))
    assert figures.ratio(ours[2:3], theirs[2:3], 0) == (None, None)
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 1.0, 400)
    mean, (low, high) = figures.mean(values, 1)
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    a, groups = rng.random(60), np.repeat(np.arange(30), 2)
    assert figures.rank_correlation(a, a**3, groups, 0)[0] == pytest.approx(1)
    value, (low, high) = figures.rank_correlation(a, rng.random(60), groups, 0)
    assert low < 0 < high and low < value < high
    assert figures.rank_correlation(np.ones(5), np.arange(5.0), np.arange(5), 0) == (None, None)
    missed = figures.Figure("x", "", 0.7, 3, "targets", bar=0.6).row(0)
    assert missed["met"] is False and missed["missed_by"] == pytest.approx(0.1)
    assert figures.Figure("x", "", 0.97, 3, "targets", bar=0.97, below=False).met
    assert figures.Figure("x", "", None, 0, "targets", bar=0.6).met is False
    assert figures.Figure("x", "", 0.1, 3, "targets").met is None


# --- the report -------------------------------------------------------------------------------------------------------------


def test_targets_are_real_crystals_and_stay_chosen_when_the_set_grows(quality):
    labels = quality.unseen.read(SHARDS)
    held_out = labels.of("test-final")
    elements = quality.unseen.elements_of(labels.crystals)
    rows = quality.unseen.choose(held_out, 40, 0, elements, 20)
    chosen = held_out[rows]
    assert len(rows) == 40 and set(chosen.crystal_columns["kind"]) == {"real"}
    systems = quality.targets.chemical_systems(chosen)
    assert len(set(systems)) == 40 and len(quality.unseen.elements_of(chosen)) >= 30
    assert not set(systems) & set(quality.targets.chemical_systems(labels.of("train")))
    fewer = held_out[np.flatnonzero(np.array(quality.targets.chemical_systems(held_out)) != systems[-1])]
    again = quality.targets.chemical_systems(fewer[quality.unseen.choose(fewer, 39, 0, elements, 20)])
    assert again == systems[:-1]
    known = quality.unseen.choose(held_out, 40, 0, ["B", "N", "Cu", "I"], 20)
    assert set(quality.targets.chemical_systems(held_out[known])) == {"B-N", "Cu-I"} and len(known) > 2
    with pytest.raises(ContentError, match="no real compound at rest of up to 2 atoms"):
        quality.unseen.choose(held_out, 40, 0, ["Xe", "Kr"], 2)


def test_ways_that_a_model_cannot_take_are_left_out_with_a_reason(quality):
    labels = quality.unseen.read(SHARDS)
    crystal = labels.of("train")[0]
    curves = curves_of(crystal)
    header = load_model(PREDICTOR)[1].model_copy(update={"architecture": {}})
    found = quality.ways.ways(crystal, curves, header, labels.of("train"), 0, 0)
    assert quality.ways.default_way(found) == "sites"
    assert found["compositions proposed"].reason and found["sites and channels"].reason == "the denoiser takes no channels"
    assert found["total"].target.kind == "total" and len(found["sites"].target.dos.channels) == 1
    low, high = quality.ways.WINDOW
    (window,) = [way for name, way in found.items() if name.endswith(" eV")]
    assert (window.target.low, window.target.high) == (low, high)
    header = header.model_copy(update={"architecture": {"stride": 3, "composition": 16}})
    found = quality.ways.ways(crystal, curves, header, labels.of("train"), 0, 0)
    assert quality.ways.default_way(found) == "compositions proposed"
    assert found["sites and channels"].target.dos.channels == ("s", "p", "d", "f")
    left = {name for name, way in found.items() if "compositions" not in way.parameters}
    assert left == {"compositions proposed", "compositions proposed, total"}, "the protocol proposes them there"
    assert quality.protocol.protocol().sample.compositions is not None
    header = header.model_copy(update={"architecture": {"stride": 3}})
    assert (
        quality.ways.default_way(quality.ways.ways(crystal, curves, header, labels.of("train"), 0, 0)) == "sites and channels"
    )


def test_likeness(quality):
    silicon, carbide = bulk("Si"), bulk("SiC", "zincblende", a=4.36)
    strained = carbide.copy()
    strained.set_cell(1.03 * strained.cell, scale_atoms=True)
    rocksalt = bulk("SiC", "rocksalt", a=4.1)
    candidates = CrystalSet.from_ase([carbide, carbide.repeat((2, 1, 1)), rocksalt, silicon, bulk("Si", a=1.0)])
    candidates = candidates.with_columns(crystal={"status": np.array(["converged"] * 4 + ["clash"])})
    distances = np.array([0.05, 0.06, 0.2, np.nan, 0.01])
    found = quality.likeness.described(candidates, distances, CrystalSet.from_ase([silicon]))
    assert found == {"relaxed_valid": 4, "unique": 3, "novel": 3, "meeting": 2, "meeting_different": 1}
    learnt = TrainingCrystals.of(CrystalSet.from_ase([rocksalt]))
    assert quality.likeness.described(candidates, distances, CrystalSet.from_ase([silicon]), learnt)["novel"] == 2
    wanted = CrystalSet.from_ase([strained])
    assert quality.likeness.matches(candidates, wanted, "matches_by_default") == [True, False, False, False, False]
    assert quality.likeness.matches(candidates, wanted, "matches") == [True, False, True, False, False]  # DiffCSP's are wide
    assert [quality.likeness.recall(one, wanted) for one in candidates[[0, 1, 3]]] == [1.0, 1.0, 0.5]


def record(number: int, conditional: list[float | None], unconditional: float | None, **changes) -> dict:
    row = {"mae": [0.1, 0.3], "mae_total": [0.1, 0.2], "valid": [True, True], "recall": [1.0, 0.5]}
    picks = [
        {"kind": "conditional", "predicted_distance": 0.1 * (i + 1), "distance": d, "hull_distance": 0.05, "formula": "X",
         "rank": i + 1, "candidate": i, "formation_energy": 0.0, "lenient": False}
        for i, d in enumerate(conditional)
    ]  # fmt: skip
    picks.append({**picks[0], "kind": "unconditional", "distance": unconditional, "predicted_distance": 0.5})
    return {
        "number": number, "formula": "X", "system": f"A-B{number}", "prototype": "", "n_atoms": 2, "main": "sites",
        "ways": {"unconditional": {**row, "mae": [0.4, None]}, "sites": row, "sites and channels": {"left_out": "no"},
                 "composition held": {**row, "matches": [False, number > 0], "matches_by_default": [False, False]}},
        "picks": picks,
        "relaxed": {"n": 4, "statuses": {"converged": 3}, "relaxed_valid": 4, "unique": 3, "novel": 2, "meeting": 2 * number,
                    "meeting_different": number},
        **changes,
    }  # fmt: skip


def test_figures_of_records(quality):
    records = [record(0, [0.2, 0.05], 0.4), record(1, [0.1, 0.3], 0.4), record(2, [None, 0.3], 0.1), record(3, [0.3, 0.3], 0.6)]
    records[0]["picks"][1]["hull_distance"] = 0.2  # near, but unstable
    figures = quality.summary.summed_up(records, {"n": 0}, None, None, 0)
    assert set(quality.summary.KEYS) <= set(figures)
    assert figures["dft_best_ratio"]["value"] == pytest.approx((0.2 + 0.1 + 0.3) / (0.4 + 0.4 + 0.6))
    assert figures["dft_best_ratio"]["n"] == 3  # of the third target the first one failed
    failed = [record(0, [None], None), *records[1:]]
    assert quality.summary.summed_up(failed, {"n": 0}, None, None, 0)["dft_success"]["n"] == 4  # what fails is missed
    assert figures["dft_success"]["value"] == 0.25 and figures["dft_success"]["n"] == 4
    assert figures["exact_composition"]["value"] == 0.5 and figures["element_recall"]["value"] == 0.75
    assert (figures["unique"]["value"], figures["novel"]["value"]) == (0.75, 0.5)
    assert figures["diversity"]["value"] == 0.5 and figures["diversity"]["n"] == 3
    assert figures["coverage"]["value"] == 0.75 == figures["structure_match"]["value"]
    for name in ("dft_success", "coverage"):
        low, high = figures[name]["interval_95"]
        assert low < figures[name]["value"] < high
    assert figures["allotropes"]["value"] is None and figures["surrogate_over_baseline"]["met"] is False
    ways = quality.summary.table_of_ways(records, 0)
    assert ways["sites"]["mean_ratio"] == pytest.approx(0.2 / 0.4) and ways["sites"]["best_ratio"] == pytest.approx(0.1 / 0.4)
    assert ways["sites and channels"] == {"targets": 0, "reason": "no"} and ways["unconditional"]["without_prediction"] == 4


def few_of_the_smallest(folder: Path, **recipe) -> Path:
    """Write a few of the smallest of the shipped labels as shards of their own, with the same splits.

    :param recipe: changes of what the set says of its labels, by which the report computes others.
    """
    manifest = read_manifest(SHARDS)
    manifest["settings"]["recipe"] |= recipe
    first = CrystalSet.load(SHARDS / manifest["shards"][0]["file"])
    split = load_shards(SHARDS).crystal_columns["split"][: len(first)]
    small = {name: np.flatnonzero((split == name) & (first.n_atoms <= 2))[:6] for name in np.unique(split)}
    add_shard(folder, first[np.concatenate(list(small.values()))], manifest["settings"], splits=splits_of(manifest))
    return folder


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """A few of the smallest of the shipped labels."""
    return few_of_the_smallest(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def result(quality, shipped, tmp_path_factory) -> tuple[dict, list[str]]:
    """A report of two targets with the shipped denoiser and predictor, without pw.x, and how it was asked for."""
    work = tmp_path_factory.mktemp("report")
    allotropes = load_labelled(DATASET)
    carbon = np.flatnonzero(np.array(systems_of(allotropes)) == "C")[:5]
    allotropes[carbon].save(work / "carbon.npz")
    asked = "--quick --targets 2 --candidates 2 --max-atoms 2 --steps 2 --relax-steps 2 --threads 1"
    # a force field that takes no time; the default one relaxes in the report with pw.x
    asked += " --force-field ase.calculators.lj:LennardJones --allotropes"
    arguments = [*asked.split(), str(work / "carbon.npz"), "--work", str(work), "--dataset", str(shipped)]
    return quality.report.Report(quality.quality.arguments(arguments)).run(), arguments


def test_the_report_has_its_figures_and_a_second_run_does_nothing_again(quality, result, monkeypatch):
    found, arguments = result
    figures = found["figures"]
    assert set(quality.summary.KEYS) <= set(found) and found["settings"]["targets"] == 2
    for name in ("valid", "exact_composition", "surrogate_over_baseline", "unique", "coverage", "structure_match"):
        assert found[name] == figures[name]["value"] is not None and figures[name]["n"] > 0
    assert found["dft_best_ratio"] is None and figures["dft_success"]["n"] == 0
    assert found["modes"]["unconditional"]["mean_ratio"] == 1 and found["modes"]["sites and channels"]["targets"] == 2
    assert 1 <= found["allotropes"] <= 5 and found["allotropes_ranked"]["by_chance"] == 3
    assert all(pick["predicted_distance"] > 0 for target in found["targets"] for pick in target["picks"])
    given = quality.quality.arguments(arguments)
    assert json.loads(given.output.read_text()) == found
    monkeypatch.setattr(quality.report, "run_target", None)
    monkeypatch.setattr(quality.report.accuracy, "accuracy", None)
    again = quality.report.Report(given).run()
    assert {**again, "seconds": None} == {**found, "seconds": None}
    one = quality.quality.arguments([*arguments, "--targets", "1"])
    assert quality.report.Report(one).run()["targets"] == found["targets"][:1]


def test_the_page_states_every_figure_and_every_missed_bar(quality, result, tmp_path):
    found = json.loads(quality.work.dumps(result[0]))
    assert found == result[0]
    found["figures"]["dft_best_ratio"] |= {"value": 0.8123, "met": False, "missed_by": 0.2123}
    found["modes"]["template"] = {"targets": 0, "reason": "there is none"}
    results = tmp_path / "results" / "quality.json"
    results.parent.mkdir()
    results.write_text(quality.work.dumps(found), encoding="utf-8")
    results.with_name("quality-causes.json").write_text('{"dft_best_ratio": "Too few crystals."}', encoding="utf-8")
    quality.page.write(results, tmp_path / "docs")
    text = (tmp_path / "docs" / "quality.md").read_text(encoding="utf-8")
    for name in found["figures"]:
        assert f"| `{name}` |" in text
    assert "`dft_best_ratio`: 0.812, the bar is 0.6. Too few crystals." in text and "missed by 0.21" in text
    assert "Not asked for: template, because there is none." in text and "$" not in text
    for wrong in ("{}", '{"figures": {}, "surrogate": {}}'):
        results.write_text(wrong, encoding="utf-8")
        with pytest.raises(ContentError, match="is not a quality report of this version"):
            quality.page.write(results, tmp_path / "docs")
    with pytest.raises(ContentError, match="does not exist; run benchmarks/quality.py"):
        quality.page.write(tmp_path / "none.json", tmp_path / "docs")


@pytest.mark.slow
def test_pw_computes_the_first_of_the_rankings_once(quality, tmp_path):
    shipped = few_of_the_smallest(tmp_path / "set", bands_distance=0.5, points_per_atom=0)  # what is computed need not be exact
    asked = "--quick --dft --targets 1 --candidates 2 --max-atoms 2 --steps 4 --relax-steps 20 --threads 1 --workers 1"
    given = quality.quality.arguments([*asked.split(), "--work", str(tmp_path / "work"), "--dataset", str(shipped)])
    found = quality.report.Report(given).run()
    picks = found["targets"][0]["picks"]
    assert {pick["kind"] for pick in picks} == {"conditional", "unconditional"}
    assert any(pick["distance"] is not None and pick["distance"] > 0 for pick in picks)
    (records,) = tmp_path.glob("work/targets/*/dft/labels/records")
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    next(tmp_path.glob("work/targets/*/record.json")).unlink()
    assert quality.report.Report(given).run()["targets"] == found["targets"]
    assert {path: path.stat().st_mtime_ns for path in records.iterdir()} == before
