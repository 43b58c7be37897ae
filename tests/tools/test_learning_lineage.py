"""From a checkpoint to the DFT results that it learnt from, and from a result to what it led to; and the page of the rounds."""

import html
import importlib
import json
import sys
from pathlib import Path

import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.engine import run_get_node
from ase.build import bulk
from click.testing import CliRunner

from aiida_dosmatgen.calculations.functions import extend_labelled, gate, judge_checkpoint, rehearse, sum_up_round
from aiida_dosmatgen.cmdline.main import main
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.report import write
from aiida_dosmatgen.tools.learning import format_learnt, format_rounds, format_taught, learnt_by, lineage_of, taught_by
from aiida_dosmatgen.workflows.base import TrainBaseWorkChain
from tests.core.learning.test_extending import small_set, with_projections
from tests.core.learning.test_gate import result, zincblende

SETTINGS = {"budget": 9, "max_rounds": 1, "top_k": 2, "repeats": 0, "rehearsal": 1.0}
SMALL = {"epochs": 1, "architecture": {"width": 16, "layers": 1, "frequencies": 2}, "validation_fraction": 0.0}


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("recipes").recipes()


@pytest.fixture
def code(aiida_profile_clean, aiida_code, aiida_localhost):
    path = str(Path(sys.executable).with_name("dosmatgen"))
    return aiida_code("core.code.installed", label="dosmatgen-learnt", computer=aiida_localhost, filepath_executable=path)


def train(code, dataset, seed, **optional):
    inputs = {"code": code, "dataset": dataset, "parameters": orm.Dict({**SMALL, "keep": "last"}), "seed": orm.Int(seed)}
    options = {"options": {"device": "cpu", "threads": 1}}
    outputs, node = run_get_node(TrainBaseWorkChain, train={**inputs, **optional, "metadata": options})
    assert node.is_finished_ok, node.exit_message
    return outputs["checkpoint"]


def chain(kind, inputs, caller=None, label="", outputs=None):
    """A finished work chain of a kind."""
    node = orm.WorkChainNode(process_type=f"aiida.workflows:dosmatgen.{kind}")
    for name, value in inputs.items():
        node.base.links.add_incoming(value.store(), LinkType.INPUT_WORK, name)
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_WORK, label)
    node.store()
    for name, value in (outputs or {}).items():
        value.store().base.links.add_incoming(node, LinkType.RETURN, name)
    return node


def validation(atoms, campaign, name, mae=0.3):
    structure = orm.StructureData(ase=atoms)
    dos = CrystalSetData(with_projections(result(atoms)))
    score = orm.Dict({"formula": CrystalSet.from_ase(atoms).formulas[0], "mae": mae})
    return chain("validate", {"structure": structure}, campaign, f"validate_{name}", {"dos": dos, "score": score})


@pytest.fixture
def loop(code):
    """A round of a loop whose two results entered, one that did not, the model that it taught, and what that found."""
    silicon = small_set()[[0]]
    germanium = silicon.replace(numbers=[32, 32]).with_columns(crystal={"energy": [-180.0]})
    given = LabelledCrystalSetData(CrystalSet.concatenate([small_set(), germanium])).store()
    first = train(code, given, 1)
    node = chain("learn", {"dataset": given})
    campaign = chain("campaign", {"candidates__seed": orm.Int(7), "candidates__checkpoint": first}, node, "campaign_1")
    found = {
        "a_1": validation(zincblende("Ge", "C", 4.6), campaign, "a_1"),
        "a_2": validation(zincblende("Ge", "C", 4.61), campaign, "a_2"),  # a copy
        "b_c_3": validation(bulk("SiC", "rocksalt", a=4.1), campaign, "b_c_3"),
    }
    dos = {name: one.outputs.dos for name, one in found.items()}
    report = gate(dataset=given, criteria=orm.Dict({}), **{f"dos_{name}": one for name, one in dos.items()})
    entered = {f"dos_{name}": dos[name] for name in ("a_1", "b_c_3")}
    extended = extend_labelled(dataset=given, report=report, **entered)
    training = rehearse(dataset=extended, settings=orm.Dict(SETTINGS), seed=orm.Int(1))
    second = train(code, training, 2, parent=first)
    verdict = judge_checkpoint(
        settings=orm.Dict(SETTINGS),
        checkpoint=second,
        parent=first,
        before=orm.Dict({"loss": 1.0, "n_crystals": 1}),
        after=orm.Dict({"loss": 0.9, "n_crystals": 1}),
    )
    third = train(code, given, 3, parent=second)
    later = chain("campaign", {"candidates__seed": orm.Int(8), "candidates__checkpoint": third}, node, "campaign_2")
    last = validation(bulk("Ge"), later, "a_5", mae=0.1)
    ranking = orm.Dict({"targets": {"a": [{"status": "validated", "dft": {"mae": 0.3}}], "b_c": []}})
    one = {"settings": orm.Dict(SETTINGS), "number": orm.Int(1), "seed": orm.Int(7), "top_k": orm.Int(2)}
    _, summed = sum_up_round.run_get_node(
        **one, ranking=ranking, gate=report, verdict_denoiser=verdict, target_a=orm.Int(1), target_b_c=orm.Int(1)
    )
    for process, label in ((summed, "sum_up_1"), (report.creator, "gate_1")):
        process.backend_entity.add_incoming(node.backend_entity, LinkType.CALL_CALC, label)
    return {"node": node, "found": found, "checkpoints": [first, second, third], "last": last, "campaign": campaign}


@pytest.mark.slow
def test_lineage_both_ways_and_the_page(loop, recipes, tmp_path):
    first, second, third = loop["checkpoints"]
    assert learnt_by(first) == [] and [one.uuid for one in lineage_of(third)] == [third.uuid, second.uuid, first.uuid]
    for checkpoint in (second, third):  # the third by its parent
        results = learnt_by(checkpoint)
        assert [(one.formula, one.target, one.candidate, one.seed, one.round) for one in results] == [
            ("GeC", "a", 1, 7, 1),
            ("SiC", "b_c", 3, 7, 1),
        ]
        assert {one.checkpoint for one in results} == {first.uuid} and {one.loop for one in results} == {loop["node"].uuid}
        assert {one.validation for one in results} == {loop["found"][name].uuid for name in ("a_1", "b_c_3")}
        plain = recipes["results_learnt_from"](checkpoint)
        assert sorted(row[-1] for row in plain) == sorted(one.validation for one in results)
    assert [one.formula for one in learnt_by(third, ["Si", "C"])] == ["SiC"]
    ((formula, campaign, candidate, seed, reason, _),) = recipes["results_learnt_from"](third, "C", "Ge")
    assert (formula, campaign, candidate, seed) == ("GeC", loop["campaign"].uuid, "a_1", 7) and "meets all" in reason

    taught = taught_by(loop["found"]["a_1"])
    assert [(one["uuid"], one["accepted"]) for one in taught.checkpoints] == [(second.uuid, True), (third.uuid, None)]
    assert [(row["formula"], row["distance"], row["checkpoint"]) for row in taught.crystals] == [("Ge", 0.1, third.uuid)]
    dos = loop["found"]["a_1"].outputs.dos
    assert recipes["crystals_that_came_of"](dos) == [[third.uuid, "Ge", 0.1, loop["last"].uuid]]
    refused = taught_by(loop["found"]["a_2"])
    assert refused.checkpoints == [] and refused.crystals == []
    assert recipes["crystals_that_came_of"](loop["found"]["a_2"].outputs.dos) == []
    with pytest.raises(ValueError, match="is no DFT result"):
        taught_by(first)

    assert "accepted" in format_learnt(second, learnt_by(second)) and "candidate 3 of seed 7 for b_c" in format_learnt(
        third, learnt_by(third)
    )
    assert "led to" in format_taught(taught) and "no model" in format_taught(refused)
    assert "1 copy" in format_rounds(loop["node"]) and "the end: 1 rounds are done" in format_rounds(loop["node"])
    shown = CliRunner().invoke(main, ["lineage", str(third.pk), "--system", "Si-C", "--json"], catch_exceptions=False)
    assert [row["formula"] for row in json.loads(shown.output)] == ["SiC"]
    shown = CliRunner().invoke(main, ["lineage", str(loop["found"]["a_1"].pk), "--taught"], catch_exceptions=False)
    assert third.uuid in shown.output
    assert "give a checkpoint" in CliRunner().invoke(main, ["lineage", str(loop["last"].pk), "--system", "Si-C"]).output

    page = write(loop["node"], tmp_path / "rounds.html").read_text()
    for text in ("What entered the training set", "a near copy of a_1, which entered", "GeC", "entered", "0.3000", "accepted"):
        assert text in page
    assert "<script" not in page and "script-src 'none'" in html.unescape(page)
    assert write(loop["node"], tmp_path / "again.html").read_text() == page
    assert loop["node"].tools.rounds()[0]["entered"] == 2 and loop["node"].tools.table()
