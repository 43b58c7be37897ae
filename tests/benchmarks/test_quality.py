"""The quality report: its targets are unseen, its candidates are the sampler's, its figures and its page say what was found."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID, DEFAULT_SIGMA
from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader, TrainingHeader
from aiida_dosmatgen.core.job import LabelSettings, RelaxParameters, SampleParameters, sha256_of
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.thermo import elemental_references
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.denoiser import Denoiser
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.training.dataset import load_labelled, with_formation_energies

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PACKAGE = Path(__file__).parents[2] / "aiida_dosmatgen"
DATASET, PREDICTOR = PACKAGE / "datasets" / "debian-pbe" / "labelled.npz", PACKAGE / "models" / "predictor.safetensors"
QUICK = LabelSettings(kpoints_distance=0.8, max_seconds_per_crystal=60)


@pytest.fixture(scope="module")
def quality():
    """Import the script; its parts are ``sys.modules["quality_report.…"]``."""
    sys.path.insert(0, str(BENCHMARKS))
    import quality
    from quality_report import accuracy, candidates, figures, modes, page, ranking, report, surrogate, targets, validation, work

    parts = (accuracy, candidates, figures, surrogate, modes, page, ranking, report, targets, validation, work)
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


def small_denoiser() -> Denoiser:
    torch.manual_seed(0)
    elements = load_model(PREDICTOR)[1].elements
    model = Denoiser(elements, DEFAULT_GRID, width=16, layers=1, frequencies=2, max_atoms=6)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.lattices.mean[0] = np.log(10) / 3
    model.lattices.std.fill_(0.05)
    return model.eval().double()


# --- targets ----------------------------------------------------------------------------------------------------------------


def test_targets_are_the_lowest_of_their_kind_from_as_many_systems_as_possible(quality, crystals):
    elements = load_model(PREDICTOR)[1].elements
    rows = quality.targets.choose(crystals, 12, 3, elements, 6)
    chosen = crystals[rows]
    systems = quality.targets.chemical_systems(chosen)
    assert len(set(systems)) == 12 and all("-" in system for system in systems)
    assert chosen.n_atoms.max() <= 6
    per_atom = crystals.crystal_columns["energy"] / crystals.n_atoms
    prototypes, formulas = crystals.crystal_columns["prototype"], np.array(list(map(str, crystals.compositions)))
    for i in rows:
        alike = (formulas == formulas[i]) & (prototypes == prototypes[i])
        assert per_atom[i] == per_atom[alike].min()
    np.testing.assert_array_equal(rows, quality.targets.choose(crystals, 12, 3, elements, 6))
    assert set(rows) != set(quality.targets.choose(crystals, 12, 4, elements, 6))
    every = quality.targets.choose(crystals, 10_000, 3, elements, 6)
    kinds = [(str(formulas[i]), str(prototypes[i])) for i in every]
    assert len(set(kinds)) == len(kinds) and set(rows) <= set(every)
    with pytest.raises(ContentError, match="no held-out compound of Si"):
        quality.targets.choose(crystals, 3, 0, ["Si"], 6)


def test_a_column_divides_the_set(quality, crystals, tmp_path):
    split = np.where(np.arange(len(crystals)) % 5 == 0, "test-system", "train").astype("U20")
    split[7] = "test-prototype"
    path = tmp_path / "labelled.npz"
    load_labelled(DATASET).with_columns(crystal={"split": split}).save(path)
    data = quality.targets.divided(path, {})
    assert data.by_column and sorted(data.held_out) == ["test-prototype", "test-system"]
    assert len(data.train) == (split == "train").sum()
    assert data.held_out["test-prototype"].formulas == crystals[7].formulas
    assert np.isfinite(data.train.crystal_columns["formation_energy"]).any()


def test_without_a_column_the_models_say_what_they_have_not_seen(quality, crystals, tmp_path):
    path = tmp_path / "labelled.npz"
    everything = load_labelled(DATASET)
    columns = {name: column for name, column in everything.crystal_columns.items() if name != "split"}
    everything.replace(crystal_columns=columns).save(path)
    training = TrainingHeader(
        dataset_sha256=sha256_of(path), n_crystals=1, seed=1, epochs=1, parameters={"validation_fraction": 0.2}
    )
    header = CheckpointHeader(
        kind="denoiser", architecture={}, elements=["Si"], grid=DEFAULT_GRID, sigma=DEFAULT_SIGMA, training=training,
        engine_version="0",
    )  # fmt: skip
    data = quality.targets.divided(path, {"denoiser": header})
    held = sum(map(len, data.held_out.values()))
    assert not data.by_column and len(data.train) + held == len(crystals) and held >= 0.2 * len(crystals)
    seen = set(quality.targets.chemical_systems(data.train))
    assert not seen & set(quality.targets.chemical_systems(data.held_out["test-system"]))


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


def test_each_mode_gives_the_candidates_of_the_sampler_and_goes_on_where_it_was_stopped(quality, few, crystals, tmp_path):
    model, parameters = small_denoiser(), SampleParameters(steps=3, guidance_scale=0.5)
    models = quality.candidates.Models(model, None, ("a", "b"))
    modes = quality.modes.modes(few, crystals, parameters, (0.0, 2.0), (), seed=5)
    assert "sites-0.5" in modes and modes["unconditional"].wishes[0].target is None
    for name in ("unconditional", "sites-2", "total-0.5", "elements", "template", "chosen-sites"):
        mode = modes[name]
        found = quality.candidates.candidates_of(models, mode, 2, 7, tmp_path)
        assert found.crystal_columns["target"].tolist() == [0, 0, 1, 1, 2, 2]
        assert found.n_atoms.tolist() == np.repeat(few.n_atoms, 2).tolist()
        wish = mode.wishes[1]
        asked = mode.parameters.model_copy(update={"constraints": wish.constraints, "n_atoms": wish.n_atoms})
        (alone,) = sample(model, wish.target, asked, 7, [10_000, 10_001], template=wish.template)
        np.testing.assert_array_equal(found[[2, 3]].numbers, alone.numbers)
        np.testing.assert_allclose(found[[2, 3]].fractional, alone.fractional, atol=1e-8)
        np.testing.assert_allclose(found[[2, 3]].lattices, alone.lattices, atol=1e-8)
    held = modes["elements"].wishes[1].constraints.sites
    assert len(held) == few.n_atoms[1] // 2

    files = sorted((tmp_path / "chosen-sites").iterdir())
    assert len(files) == 3  # one of each size
    stamps = [f.stat().st_mtime_ns for f in files]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert quality.candidates.candidates_of(models, modes["chosen-sites"], 2, 7, tmp_path) == found
    assert [f.stat().st_mtime_ns == stamp for f, stamp in zip(files, stamps, strict=True)] == [False, False, True]
    quality.candidates.candidates_of(models, modes["chosen-sites"], 2, 8, tmp_path)  # another seed, other files
    assert len(list((tmp_path / "chosen-sites").iterdir())) == 6


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
    shuffled = few[[2, 0, 1]].with_columns(crystal={"target": np.array([2, 1, 1])})
    found = quality.surrogate.evaluated(surrogate, shuffled, few, targets)
    assert found.composition.tolist() == [True, few.compositions[0] == few.compositions[1], True]
    dos, offsets = surrogate.predicted(few).atom_columns["predicted_dos"], few.offsets
    np.testing.assert_allclose(found.distances[0], targets[2].distances(dos[offsets[2] : offsets[3]])["mae"])
    (path,) = {p for p in tmp_path.iterdir() if len(CrystalSet.load(p)) == 3 and CrystalSet.load(p).formulas == few.formulas}
    stamp = path.stat().st_mtime_ns
    again = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1).predicted(few)
    np.testing.assert_array_equal(again.atom_columns["predicted_dos"], dos)
    assert path.stat().st_mtime_ns == stamp


def test_a_row_compares_with_the_baseline_target_by_target(quality):
    yes = np.ones(4, dtype=bool)
    ours = quality.surrogate.Evaluated(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.2, np.nan]), yes, ~yes, yes)
    theirs = quality.surrogate.Evaluated(np.array([0, 0, 1, 1]), np.array([0.4, 0.4, 0.6, 0.2]), yes, yes, ~yes)
    row = quality.surrogate.row(ours, theirs, worst=0.8, seed=0)
    assert row["mean"] == pytest.approx((0.2 + 0.5) / 2) and row["best"] == pytest.approx((0.1 + 0.2) / 2)
    assert row["mean_ratio"] == pytest.approx(0.35 / 0.4) and row["best_ratio"] == pytest.approx(0.15 / 0.3)
    assert (row["valid"], row["strict"], row["composition"], row["without_prediction"]) == (1.0, 0.0, 1.0, 1)


def test_errors_against_labels_are_those_of_the_predictor(quality, crystals, tmp_path):
    model, header = load_model(PREDICTOR)
    part = crystals[np.flatnonzero(crystals.n_atoms <= 2)[:24]]
    surrogate = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1)
    curves = model.mean_curves.numpy()
    found = quality.accuracy.surrogate_errors(surrogate, model, part, 0)
    dos, predicted = part.atom_columns["dos"], surrogate.predicted(part).atom_columns["predicted_dos"]
    complete = (DEFAULT_GRID.points <= part.crystal_columns["complete_below"][:, None])[part.crystal_of_atom]
    means = np.stack([curves[header.elements.index(s)] for c in part.to_ase() for s in c.get_chemical_symbols()])
    assert found["n"] == 24
    assert found["dos_mae"] == pytest.approx(np.abs(predicted - dos)[complete].mean(), rel=1e-5)
    assert found["dos_mae_baseline"] == pytest.approx(np.abs(means - dos)[complete].mean(), rel=1e-5)
    assert found["over_baseline"] == pytest.approx(found["dos_mae"] / found["dos_mae_baseline"], rel=1e-6)
    start = np.abs(model.tight_binding.curves(part) - dos)[complete].mean()
    assert found["tight_binding_over_baseline"] == pytest.approx(start / found["dos_mae_baseline"], rel=1e-5)
    foreign = part[:1].replace(numbers=np.full(part.n_atoms[0], 79))
    assert quality.accuracy.surrogate_errors(surrogate, model, foreign, 0) == {"n": 0}


# --- ranking and DFT --------------------------------------------------------------------------------------------------------


def test_displacements_know_no_translation_and_no_strain(quality):
    before = CrystalSet.from_ase(bulk("NaCl", "zincblende", a=5.0))
    moved = before.replace(fractional=before.fractional + 0.97, lattices=before.lattices * 1.2)
    assert quality.ranking.displacements(before, moved)[0] == pytest.approx(0, abs=1e-12)
    apart = before.fractional.copy()
    apart[1] += np.linalg.solve(before.lattices[0].T, [0.3, 0, 0])
    assert quality.ranking.displacements(before, before.replace(fractional=apart))[0] == pytest.approx(0.15)


def test_the_best_is_the_first_that_passes_or_else_the_first_that_is_valid(quality, crystals, tmp_path):
    sampling = sys.modules["sampling_report.targets"]
    rows = np.flatnonzero((crystals.n_atoms == 2) & np.isfinite(crystals.crystal_columns["formation_energy"]))[:6]
    six = crystals[rows].with_columns(
        crystal={"target": np.array([0, 0, 0, 1, 1, 1]), "candidate": np.arange(6), "status": np.full(6, "converged")}
    )
    surrogate = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1)
    targets, references = sampling.targets_of(crystals[rows[[0, 3]]]), elemental_references(crystals)
    weights = {"formation_energy": 0.0}
    criteria = ScreenCriteria(max_formation_energy=None, rank_by=weights)
    distances = surrogate.distances(six, six.crystal_columns["target"], targets)
    best = quality.ranking.best_of_targets(surrogate, six, references, targets, criteria)
    for i, group in enumerate((slice(0, 3), slice(3, 6))):
        assert best[i].distance == pytest.approx(distances[group].min()) and not best[i].lenient
        assert best[i].crystal.crystal_columns["candidate"][0] == group.start + distances[group].argmin()
    status = np.array(["max steps"] * 3 + ["exploded"] * 3)
    worse = six.with_columns(crystal={"status": status})
    best = quality.ranking.best_of_targets(surrogate, worse, references, targets, criteria)
    assert list(best) == [0] and best[0].lenient


def test_the_best_goes_on_in_its_nearer_form(quality, crystals, tmp_path):
    rows = np.flatnonzero((crystals.n_atoms == 2) & np.isfinite(crystals.crystal_columns["formation_energy"]))[:2]
    targets = sys.modules["sampling_report.targets"].targets_of(crystals[rows])
    columns = {"target": np.array([0, 1]), "candidate": np.array([0, 0]), "status": np.full(2, "converged")}
    given = crystals[rows].with_columns(crystal=columns)
    swollen = given.replace(lattices=given.lattices * 1.3)
    surrogate = quality.surrogate.Surrogate(PREDICTOR, "hash", tmp_path, 1)
    criteria, references = ScreenCriteria(max_formation_energy=None), elemental_references(crystals)
    for relaxed, sampled, geometry in ((swollen, given, "unrelaxed"), (given, swollen, "relaxed")):
        best = quality.ranking.best_of_targets(surrogate, relaxed, references, targets, criteria, sampled)
        assert [str(best[i].crystal.crystal_columns["geometry"][0]) for i in (0, 1)] == [geometry] * 2
        for i in (0, 1):
            np.testing.assert_array_equal(best[i].crystal.lattices, given[i].lattices)


def test_the_protocol_is_the_campaign_s(quality):
    found = quality.ranking.protocol()
    assert found.sample.sampler == "ode" and found.relax.fmax == 0.02 and found.criteria.require_converged
    assert found.criteria.max_formation_energy == 1.0


def test_picks_are_computed_once_and_failures_are_stated(quality, crystals, tmp_path):
    sampling = sys.modules["sampling_report.targets"]
    silicon = CrystalSet.from_ase(bulk("Si"))
    curve = np.zeros((2, DEFAULT_GRID.n), dtype=np.float32)
    pick = silicon.with_columns(crystal={"candidate": np.array([3])}, atom={"predicted_dos": curve})
    xenon = CrystalSet.from_ase(bulk("Xe")).with_columns(
        crystal={"candidate": np.array([4])}, atom={"predicted_dos": curve[:1]}
    )
    two = crystals[np.flatnonzero(crystals.n_atoms == 2)[:2]]
    targets, best = sampling.targets_of(two), quality.ranking.Best
    picks = {
        "conditional, relaxed": {0: best(pick, 0.2, False)},
        "unconditional, relaxed": {0: best(xenon, 0.1, True), 1: best(pick, 0.3, False)},
    }
    rows = quality.validation.validate(picks, two, targets, 1, QUICK, tmp_path, 1)
    assert [(r["kind"], r["target"]) for r in rows] == [("conditional, relaxed", 0), ("unconditional, relaxed", 0)]
    assert [r["run"] for r in rows] == [0, 1]
    assert rows[0]["reason"] is None and 0 < rows[0]["distance"] < 1 and rows[0]["candidate"] == 3
    assert rows[1]["distance"] is None and "Xe" in rows[1]["reason"] and rows[1]["lenient"]
    records = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    more = quality.validation.validate(picks, two, targets, 2, QUICK, tmp_path, 1)
    assert more[:2] == rows and more[2]["distance"] != rows[0]["distance"]  # the same crystal, another target
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()} == records
    ours, theirs = quality.validation.paired(more, "conditional, relaxed", "unconditional, relaxed")
    assert len(ours) == len(theirs) == 0  # no target has both


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


def tiny(quality, arguments: list[str]) -> dict:
    report = quality.report.Report(quality.quality.arguments(arguments))
    report.protocol = report.protocol._replace(relax=RelaxParameters(max_steps=3, fmax=5.0, smax=50.0))
    return report.run()


@pytest.fixture(scope="module")
def result(quality, tmp_path_factory) -> tuple[dict, list[str]]:
    """A report of two targets with the shipped models, without pw.x, and how it was asked for."""
    work = tmp_path_factory.mktemp("report")
    part = load_labelled(DATASET)
    known = np.isin(part.numbers, [ATOMIC_NUMBERS[symbol] for symbol in load_model(PREDICTOR)[1].elements])
    unknown = np.bincount(part.crystal_of_atom, ~known, len(part))
    part = part[np.flatnonzero((part.n_atoms <= 2) & (unknown == 0))[:100]]
    systems = quality.targets.chemical_systems(part)
    held = sorted({system for system in systems if "-" in system})[:5]
    split = np.where(np.isin(systems, held), "test-system", "train")
    part.with_columns(crystal={"split": split}).save(work / "labelled.npz")
    asked = "--quick --targets 2 --candidates 2 --max-atoms 2 --steps 4 --scales 0 --classifier-scales 1 --dft 0 --workers 1"
    arguments = [*asked.split(), "--work", str(work), "--dataset", str(work / "labelled.npz")]
    found = tiny(quality, arguments)
    (work / "quality.json").write_text(quality.work.dumps(found), encoding="utf-8")
    return found, arguments


def test_the_report_has_its_figures_and_a_second_run_says_the_same(quality, result):
    found, arguments = result
    figures = found["figures"]
    assert set(quality.quality.KEYS) <= set(found)
    for name in ("valid", "surrogate_mean_ratio", "surrogate_over_baseline", "converged", "energy_mae_meV"):
        assert found[name] == figures[name]["value"] is not None
        assert figures[name]["n"] > 0 and figures[name]["met"] in (True, False)
    assert found["dft_best_ratio"] is None and found["dft"] == []
    rows = found["modes"]
    assert found["surrogate_mean_ratio"] == rows[found["default_mode"]]["mean_ratio"]
    assert rows["unconditional"]["mean_ratio"] == 1 and rows["sites-0"]["candidates"] == 4
    again = tiny(quality, arguments)
    for once in (found, again):
        once.pop("seconds")
    assert again == found


def test_the_page_states_every_figure_and_every_missed_bar(quality, result, tmp_path):
    found = json.loads(quality.work.dumps(result[0]))
    assert found == result[0]
    found["figures"]["surrogate_mean_ratio"] |= {"value": 0.8123, "met": False, "missed_by": 0.2123}
    dft = {"of": "BN", "formula": "BN", "lenient": False, "reason": None, "candidate": 0}
    found["dft"] = [
        {**dft, "run": 0, "target": 0, "kind": "conditional, campaign", "surrogate": 0.1, "distance": 0.12},
        {
            **dft,
            "run": 1,
            "target": 0,
            "kind": "unconditional, campaign",
            "surrogate": 0.2,
            "distance": None,
            "reason": "took too long",
        },
    ]
    summary = {"targets": 0, "conditional": None, "unconditional": None, "ratio": None}
    found["dft_summary"] = {"runs": 2, "failed": 1, "campaign": summary, "nearest_training_crystal": 0.05}
    curve, ends = [0.5] * DEFAULT_GRID.n, {"complete_below": 4.0}
    found["panels"] = [{**found["dft"][0], **ends, "target_dos": curve, "dft_dos": curve, "predicted_dos": curve}]
    results = tmp_path / "results" / "quality.json"
    results.parent.mkdir()
    results.write_text(quality.work.dumps(found), encoding="utf-8")
    results.with_name("quality-causes.json").write_text('{"surrogate_mean_ratio": "Too few crystals."}', encoding="utf-8")
    quality.page.write(results, tmp_path / "docs")
    text = (tmp_path / "docs" / "quality.md").read_text(encoding="utf-8")
    for name in found["figures"]:
        assert f"| `{name}` |" in text
    assert "`surrogate_mean_ratio`: 0.812, the bar is 0.6. Too few crystals." in text and "missed by 0.21" in text
    assert "- BN for BN (unconditional, campaign): took too long" in text and "$" not in text
    for which in ("guidance", "surrogate", "panels"):
        assert f"images/quality-{which}.png" in text
        assert (tmp_path / "docs" / "images" / f"quality-{which}.png").stat().st_size > 5000
    results.write_text("{}", encoding="utf-8")
    with pytest.raises(ContentError, match="is not a quality report"):
        quality.page.write(results, tmp_path / "docs")
    with pytest.raises(ContentError, match="does not exist; run benchmarks/quality.py"):
        quality.page.write(tmp_path / "none.json", tmp_path / "docs")
