"""The calcfunctions, run through a real profile."""

import dataclasses

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, Dict, Int, QueryBuilder

from aiida_dosmatgen.calculations.functions import (
    BAD_CONTENT,
    ELECTRONS_MISSING,
    combine_targets,
    extract_candidate,
    join_geometries,
    rank,
    score_dos,
    screen,
    select_candidates,
    target_from_labelled,
)
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_curves
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.conversion import crystal_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData

pytestmark = pytest.mark.usefixtures("aiida_profile")

REFERENCES = {"force_field_sha256": None, "energies": {"Si": -5.0, "C": -7.0, "B": -6.0, "N": -8.0}}


@pytest.fixture
def predicted(labelled, target):
    """Crystals as they come out of relaxation and prediction; crystal 1 has the very DOS of the target."""
    energies = np.array([-10.1, -12.2, -21.0])  # SiC 0.1 eV/atom below the elements, BN2 0.33 above
    rng = np.random.default_rng(3)
    dos = labelled.atom_columns["dos"] + rng.uniform(0.1, 0.2, labelled.atom_columns["dos"].shape)
    dos[2:4] = target.curves
    return labelled.with_columns(
        crystal={
            "energy": energies,
            "status": np.array(["converged", "converged", "exploded"]),
            "candidate": np.array([10, 11, 12]),
            "seed": np.array([4, 4, 4]),
        },
        atom={"predicted_dos": dos.astype(np.float32)},
    )


def screened(predicted, target, **criteria):
    return screen.run_get_node(
        crystals=CrystalSetData(predicted),
        references=Dict(REFERENCES),
        target=DosTargetData(target),
        criteria=Dict(criteria),
    )


def test_screen_orders_survivors_and_reports_the_rest(predicted, target):
    result, node = screened(predicted, target)
    assert node.is_finished_ok
    crystals = result["crystals"].crystals
    assert crystals.crystal_columns["candidate"].tolist() == [11, 10]
    assert crystals.crystal_columns["rank"].tolist() == [1, 2]
    assert crystals.crystal_columns["predicted_distance"][0] < 1e-6
    np.testing.assert_allclose(crystals.crystal_columns["formation_energy"], [-0.1, -0.05])
    report = result["report"].get_dict()
    assert [row["candidate"] for row in report["ranking"]] == [11, 10]
    assert list(report["rejected"].values()) == [[12]]


def test_screen_may_leave_nothing(predicted, target):
    result, node = screened(predicted, target, max_formation_energy=-5.0)
    assert node.is_finished_ok
    assert len(result["crystals"].crystals) == 0


def test_screen_names_an_unknown_criterion(predicted, target):
    _, node = screened(predicted, target, max_formation=1.0)
    assert node.exit_status == BAD_CONTENT
    assert node.exit_message == "criteria: max_formation: unknown key, did you mean 'max_formation_energy'?"


def test_the_graph_keeps_function_and_source(predicted, target):
    _, node = screened(predicted, target)
    assert node.function_name == "screen"
    assert node.function_namespace == "aiida_dosmatgen.calculations.functions.screening"
    source = node.base.repository.get_object_content(node.FUNCTION_SOURCE_FILE_PATH)
    assert "def screen(" in source.splitlines()[node.function_starting_line_number]


def test_graphs_of_before_still_find_their_functions(predicted, target):
    """They say the name of the module that held all functions."""
    _, node = screened(predicted, target)
    assert node.process_class is screen
    before = CalcFunctionNode(process_type="aiida_dosmatgen.calculations.functions.screen")
    assert before.process_class is screen


def test_screen_uses_known_phases_and_known_crystals(predicted, target):
    phases = CrystalSetData(predicted[[1]].with_columns(crystal={"energy": np.array([-12.4])}))
    result, _ = screen.run_get_node(
        crystals=CrystalSetData(predicted),
        references=Dict(REFERENCES),
        target=DosTargetData(target),
        criteria=Dict({"max_hull_distance": 0.05}),
        phases=phases,
        known=CrystalSetData(predicted[[2, 0]]),
    )
    report = result["report"].get_dict()
    assert [(row["candidate"], row["known"]) for row in report["ranking"]] == [(10, 1)]
    assert report["rejected"]["too far above the hull"] == [11]
    np.testing.assert_allclose(result["crystals"].crystals.crystal_columns["hull_distance"], [-0.05])


def test_screen_returns_each_crystal_in_its_closer_geometry(predicted, labelled, target):
    dos = labelled.atom_columns["dos"] + 0.15  # crystal 0 unrelaxed is nearer than relaxed, crystal 1 is not
    dos[:2] = target.curves
    numbers = {"candidate": np.array([10, 11, 12]), "seed": np.array([4, 4, 4])}
    moved = labelled.replace(fractional=(labelled.fractional + 0.01) % 1, crystal_columns=numbers)
    sampled = moved.with_columns(atom={"predicted_dos": dos.astype(np.float32)})
    started = predicted.with_columns(crystal={"start_energy": predicted.crystal_columns["energy"] + 0.6})
    result, node = screen.run_get_node(
        crystals=join_geometries(relaxed=CrystalSetData(started), unrelaxed=CrystalSetData(sampled)),
        references=Dict(REFERENCES),
        target=DosTargetData(target),
        criteria=Dict({}),
    )
    assert node.is_finished_ok, node.exit_message
    crystals = result["crystals"].crystals
    columns = crystals.crystal_columns
    geometries = dict(zip(columns["candidate"].tolist(), columns["geometry"].tolist(), strict=True))
    assert geometries == {10: "unrelaxed", 11: "relaxed"}
    for row, candidate in enumerate(columns["candidate"].tolist()):
        given = (sampled if geometries[candidate] == "unrelaxed" else started)[candidate - 10]
        np.testing.assert_array_equal(crystals[row].fractional, given.fractional)
        np.testing.assert_array_equal(crystals[row].atom_columns["predicted_dos"], given.atom_columns["predicted_dos"])
        assert columns["relaxation_energy"][row] == pytest.approx(0.3 if candidate == 10 else 0.0)
        assert columns["energy"][row] == pytest.approx(
            started.crystal_columns["energy"][candidate - 10] + 0.6 * (candidate == 10)
        )


def test_candidates_are_selected_with_a_reason_each(predicted, target):
    result, _ = screened(predicted, target)
    selection = select_candidates(result["crystals"], result["report"], Int(5), Dict({})).get_dict()["selected"]
    assert selection == [
        {"candidate": 11, "reason": "best score"},
        {"candidate": 10, "reason": "best score of those left"},
    ]
    assert len(select_candidates(result["crystals"], result["report"], Int(1), Dict({})).get_dict()["selected"]) == 1
    ranking = rank(report=result["report"], selection=Dict({"selected": selection[:1]})).get_dict()["ranking"]
    assert [row["selected"] for row in ranking] == ["best score", None]


def test_selection_refuses_what_does_not_belong_together(predicted, target):
    result, _ = screened(predicted, target)
    _, node = select_candidates.run_get_node(CrystalSetData(predicted), result["report"], Int(1), Dict({}))
    assert node.exit_message == "the report ranks 2 candidates, but there are 3 crystals"
    _, node = select_candidates.run_get_node(result["crystals"], result["report"], Int(1), Dict({"novelty": 1}))
    assert node.exit_message == "weights: novelty: unknown key, known here: uncertainty, diversity, exploration"


def test_extract_candidate_by_number(predicted):
    crystals = CrystalSetData(predicted[[2, 0, 1]])
    structure, node = extract_candidate.run_get_node(crystals, Int(11))
    assert structure.label == "SiC"
    np.testing.assert_allclose(crystal_of(structure).fractional, predicted[1].fractional, atol=1e-12)
    assert node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).get_node_by_label("candidate").value == 11


def test_extract_candidate_by_row_without_numbers(crystals):
    assert extract_candidate(CrystalSetData(crystals), Int(0)).get_formula() == "Si2"


@pytest.mark.parametrize("number", [3, -1])
def test_extract_candidate_that_is_not_there(crystals, number):
    _, node = extract_candidate.run_get_node(CrystalSetData(crystals), Int(number))
    assert node.exit_status == BAD_CONTENT
    assert node.exit_message == f"0 of the 3 crystals have the number {number}; one is needed"


def test_extract_candidate_refuses_two_of_a_number(predicted):
    both = CrystalSetData(CrystalSet.concatenate([predicted, predicted]))
    _, node = extract_candidate.run_get_node(both, Int(10))
    assert node.exit_message == "2 of the 6 crystals have the number 10; one is needed"


def test_extract_candidate_refuses_an_exploded_one(crystals):
    fractional = crystals.fractional.copy()
    fractional[0] = np.nan
    _, node = extract_candidate.run_get_node(CrystalSetData(crystals.replace(fractional=fractional), check=False), Int(0))
    assert node.exit_message == "the coordinates have NaN or infinite entries"


def dft(labelled, index, projected=8.0):
    columns = {"n_electrons": np.array([8.0]), "projected_electrons": np.array([projected])}
    return CrystalSetData(labelled[index].with_columns(crystal=columns))


def test_score_of_the_target_itself_is_zero(labelled, target):
    score = score_dos(dft(labelled, 1), DosTargetData(target)).get_dict()
    assert max(score[k] for k in ("mae", "mae_window", "mae_total", "wasserstein")) < 1e-6
    assert (score["compared_below"], score["n_electrons"], score["formula"]) == (6.0, 8.0, "SiC")


def test_score_grows_with_the_difference(labelled, target):
    other = score_dos(dft(labelled, 0), DosTargetData(target)).get_dict()
    expected = target.distances(labelled[0].atom_columns["dos"], 6.0)
    assert other["mae"] == pytest.approx(expected["mae"]) and other["mae"] > 0.05


def test_without_its_electrons_a_dos_gets_no_score(labelled, target):
    result, node = score_dos.run_get_node(dft(labelled, 1, projected=4.4), DosTargetData(target))
    assert node.exit_status == ELECTRONS_MISSING
    assert node.exit_message.startswith("the DOS up to the highest occupied level holds 4.40 of 8 electrons")
    assert not list(node.outputs) and not result


def test_score_needs_the_electrons_to_be_counted(labelled, target):
    _, node = score_dos.run_get_node(CrystalSetData(labelled[1]), DosTargetData(target))
    assert node.exit_status == ELECTRONS_MISSING
    assert "projected_electrons" in node.exit_message


def by_eigenvalues(labelled, index, high=6.0, scale=1.0, **changes):
    """A crystal as the DFT work chain hands it on: parts of the total, and sums of projections that hold a tenth less."""
    crystal = labelled[index]
    values = scale * crystal.atom_columns["dos"].astype(float)
    about = {"zero": "vbm", "gap": 1.1, "n_electrons": 2.0, "projected": 0.9, **changes}
    curves = Curves(values[:, None, None], DEFAULT_GRID.points, 0.3, -10, high, **about)
    bare = crystal.replace(crystal_columns={}, atom_columns={})
    return CrystalSetData(with_curves(bare, curves).with_columns(atom={"projections": 0.9 * values}))


def test_a_target_is_compared_with_what_it_means(labelled, target):
    parts = dataclasses.replace(target, dos=dataclasses.replace(target.dos, meaning="partition"))
    score = score_dos(by_eigenvalues(labelled, 1), DosTargetData(parts)).get_dict()
    assert score["mae"] == pytest.approx(0, abs=1e-6) and "meaning" not in score
    assert (score["gap"], score["zero"], score["high"], score["projected"]) == (1.1, "vbm", 6.0, 0.9)
    sums = score_dos(by_eigenvalues(labelled, 1, scale=1 / 0.9), DosTargetData(target)).get_dict()
    assert sums["mae"] == pytest.approx(0, abs=1e-6) and "meaning" not in sums
    old = score_dos(dft(labelled, 1), DosTargetData(parts)).get_dict()
    assert old["meaning"] == {"target": "partition", "dos": "projections"}
    query = QueryBuilder().append(Dict, filters={"attributes.gap": {">": 1.0}, "attributes.zero": "vbm"}, project="id")
    assert query.count() >= 2


def test_only_a_curve_without_electrons_is_refused(labelled, target):
    held = curves_of(by_eigenvalues(labelled, 1).crystals).electrons
    few = score_dos.run_get_node(by_eigenvalues(labelled, 1, n_electrons=9 * held), DosTargetData(target))[1]
    assert few.is_finished_ok  # one of nine, as in sodium: the others lie deeper
    _, node = score_dos.run_get_node(by_eigenvalues(labelled, 1, n_electrons=20 * held), DosTargetData(target))
    assert node.exit_status == ELECTRONS_MISSING


def test_validated_candidates_are_ranked_over_one_window(labelled, target):
    """Candidate 0 is worse, but its bands end before that shows; over one window it is compared no further than the other."""
    nodes = {"dos_0": by_eigenvalues(labelled, 0, high=0.5), "dos_1": by_eigenvalues(labelled, 2, high=5.0)}
    scores = {f"candidate_{i}": score_dos(nodes[f"dos_{i}"], DosTargetData(target)) for i in (0, 1)}
    report = Dict({"ranking": [{"candidate": 0}, {"candidate": 1}]})
    found, node = rank.run_get_node(report=report, target=DosTargetData(target), **scores, **nodes)
    ranking = found.get_dict()
    assert ranking["window"] == {"low": -10.0, "high": 0.5}
    assert {(row["dft"]["low"], row["dft"]["high"]) for row in ranking["ranking"]} == {(-10.0, 0.5)}
    own = {i: score.get_dict()["mae"] for i, score in enumerate(scores.values())}
    common = {row["candidate"]: row["dft"]["mae"] for row in ranking["ranking"]}
    assert common[0] == pytest.approx(own[0]) and common[1] != pytest.approx(own[1], rel=1e-3)
    assert [row["dft"]["gap"] for row in ranking["ranking"]] == [1.1, 1.1]
    assert "dos_1" in node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all_link_labels()
    assert rank(report=report, **scores).get_dict()["window"] is None


def test_target_from_labelled(labelled):
    node = target_from_labelled(LabelledCrystalSetData(labelled), Int(2))
    np.testing.assert_allclose(node.target.curves, labelled[2].atom_columns["dos"])
    assert node.creator.function_name == "target_from_labelled"


def test_screen_without_a_target_ranks_by_formation_energy(predicted):
    result, node = screen.run_get_node(
        crystals=CrystalSetData(predicted), references=Dict(REFERENCES), criteria=Dict({"max_formation_energy": None})
    )
    assert node.is_finished_ok
    ranking = result["report"].get_dict()["ranking"]
    energies = [row["formation_energy"] for row in ranking]
    assert energies == sorted(energies) and len(energies) == 2
    assert {row["predicted_distance"] for row in ranking} == {None}
    columns = result["crystals"].crystals.crystal_columns
    np.testing.assert_allclose(columns["score"], energies)
    assert np.isnan(columns["predicted_distance"]).all()


def test_combine_targets_for_different_sites(target):
    one = DosTargetData(DosTarget(target.total, "total"))
    two = DosTargetData(target)
    node = combine_targets(sites=Dict({"metal": [5, 0], "oxygen": [2, 3]}), n_atoms=Int(6), metal=one, oxygen=two)
    combined = node.target
    assert (combined.sites, combined.n_atoms) == ((0, 2, 3, 5), 6)
    np.testing.assert_array_equal(combined.curves, [target.total, *target.curves, target.total])
    inputs = node.creator.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all_link_labels()
    assert sorted(inputs) == ["metal", "n_atoms", "oxygen", "sites"]
    more = combine_targets(sites=Dict({"b": [1]}), a=node, b=one)
    assert (more.target.sites, more.target.n_atoms) == ((0, 1, 2, 3, 5), None)


@pytest.mark.parametrize(
    ("sites", "n_atoms", "words"),
    [
        ({"a": [0, 1], "b": [1]}, None, "targets a and b of those to combine are both for site 1"),
        ({"a": [0, 1], "b": [2]}, 2, "target b of those to combine: there is no site 2"),
        ({"a": [0, 1]}, None, "target b of those to combine does not say for which sites"),
        ({"a": [0, 1, 2], "b": [3]}, None, "target a of those to combine: 2 site curves but 3 sites"),
        ({"a": "x", "b": [3]}, None, "target a of those to combine: the sites 'x' are not a list"),
        ({"a": [0, 1], "b": [2], "c": [3]}, None, "sites are given for 'c', but there is no target of this name"),
    ],
)
def test_targets_that_cannot_be_combined(target, sites, n_atoms, words):
    inputs = {} if n_atoms is None else {"n_atoms": Int(n_atoms)}
    targets = {"a": DosTargetData(target), "b": DosTargetData(DosTarget(target.total, "total"))}
    _, node = combine_targets.run_get_node(sites=Dict(sites), **inputs, **targets)
    assert node.exit_status == BAD_CONTENT
    assert words in node.exit_message and "\n" not in node.exit_message


def test_rank_puts_dft_first_and_failures_last():
    rows = [{"rank": i + 1, "candidate": c, "predicted_distance": 0.1 * i} for i, c in enumerate([5, 3, 8, 1])]
    ranking = rank(
        report=Dict({"ranking": rows}),
        failure_5=Dict({"reason": "the self-consistent field did not converge"}),
        candidate_3=Dict({"mae": 0.4}),
        candidate_1=Dict({"mae": 0.2}),
    ).get_dict()["ranking"]
    assert [(r["rank"], r["candidate"], r["status"]) for r in ranking] == [
        (1, 1, "validated"),
        (2, 3, "validated"),
        (3, 8, "not validated"),
        (4, 5, "failed"),
    ]
    assert ranking[3]["reason"] == "the self-consistent field did not converge"
    assert ranking[0]["dft"] == {"mae": 0.2} and ranking[0]["predicted_distance"] == pytest.approx(0.3)


def test_rank_refuses_a_score_of_a_stranger():
    _, node = rank.run_get_node(report=Dict({"ranking": [{"candidate": 1}]}), candidate_2=Dict({"mae": 0.1}))
    assert node.exit_message == "candidate 2 has a score or a reason, but is not in the ranking"
