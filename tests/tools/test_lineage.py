"""Lineage and ranking on provenance graphs, in the profile they were made in and in another one."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.tools.archive import create_archive, import_archive
from ase.build import bulk

from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.tools.lineage import lineage
from aiida_dosmatgen.tools.ranking import best_of, format_lineage, format_ranking


def run(cls, label, inputs, outputs, process_type=None, chain=None):
    """Store a process that ended, with its inputs and outputs, as the engine would."""
    node = cls()
    node.set_process_label(label)
    node.set_process_state("finished")
    node.set_exit_status(0)
    node.set_process_type(process_type or f"tests.{label}")
    workflow = issubclass(cls, orm.WorkflowNode)
    for name, value in inputs.items():
        link = LinkType.INPUT_WORK if workflow else LinkType.INPUT_CALC
        node.base.links.add_incoming(value.store(), link_type=link, link_label=name)
    if cls is orm.CalcJobNode:
        node.computer = inputs["code"].computer
    node.store()
    for name, value in outputs.items():
        value.base.links.add_incoming(node, link_type=LinkType.RETURN if workflow else LinkType.CREATE, link_label=name)
        if not value.is_stored:
            value.store()
    node.seal()
    return node


def candidate(
    code, pw_code, models, target, crystals, number, scored_by=None, joined=False, unrelaxed=False, former=False, **sampling
):
    """Make the graph of one validated candidate, and return its validation.

    :param target: of the sampling, None if it was free; ``scored_by`` is the one of the validation, if that is another.
    :param joined: whether the candidate was one of several jobs'.
    :param unrelaxed: whether the candidates were predicted in both geometries, and ranked unrelaxed.
    :param former: whether an earlier version put both geometries together, with other names.
    :param sampling: further inputs of the sampling.
    """
    parameters, jobs = orm.Dict({"sampler": "ode", "steps": 5}), "aiida.calculations:dosmatgen."

    def predicted(seed, given):
        """Return the outcome of a job of each kind."""
        sampled, relaxed, predicted = (CrystalSetData(given) for _ in range(3))
        inputs = {"code": code, "checkpoint": models["denoiser"], "target": target, "seed": orm.Int(seed)}
        inputs = {**inputs, "parameters": parameters, **sampling}
        inputs = {name: node for name, node in inputs.items() if node is not None}  # a target of None: freely
        run(orm.CalcJobNode, "SampleCalculation", inputs, {"crystals": sampled}, f"{jobs}sample")
        inputs = {"code": code, "crystals": sampled, "force_field": models["force_field"]}
        run(orm.CalcJobNode, "RelaxCalculation", inputs, {"crystals": relaxed}, f"{jobs}relax")
        if unrelaxed:
            both = CrystalSetData(given)
            name, other = ("stack_forms", "sampled") if former else ("join_geometries", "unrelaxed")
            run(orm.CalcFunctionNode, name, {"relaxed": relaxed, other: sampled}, {"result": both})
            relaxed = both
        inputs = {"code": code, "crystals": relaxed, "checkpoint": models["predictor"]}
        run(orm.CalcJobNode, "PredictCalculation", inputs, {"crystals": predicted}, f"{jobs}predict")
        return predicted

    column, geometry = ("form", "sampled") if former else ("geometry", "unrelaxed")
    numbered = {"candidate": number + np.arange(len(crystals)), column: np.full(len(crystals), geometry)}
    screened = CrystalSetData(crystals.with_columns(crystal=numbered) if unrelaxed else crystals)
    if joined:
        first, second = (
            crystals.with_columns(crystal={"candidate": k + np.arange(len(crystals))}) for k in (number + 50, number)
        )
        parts, every = {"part_0": predicted(99, first), "part_1": predicted(11, second)}, CrystalSetData(second)
        run(orm.CalcFunctionNode, "join_crystals", parts, {"result": every})
    else:
        every = predicted(11, crystals)
    run(orm.CalcFunctionNode, "screen", {"crystals": every}, {"crystals": screened})
    structure, dos, score = orm.StructureData(ase=bulk("Si")), CrystalSetData(crystals[0]), orm.Dict({"mae": 0.1})
    run(orm.CalcFunctionNode, "extract_candidate", {"crystals": screened, "candidate": orm.Int(number)}, {"result": structure})
    bands = orm.Dict({})
    inputs = {"code": pw_code, "structure": structure, "pseudos__Si": models["pseudo"]}
    run(orm.CalcJobNode, "PwCalculation", inputs, {"output_band": bands}, "aiida.calculations:quantumespresso.pw")
    run(orm.CalcFunctionNode, "projected_dos", {"structure": structure, "bands": bands}, {"result": dos})
    scored_by = scored_by or target
    run(orm.CalcFunctionNode, "score_dos", {"dos": dos, "target": scored_by}, {"result": score})
    return run(
        orm.WorkChainNode,
        "ValidateWorkChain",
        {"structure": structure, "target": scored_by},
        {"dos": dos, "score": score},
        "aiida.workflows:dosmatgen.validate",
    )


@pytest.fixture(scope="module")
def kept():
    """The graph that the tests look at, once it is there. Each adds candidates of its own, which change nothing of it."""
    return {}


@pytest.fixture
def graph(kept, request, aiida_profile):
    if not kept:
        request.getfixturevalue("aiida_profile_clean")  # for good: a checkpoint's data set is found by its hash
        kept.update(request.getfixturevalue("new_graph"))
    return kept


@pytest.fixture
def new_graph(aiida_profile, aiida_code_installed, checkpoint_file, model_file, tmp_path, crystals, labelled, target):
    """A candidate whose denoiser was trained, in this profile, on crystals that come from an older candidate."""
    from aiida_pseudo.data.pseudo.upf import UpfData

    upf = tmp_path / "Si.pbe.upf"
    upf.write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0"/>\n</UPF>\n')
    code = aiida_code_installed(label="lineage-dosmatgen", filepath_executable="/opt/dosmatgen")
    pw_code = aiida_code_installed(label="lineage-pw", filepath_executable="/opt/pw.x")
    dataset = LabelledCrystalSetData(labelled)
    training = {"n_crystals": 3, "seed": 1, "epochs": 2, "parameters": {}, "parent_sha256": "a" * 64}
    training["dataset_sha256"] = dataset.sha256
    models = {
        "denoiser": CheckpointData(checkpoint_file(name="old.safetensors")),
        "predictor": CheckpointData(checkpoint_file("predictor", "predictor.safetensors", training=training)),
        "force_field": ForceFieldData.from_file(model_file),
        "pseudo": UpfData(upf),
    }
    node = DosTargetData(target)
    older = candidate(code, pw_code, models, node, crystals, 3)
    run(orm.CalcFunctionNode, "assemble_labelled", {"older": older.outputs.dos}, {"result": dataset})
    trained = CheckpointData(checkpoint_file(name="new.safetensors", training=training))
    inputs = {"code": code, "dataset": dataset, "seed": orm.Int(1)}
    train = run(orm.CalcJobNode, "TrainCalculation", inputs, {"checkpoint": trained}, "aiida.calculations:dosmatgen.train")
    validation = candidate(code, pw_code, {**models, "denoiser": trained}, node, crystals, 7)
    return {
        "validation": validation,
        "train": train,
        "dataset": dataset,
        "trained": trained,
        "target": node,
        "models": models,
        "codes": (code, pw_code),
    }


def test_lineage_of_a_validation(graph):
    found = lineage(graph["validation"])
    assert (found.candidate, found.seed, found.formula) == (7, 11, "Si")
    assert found.target == graph["target"].uuid
    assert found.target_sha256 == graph["target"].sha256
    assert found.sampling == {"sampler": "ode", "steps": 5}
    assert found.score == {"mae": 0.1}
    assert found.checkpoint.uuid == graph["trained"].uuid
    assert found.checkpoint.sha256 == graph["trained"].sha256
    assert found.checkpoint.training_run == graph["train"].uuid
    assert found.checkpoint.dataset == graph["dataset"].uuid
    assert found.checkpoint.parent_sha256 == "a" * 64
    assert found.predictor.training_run is None
    assert found.predictor.dataset == graph["dataset"].uuid  # found by its hash
    assert found.force_field.sha256 == graph["models"]["force_field"].base.attributes.get("sha256")
    assert found.pseudos["Si"].md5 == graph["models"]["pseudo"].md5
    assert {name: code.executable for name, code in found.codes.items()} == {
        "sample": "/opt/dosmatgen",
        "relax": "/opt/dosmatgen",
        "predict": "/opt/dosmatgen",
        "quantumespresso.pw": "/opt/pw.x",
    }
    assert graph["trained"].sha256 in format_lineage(found)


def test_classifier_and_template_are_ancestors(graph, checkpoint_file, crystals):
    classifier = CheckpointData(checkpoint_file("classifier", "classifier.safetensors"))
    structure = orm.StructureData(ase=bulk("SiC", "zincblende", 4.36))
    for template, formula in ((structure, "SiC"), (CrystalSetData(crystals[1]), None)):
        extra = {"classifier": classifier, "template": template}
        validation = candidate(*graph["codes"], graph["models"], graph["target"], crystals, 5, **extra)
        found = lineage(validation)
        assert (found.classifier.uuid, found.classifier.sha256) == (classifier.uuid, classifier.sha256)
        assert found.classifier.kind == "classifier"
        assert (found.template.uuid, found.template.formula) == (template.uuid, formula)
        assert found.template.sha256 == template.base.attributes.get("sha256", None)
        text = format_lineage(found)
        assert classifier.sha256 in text and template.uuid in text
    plain = lineage(graph["validation"])
    assert (plain.classifier, plain.template) == (None, None)


def test_lineage_of_a_candidate_of_one_of_several_jobs(graph, crystals):
    found = lineage(candidate(*graph["codes"], graph["models"], graph["target"], crystals, 8, joined=True))
    assert (found.candidate, found.seed) == (8, 11)
    assert found.predictor.sha256 == graph["models"]["predictor"].sha256


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_lineage_of_an_unrelaxed_candidate(graph, crystals, joined, former):
    parts = {"joined": joined, "unrelaxed": True, "former": former}
    found = lineage(candidate(*graph["codes"], graph["models"], graph["target"], crystals, 4, **parts))
    assert (found.candidate, found.geometry, found.seed) == (4, "unrelaxed", 11)
    assert found.predictor.uuid == graph["models"]["predictor"].uuid
    assert found.force_field.sha256 == graph["models"]["force_field"].base.attributes.get("sha256")
    assert "4 of seed 11, unrelaxed" in format_lineage(found)
    assert lineage(graph["validation"]).geometry == "relaxed"


def test_lineage_of_a_freely_sampled_candidate(graph, crystals):
    found = lineage(candidate(*graph["codes"], graph["models"], None, crystals, 6, scored_by=graph["target"]))
    assert (found.target, found.target_sha256, found.candidate) == (None, None, 6)
    assert "sampled freely" in format_lineage(found)


def test_lineage_from_structure_dos_and_score_is_the_same(graph):
    expected = lineage(graph["validation"])
    for node in (graph["validation"].inputs.structure, graph["validation"].outputs.dos, graph["validation"].outputs.score):
        assert lineage(node) == expected


def test_a_crystal_of_elsewhere_has_no_lineage(aiida_profile):
    with pytest.raises(ValueError, match="does not come from a candidate"):
        lineage(orm.StructureData(ase=bulk("Si")).store())


def test_lineage_after_import_into_another_profile(graph, kept, tmp_path, aiida_config, aiida_profile_factory):
    expected, uuid = lineage(graph["validation"]), graph["validation"].uuid
    archive = tmp_path / "campaign.aiida"
    create_archive([graph["validation"]], filename=archive, call_calc_backward=True, return_backward=True)
    with aiida_profile_factory(aiida_config, name="elsewhere") as profile:
        from aiida.manage import get_manager

        assert get_manager().get_profile().name == profile.name
        assert orm.QueryBuilder().append(CheckpointData).count() == 0
        import_archive(archive)
        found = lineage(orm.load_node(uuid))
    assert found == expected
    kept.clear()  # its nodes are of the session that ended with the change of profile


def test_ranking_table(aiida_profile):
    rows = [
        {"rank": 1, "candidate": 4, "formula": "SiC", "status": "validated", "formation_energy": -0.2},
        {"rank": 2, "candidate": 2, "formula": "Si2", "status": "failed", "reason": "no bands", "formation_energy": None},
        {"rank": 3, "candidate": 9, "formula": "C2", "status": "not validated", "predicted_distance": 0.25},
    ]
    rows[0]["dft"] = {"mae": 0.0123, "mae_window": 0.02, "wasserstein": 0.5}
    ranking = orm.Dict({"targets": {"a": rows, "b": []}, "failed": {"b": "nothing sampled"}})
    report = orm.Dict({"funnel": {"candidates": 64, "valid": 60, "unique": 3}})
    outputs = {"ranking": ranking.store(), "reports__a": report.store()}
    node = run(orm.WorkChainNode, "CampaignWorkChain", {}, outputs, "aiida.workflows:dosmatgen.campaign")
    text = node.tools.table()
    assert text == format_ranking(node)
    for part in (
        "SiC",
        "0.0123",
        "-0.200",
        "failed: no bands",
        "0.2500",
        "no candidates: nothing sampled",
        "64 candidates → 60 valid → 3 unique",
    ):
        assert part in text
    assert best_of(node) == {**rows[0], "target": "a"} == node.tools.best()
    assert "and 2 more" not in format_ranking(node, limit=1)  # the failed one is never left out
    assert "and 1 more" in format_ranking(node, limit=1)
