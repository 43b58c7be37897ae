"""The real chain, and windows of children beside it: shipped models, real pw.x, a real daemon that is killed in the middle."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import submit

from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.tools.daemon import is_outdated
from aiida_dosmatgen.tools.lineage import lineage
from aiida_dosmatgen.workflows.candidates import CandidatesWorkChain

from ..campaigns import (
    N_CANDIDATES,
    TOP_K,
    jobs,
    kill_daemon,
    overrides,
    prepare,
    rows_of,
    start_daemon,
    start_here,
    stop_daemon,
    wait_for,
    wait_for_end,
    wait_for_running,
    what_failed,
)
from ..workflows.windowed import WindowedWorkChain, count_in_window, most_at_once, slow_until

pytestmark = pytest.mark.integration


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, aiida_config_factory, aiida_profile_factory):
    """A finished campaign, and a finished chain with a window, whose daemon was killed while pw.x ran and the window waited."""
    folder = tmp_path_factory.mktemp("campaign")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(ROOT))  # the daemon has to know the chain of the tests
    with (
        aiida_config_factory(folder) as config,
        aiida_profile_factory(config, broker_backend="core.zeromq") as profile,
    ):
        config.set_option("runner.poll.interval", 1, scope=profile.name)
        config.set_option("daemon.timeout", 60, scope=profile.name)  # two seconds are little on a busy machine
        config.set_option("caching.default_enabled", True, scope=profile.name)
        config.store()
        parts = prepare(folder)
        start_daemon()
        try:
            windows = Windows(tmp_path_factory.mktemp("windows"))
            windows.submit(parts["codes"]["pw"].computer)
            windows.wait_for_rest()
            node = start_here(parts)
            wait_for_running(node, "PwCalculation")
            kill_daemon()
            start_daemon()
            windows.open_gate()
            wait_for_end(node, windows.node)
            yield node, windows
        finally:
            stop_daemon()
            patch.undo()


@pytest.fixture
def campaign(disturbed):
    """The finished campaign."""
    return disturbed[0]


class Windows:
    """A chain of jobs, two at a time, of which the first ends only after the last."""

    def __init__(self, folder: Path) -> None:
        self.log, self.gate, self.last = (folder / name for name in ("log", "gate", "last"))
        inside = [count_in_window(self.log, number) for number in range(5)]
        self.commands = [slow_until(self.last), *inside[:2], slow_until(self.gate), *inside[2:], f"touch {self.last}"]

    def submit(self, computer: orm.Computer) -> None:
        """Submit the chain."""
        code = orm.InstalledCode(label="bash", computer=computer, filepath_executable="/bin/bash").store()
        inputs = {"code": code, "commands": orm.List(self.commands), "max_concurrent": 2, "log": str(self.log)}
        self.node = submit(WindowedWorkChain, **inputs)

    def wait_for_rest(self) -> None:
        """Wait until two jobs have ended, and the chain waits in a window that has slid twice."""
        node = self.node
        wait_for(lambda: node.is_terminated or (len(node.called) == 4 and node.process_state.value == "waiting"), "a window")

    def open_gate(self) -> None:
        """Let the chain continue."""
        self.gate.touch()


def test_a_window_survives_the_daemon(disturbed):
    _, windows = disturbed
    node = windows.node
    assert node.is_finished_ok, node.exit_message or node.exception
    assert sorted(node.outputs.ended) == list(range(8))
    assert len(node.called) == 8  # none lost, none twice
    assert most_at_once(windows.log) == 1


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


def test_a_daemon_knows_whether_its_code_has_changed(disturbed, tmp_path):
    assert not is_outdated()
    (tmp_path / "new.py").touch()
    assert is_outdated(tmp_path)


# --- what follows it, all at once -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def followers(disturbed):
    """The same campaign again; its candidates by two jobs of each kind; and candidates that are ranked unrelaxed."""
    campaign, _ = disturbed
    (one,) = (node for node in campaign.called if node.process_label == "CandidatesWorkChain")

    def candidates(**options):
        builder = CandidatesWorkChain.get_builder_from_protocol(
            one.inputs.sample.code,
            **{name: getattr(one.inputs, name) for name in ("target", "checkpoint", "predictor", "force_field")},
            protocol="fast",
            options={"threads": 1},
            seed=1,
            **options,
        )
        return submit(builder)

    # as docs/screening.md says: relaxed for their energies, but none is ranked relaxed
    unrelaxed = {"criteria": {"geometries": ["unrelaxed"], "require_converged": False, "max_formation_energy": None}}
    return {
        "again": submit(campaign.get_builder_restart()),
        "two jobs": candidates(overrides=overrides(25)["candidates"], n_candidates=N_CANDIDATES, n_jobs=2),
        "unrelaxed": candidates(overrides=unrelaxed, n_candidates=4),
    }


def ended(node):
    """Wait for the end of a process, and return it."""
    wait_for_end(node, what=f"the end of {node.process_label}<{node.pk}>")
    assert node.is_finished_ok, what_failed(node)
    return node


def test_the_same_campaign_again_computes_nothing(campaign, followers):
    again = ended(followers["again"])
    first, second = (Counter(job.process_label for job in jobs(node)) for node in (campaign, again))
    # energies of the elements are taken from the database, and so is what a killed daemon had to repeat
    assert set(first) - set(second) == {"ReferencesCalculation"} and all(second[label] <= first[label] for label in second)
    assert [job.process_label for job in jobs(again) if not job.base.caching.is_created_from_cache] == []
    scores = [[(row["candidate"], row["status"], row.get("dft")) for row in rows_of(node)] for node in (campaign, again)]
    assert scores[0] == scores[1]


def test_two_jobs_find_what_one_finds_and_take_its_energies_of_the_elements(campaign, followers):
    (one,) = (node for node in campaign.called if node.process_label == "CandidatesWorkChain")
    node = ended(followers["two jobs"])
    labels = Counter(child.process_label for child in node.called)
    assert labels == {
        "SampleBaseWorkChain": 2, "RelaxBaseWorkChain": 2, "PredictBaseWorkChain": 2, "join_geometries": 2, "join_crystals": 3,
        "screen": 1,
    }  # fmt: skip
    ours, theirs = (chain.outputs.sampled.crystals for chain in (node, one))
    assert ours.crystal_columns["candidate"].tolist() == list(range(N_CANDIDATES))
    np.testing.assert_array_equal(ours.numbers, theirs.numbers)
    np.testing.assert_allclose(ours.lattices, theirs.lattices, atol=1e-6)
    report, first = (chain.outputs.report.get_dict() for chain in (node, one))
    assert report["funnel"]["candidates"] == first["funnel"]["candidates"] == N_CANDIDATES


def test_unrelaxed_crystals_are_ranked_on_request(followers):
    node = ended(followers["unrelaxed"])
    sampled, crystals = node.outputs.sampled.crystals, node.outputs.crystals.crystals
    rows = node.outputs.report["ranking"]
    assert rows and {row["geometry"] for row in rows} == {"unrelaxed"}
    for row, crystal in zip(rows, crystals, strict=True):
        np.testing.assert_array_equal(crystal.lattices, sampled[row["candidate"]].lattices)
        np.testing.assert_array_equal(crystal.fractional, sampled[row["candidate"]].fractional)
        assert row["relaxation_energy"] > -1e-3 and np.isfinite(row["formation_energy"])
