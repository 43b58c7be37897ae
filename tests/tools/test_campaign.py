"""What node.tools says of a campaign, and the recipes of docs/queries.md."""

import matplotlib

matplotlib.use("Agg")

import importlib

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from matplotlib import pyplot

from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.tools.ancestry import ancestors, tree
from aiida_dosmatgen.tools.campaign import compared, results_of
from aiida_dosmatgen.tools.frame import COLUMNS


@pytest.fixture
def campaign(make_campaign):
    """A campaign of 12 ranked crystals, of which 3 are validated and 1 failed."""
    return make_campaign(sites=2, n_candidates=20, n_ranked=12, n_validated=3, n_failed=1)


@pytest.fixture
def recipes(synthetic):
    """The functions of the page, as it stands."""
    return importlib.import_module("recipes").recipes()


def test_to_dataframe(campaign):
    frame = campaign.tools.to_dataframe()
    rows = campaign.tools.ranking()["target"]
    assert tuple(frame.columns) == COLUMNS
    assert frame["candidate"].tolist() == [row["candidate"] for row in rows]
    assert frame["status"].value_counts().to_dict() == {"not validated": 8, "validated": 3, "failed": 1}
    assert frame["dft_mae"].dtype == float and frame["dft_mae"].notna().sum() == 3
    best = frame.loc[frame["dft_mae"].idxmin()]
    assert (best["candidate"], best["dft_mae"]) == (
        campaign.tools.best()["candidate"],
        campaign.tools.best()["dft"]["mae"],
    )
    gaps = [row["dft"]["gap"] for row in rows if row["status"] == "validated"]
    assert frame["dft_gap"].dropna().tolist() == gaps and len(gaps) == 3
    assert frame.loc[frame["status"] == "failed", "reason"].str.contains("bands").all()


def test_rows_name_validations_and_structures_by_the_links_of_the_campaign(campaign):
    stored = campaign.outputs.ranking.get_dict()["targets"]["target"]
    assert not any("validation" in row for row in stored)
    calls = {link.link_label: link.node for link in campaign.base.links.get_outgoing(link_type=LinkType.CALL_WORK)}
    for row in campaign.tools.ranking()["target"]:
        validation = calls.get(f"validate_target_{row['candidate']}")
        assert (row["status"] in ("validated", "failed")) is (validation is not None)
        if validation is not None:
            structure = validation.outputs.structure if "structure" in validation.outputs else validation.inputs.structure
            assert (row["validation"], row["structure"]) == (validation.uuid, structure.uuid)


def test_a_ranking_of_before_that_has_uuids_is_read(aiida_profile):
    row = {"candidate": 3, "status": "validated", "rank": 1, "form": "as sampled", "validation": "v", "structure": "s"}
    before = orm.WorkChainNode(process_type="aiida.workflows:dosmatgen.campaign").store()
    orm.Dict({"targets": {"a": [row]}, "failed": {}}).store().base.links.add_incoming(before, LinkType.RETURN, "ranking")
    (read,) = before.tools.ranking()["a"]
    assert (read["validation"], read["structure"], read["geometry"]) == ("v", "s", "unrelaxed")


def test_plot_dos_draws_the_three_curves(campaign):
    results = results_of(campaign)
    best = campaign.tools.best()
    axes = campaign.tools.plot_dos()
    crystal = next(one for one in results.crystals if one.row["candidate"] == best["candidate"])
    target = results.targets["target"]
    predicted, dft = (line for line in axes.lines if line.get_label() in ("predicted", "DFT"))
    assert np.allclose(predicted.get_ydata(), compared(target, crystal, crystal.predicted).mean(0))
    shown = target.grid.points <= crystal.complete_below
    assert np.array_equal(dft.get_xdata(), target.grid.points[shown])
    assert np.allclose(dft.get_ydata(), compared(target, crystal, crystal.dft).mean(0)[shown])
    assert best["formula"] in axes.get_title()
    _, own = pyplot.subplots()
    other = campaign.tools.ranking()["target"][5]["candidate"]
    assert campaign.tools.plot_dos("target", other, own) is own
    assert [line.get_label() for line in own.lines][:1] == ["predicted"]
    pyplot.close("all")
    with pytest.raises(ValueError, match="candidate 999 is not in the ranking"):
        campaign.tools.plot_dos(candidate=999)
    with pytest.raises(ValueError, match="there is no target 'other'; the campaign has target"):
        campaign.tools.plot_dos("other")


def test_the_ancestors_are_those_of_the_graph(campaign):
    validation = next(node for node in campaign.called if node.process_label == "ValidateWorkChain" and node.is_finished_ok)
    score = validation.outputs.score
    nodes = ancestors([score.uuid])
    query = orm.QueryBuilder().append(orm.Node, filters={"uuid": score.uuid}, tag="score")
    query.append(orm.Node, with_descendants="score", project="uuid")
    assert {node.uuid for node in nodes.values()} == {score.uuid, *query.distinct().all(flat=True)}
    key = next(key for key, node in nodes.items() if node.uuid == score.uuid)
    met, repeated, unfolded, front = set(), set(), [], [tree(nodes, key)]
    while front:
        branch = front.pop()
        (repeated if branch.repeated else met).add(branch.node)
        if branch.process is not None:
            unfolded.append(branch.process)
            if branch.below:
                met.add(branch.process)
                assert {below.node for below in branch.below} == set(nodes[branch.process].inputs.values())
        front += branch.below
    assert met == set(nodes)  # each is unfolded somewhere
    assert repeated <= met
    assert len(unfolded) > len(set(unfolded))  # pw.x made bands, parameters and a work directory, and is unfolded once


def test_validated_crystals_of_a_checkpoint(recipes, make_campaign, shared_nodes):
    campaigns = [make_campaign(seed=seed, n_candidates=10, n_validated=3, n_failed=1) for seed in (1, 2)]
    found = recipes["validated_crystals_of"](shared_nodes["checkpoint"])
    rows = [row for one in campaigns for row in one.tools.ranking()["target"] if row["status"] == "validated"]
    expected = {row["structure"]: (row["formula"], pytest.approx(row["dft"]["mae"])) for row in rows}
    assert {uuid: (formula, mae) for formula, mae, uuid in found} == expected and len(found) == 6
    assert [row[1] for row in found] == sorted(row[1] for row in found)
    assert recipes["validated_crystals_of"](shared_nodes["predictor"]) == []  # no campaign sampled with it


def test_targets_served_by_a_crystal(recipes, make_campaign, synthetic):
    crystals = synthetic.made_up(np.random.default_rng(5), 6)
    first = make_campaign(seed=1, label_source="first.csv", n_candidates=6, n_validated=2, n_failed=0, crystals=crystals)
    shifted = crystals.replace(fractional=crystals.fractional + np.array([0.1, 0.2, 0.3]))  # the same crystals
    make_campaign(seed=2, label_source="second.csv", n_candidates=6, n_validated=2, n_failed=0, crystals=shifted)
    make_campaign(seed=3, label_source="third.csv", n_candidates=6, n_validated=2, n_failed=0)  # others
    row = first.tools.ranking()["target"][0]
    found = recipes["targets_served_by"](orm.load_node(row["structure"]))
    assert sorted(source for _, _, source in found) == ["first.csv", "second.csv"]
    assert [mae for mae, *_ in found] == sorted(mae for mae, *_ in found)
    assert pytest.approx(row["dft"]["mae"]) in [mae for mae, *_ in found]


def test_best_by_element(recipes, make_campaign):
    import re

    campaigns = [make_campaign(seed=seed, n_candidates=10, n_validated=4, n_failed=0) for seed in (1, 2)]
    rows = [row for one in campaigns for row in one.tools.ranking()["target"] if row["status"] == "validated"]
    found = recipes["best_by_element"]()
    assert set(found) == {element for row in rows for element in re.findall("[A-Z][a-z]?", row["formula"])}
    for element, (mae, formula, uuid) in found.items():
        having = [row for row in rows if element in re.findall("[A-Z][a-z]?", row["formula"])]
        best = min(having, key=lambda row: row["dft"]["mae"])
        assert (mae, formula, uuid) == (pytest.approx(best["dft"]["mae"]), best["formula"], best["validation"])


def test_validated_crystals_with_a_gap(recipes, make_campaign):
    campaigns = [make_campaign(seed=seed, n_candidates=10, n_validated=5, n_failed=1) for seed in (1, 2)]
    rows = [row for one in campaigns for row in one.tools.ranking()["target"] if row["status"] == "validated"]
    expected = sorted((row["dft"]["gap"], row["formula"], row["structure"]) for row in rows if row["dft"]["gap"] >= 1)
    assert 0 < len(expected) < len(rows)
    assert sorted(map(tuple, recipes["with_a_gap"](1.0))) == expected


def test_sets_of_crystals_by_what_is_in_them(recipes, aiida_profile, crystals):
    stored = CrystalSetData(crystals).store()
    assert [stored.pk, "", 3] in recipes["sets_with"]("SiC", 2) and recipes["sets_with"]("SiC", 99) == []


def test_what_was_wasted_and_why(recipes, make_campaign):
    campaigns = [make_campaign(seed=seed, n_candidates=40, n_ranked=8, n_validated=2, n_failed=3) for seed in (1, 2)]
    lost = recipes["candidates_left_out"]()
    assert lost == {"atoms too close": 16, "duplicate": 16, "formation energy too high": 16, "relaxation: max steps": 16}
    killed = orm.WorkChainNode()
    killed.set_process_type("aiida.workflows:dosmatgen.validate")
    killed.set_process_state("killed")
    killed.store()
    wasted = recipes["validations_without_score"]()
    reason = campaigns[0].tools.ranking()["target"][-1]["reason"]
    assert {message: count for message, (count, _) in wasted.items()} == {reason: 6, "killed": 1}
    assert all(hours >= 0 for _, hours in wasted.values())


def test_the_page_calls_only_what_there_is(campaign, synthetic):
    calls = importlib.import_module("recipes").calls()
    assert len(calls) == 7
    candidate = campaign.tools.best()["candidate"]
    for call in calls:
        answer = eval(call.replace('"rocksalt_PbTe", 7', f'"target", {candidate}'), {"campaign": campaign})
        assert answer is not None
    pyplot.close("all")
    assert campaign.base.links.get_outgoing(link_type=LinkType.RETURN).get_node_by_label("ranking")
