"""The real chain: shipped models, real pw.x, a real daemon that is killed in the middle."""

from collections import Counter

import numpy as np
import pytest
from aiida import orm
from aiida.engine import submit

from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.tools.daemon import is_outdated
from aiida_dosmatgen.tools.lineage import lineage

from ..campaigns import (
    N_CANDIDATES,
    TOP_K,
    configure,
    jobs,
    kill_daemon,
    prepare,
    rows_of,
    start_daemon,
    start_here,
    stop_daemon,
    wait_for_end,
    wait_for_running,
    what_failed,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, aiida_config_factory, aiida_profile_factory):
    """A finished campaign whose daemon was killed while pw.x ran."""
    folder = tmp_path_factory.mktemp("campaign")
    with (
        aiida_config_factory(folder) as config,
        aiida_profile_factory(config, broker_backend="core.zeromq") as profile,
    ):
        configure(config, profile, caching=True)
        parts = prepare(folder)
        start_daemon()
        try:
            node = start_here(parts)
            wait_for_running(node, "PwCalculation")
            kill_daemon()
            start_daemon()
            wait_for_end(node)
            yield node
        finally:
            stop_daemon()


def test_the_campaign_survives_the_daemon(campaign):
    assert campaign.is_finished_ok, what_failed(campaign)


def test_the_ranking_is_complete(campaign):
    ranking = campaign.outputs.ranking.get_dict()
    assert ranking["failed"] == {}
    rows = rows_of(campaign)
    report = campaign.outputs.reports["silicon_carbide"].get_dict()
    rejected = [candidate for candidates in report["rejected"].values() for candidate in candidates]
    assert sorted([row["candidate"] for row in rows] + rejected) == list(range(N_CANDIDATES))
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))

    statuses = Counter(row["status"] for row in rows)
    assert statuses["validated"] >= 1
    assert statuses["validated"] + statuses["failed"] == min(TOP_K, len(rows))
    for row in rows:
        assert row["formula"]
        assert row["formation_energy"] <= 3.0
        assert row["predicted_distance"] >= 0
        if row["status"] == "failed":
            assert row["reason"]
    distances = [row["dft"]["mae"] for row in rows if row["status"] == "validated"]
    assert distances == sorted(distances)


def test_few_nodes_before_dft(campaign):
    """Sampling, relaxing, predicting and screening make one job each, however many candidates there are."""
    labels = Counter(
        orm.QueryBuilder()
        .append(orm.WorkChainNode, filters={"uuid": campaign.uuid}, tag="campaign")
        .append(
            orm.WorkChainNode, with_incoming="campaign", filters={"attributes.process_label": "CandidatesWorkChain"}, tag="c"
        )
        .append(orm.WorkChainNode, with_incoming="c", tag="base")
        .append(orm.CalcJobNode, with_incoming="base", project="attributes.process_label")
        .all(flat=True)
    )
    names = ("SampleCalculation", "ReferencesCalculation", "RelaxCalculation", "PredictCalculation")
    assert labels == dict.fromkeys(names, 1)
    first_validation = (
        orm.QueryBuilder()
        .append(orm.WorkChainNode, filters={"attributes.process_label": "ValidateWorkChain"}, project="ctime")
        .order_by({orm.WorkChainNode: "ctime"})
        .first(flat=True)
    )
    before = orm.QueryBuilder().append(
        orm.Node, filters={"ctime": {"<": first_validation, ">=": campaign.ctime}, "node_type": {"!like": "data.core.code.%"}}
    )
    assert before.count() <= 40


def test_each_score_traces_back_by_plain_queries(campaign):
    """From the DFT score of each validated crystal to the target and to the checkpoint, without the package's helpers."""
    rows = rows_of(campaign)
    target = campaign.inputs.targets["silicon_carbide"]
    for row in rows:
        if row["status"] != "validated":
            continue
        structure = orm.load_node(row["structure"])
        found = (
            orm.QueryBuilder()
            .append(orm.Data, filters={"uuid": structure.uuid}, tag="structure")
            .append(DosTargetData, with_descendants="structure", project="uuid")
            .all(flat=True)
        )
        assert set(found) == {target.uuid}
        hashes = (
            orm.QueryBuilder()
            .append(orm.Data, filters={"uuid": structure.uuid}, tag="structure")
            .append(
                orm.CalcJobNode,
                with_descendants="structure",
                filters={"attributes.process_label": "SampleCalculation"},
                tag="s",
            )
            .append(orm.Data, with_outgoing="s", edge_filters={"label": "checkpoint"}, project="attributes.sha256")
            .all(flat=True)
        )
        assert set(hashes) == {campaign.inputs.candidates.checkpoint.base.attributes.get("sha256")}
        scores = (
            orm.QueryBuilder()
            .append(orm.Data, filters={"uuid": target.uuid}, tag="target")
            .append(
                orm.CalcFunctionNode, with_incoming="target", filters={"attributes.process_label": "score_dos"}, tag="score"
            )
            .append(orm.Dict, with_incoming="score", project="attributes.mae")
            .all(flat=True)
        )
        assert row["dft"]["mae"] in scores


def test_each_crystal_is_ranked_in_the_closer_geometry(campaign):
    (chain,) = (node for node in campaign.called if node.process_label == "CandidatesWorkChain")
    target = campaign.inputs.targets["silicon_carbide"].target
    both = chain.outputs.predicted.crystals
    geometries = {
        geometry: both[np.flatnonzero(both.crystal_columns["geometry"] == geometry)] for geometry in ("unrelaxed", "relaxed")
    }
    np.testing.assert_array_equal(geometries["unrelaxed"].lattices, chain.outputs.sampled.crystals.lattices)
    survivors, columns = chain.outputs.crystals.crystals, chain.outputs.crystals.crystals.crystal_columns
    for row in rows_of(campaign):
        distances = {}
        for geometry, crystals in geometries.items():
            (place,) = np.flatnonzero(crystals.crystal_columns["candidate"] == row["candidate"])
            distances[geometry] = target.distances(curves_of(crystals, int(place), "predicted_dos"))["mae"]
        assert row["geometry"] == min(distances, key=lambda geometry: distances[geometry])
        assert row["predicted_distance"] == pytest.approx(distances[row["geometry"]])
        (place,) = np.flatnonzero(columns["candidate"] == row["candidate"])
        given = geometries[row["geometry"]][
            np.flatnonzero(geometries[row["geometry"]].crystal_columns["candidate"] == row["candidate"])
        ]
        np.testing.assert_array_equal(survivors[place].fractional, given.fractional)
        np.testing.assert_array_equal(survivors[place].lattices, given.lattices)
        if row["status"] == "validated":
            structure = orm.load_node(row["structure"])
            np.testing.assert_allclose(structure.cell, given.lattices[0], atol=1e-9)
            assert lineage(orm.load_node(row["validation"])).geometry == row["geometry"]


def test_validated_crystals_hold_their_electrons(campaign):
    for row in rows_of(campaign):
        if row["status"] == "validated":
            assert row["dft"]["projected_electrons"] == pytest.approx(row["dft"]["n_electrons"], rel=0.1)


def test_a_daemon_knows_whether_its_code_has_changed(campaign, tmp_path):
    assert not is_outdated()
    (tmp_path / "new.py").touch()
    assert is_outdated(tmp_path)


def test_the_same_campaign_again_computes_nothing(campaign):
    again = submit(campaign.get_builder_restart())
    wait_for_end(again)
    assert again.is_finished_ok, what_failed(again)
    first, second = (Counter(job.process_label for job in jobs(node)) for node in (campaign, again))
    # energies of the elements are taken from the database, and so is what a killed daemon had to repeat
    assert set(first) - set(second) == {"ReferencesCalculation"} and all(second[label] <= first[label] for label in second)
    assert [job.process_label for job in jobs(again) if not job.base.caching.is_created_from_cache] == []
    scores = [[(row["candidate"], row["status"], row.get("dft")) for row in rows_of(node)] for node in (campaign, again)]
    assert scores[0] == scores[1]
