import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.build import bulk

from aiida_dosmatgen.core.campaign import CampaignNumbers
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import RelaxParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.candidates import CandidatesWorkChain
from aiida_dosmatgen.workflows.references import stored_references

from .jobs import job


@pytest.fixture
def build(codes, models, target_node):
    def _build(**kwargs):
        return CandidatesWorkChain.get_builder_from_protocol(
            codes["dosmatgen"], **{"target": target_node, **models, "protocol": "fast", **kwargs}
        )

    return _build


@pytest.mark.parametrize("protocol", ["fast", "balanced", "stringent"])
def test_protocols_make_valid_inputs(build, process, protocol):
    builder = build(protocol=protocol, seed=3)
    assert process(builder).inputs.seed == 3
    assert builder.sample.parameters.get_dict()["steps"] >= 1


def test_seed_and_number_of_jobs_are_those_of_the_command_line_if_nobody_says_any(build):
    numbers = CampaignNumbers(n_candidates=1, top_k=1)
    builder = build()
    assert (builder.seed, builder.n_jobs) == (numbers.seed, numbers.n_jobs) == (1, 1)
    builder = build(overrides={"seed": 5, "n_jobs": 2})
    assert (builder.seed, builder.n_jobs) == (5, 2)
    builder = build(overrides={"seed": 5, "n_jobs": 2}, seed=0, n_jobs=3)
    assert (builder.seed, builder.n_jobs) == (0, 3)


BOTH = {"criteria": {"geometries": ["relaxed", "unrelaxed"]}}


def test_protocols_get_more_careful():
    fast, balanced, stringent = (CandidatesWorkChain.get_protocol_inputs(p) for p in ("fast", "balanced", "stringent"))
    assert fast["n_candidates"] < balanced["n_candidates"] < stringent["n_candidates"]
    assert (
        fast["relax"]["parameters"]["fmax"] > balanced["relax"]["parameters"]["fmax"] > stringent["relax"]["parameters"]["fmax"]
    )


def test_compositions_are_proposed_where_that_suits(build, checkpoint_file, codes):
    elements = ["C", "Si"]
    proposing = CheckpointData(
        checkpoint_file("denoiser", "proposing.safetensors", elements=elements, architecture={"width": 16, "composition": 8})
    )
    wishes = DosTargetData(DosTarget.from_wishes(["gap >= 1.5"]))
    template = CrystalSetData(CrystalSet.from_ase(bulk("Si")))

    def proposed(**given):
        return build(**given).sample.parameters.get_dict().get("compositions")

    assert proposed(checkpoint=proposing) == {"count": 64}
    assert proposed() is None, "the checkpoint cannot"
    assert proposed(checkpoint=proposing, target=None) is None
    assert proposed(checkpoint=proposing, target=wishes) is None
    start = {"sample": {"parameters": {"start_time": 0.5}}}
    assert proposed(checkpoint=proposing, template=template, overrides=start) is None
    own = {"sample": {"parameters": {"compositions": {"count": 4}}}}
    assert proposed(checkpoint=proposing, overrides=own) == {"count": 4}
    assert proposed(checkpoint=proposing, overrides={"sample": {"parameters": {"compositions": None}}}) is None
    assert proposed(overrides=own) == {"count": 4}, "what is asked for stands, and is refused where it cannot be"


def test_overrides_go_before_the_protocol(build):
    builder = build(overrides={"sample": {"parameters": {"steps": 7}}}, options={"max_wallclock_seconds": 60}, n_candidates=5)
    assert builder.sample.parameters.get_dict() == {"sampler": "ode", "steps": 7, "guidance_scale": 0.5}
    assert builder.n_candidates == 5
    for step in ("sample", "relax", "predict"):
        assert builder[step].metadata.options.max_wallclock_seconds == 60


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sampel": {}}, r"unknown key 'sampel' in the overrides; did you mean 'sample'"),
        ({"sample": {"metadata": {"optoins": {}}}}, r"unknown key 'sample.metadata.optoins'.*'options'"),
        ({"sample": {"parameters": {"stepz": 3}}}, r"sample.parameters: stepz: unknown key"),
        ({"relax": {"parameters": {"fmax": -1}}}, r"relax.parameters: fmax: .*greater than 0"),
        ({"criteria": {"uniqe": True}}, r"criteria: uniqe: unknown key"),
        ({"criteria": {"geometries": ["strained"]}}, r"criteria: geometries.*'relaxed' or 'unrelaxed'"),
    ],
)
def test_mistyped_overrides_are_refused(build, overrides, message):
    with pytest.raises(ValueError, match=message) as error:
        build(overrides=overrides)
    assert "\n" not in str(error.value)


def test_an_unknown_protocol_is_refused(build):
    with pytest.raises(ValueError, match="no protocol 'quick'; CandidatesWorkChain has balanced, stringent, fast"):
        build(protocol="quick")


def test_checkpoints_are_not_mixed_up(build, models):
    with pytest.raises(ValueError, match="the checkpoint is a predictor, a denoiser is needed here"):
        build(checkpoint=models["predictor"])


def test_the_number_of_atoms_may_be_left_open(build, process, target):
    total = DosTargetData(DosTarget(target.total, "total"))
    assert process(build(target=total)).inputs.target.target.n_atoms is None


def test_sizes_have_to_fit_the_target(build, process, target):
    with pytest.raises(ValueError, match="the target is for crystals of 2 atoms, but n_atoms is 4"):
        process(build(overrides={"sample": {"parameters": {"n_atoms": 4}}}))
    chosen = DosTargetData(DosTarget(target.curves, sites=(0, 3)))
    process(build(target=chosen, overrides={"sample": {"parameters": {"n_atoms": 4}}}))


def test_without_a_target_crystals_are_ranked_by_formation_energy(build, process, labelled):
    chain = process(build(target=None))
    assert "target" not in chain.inputs
    relaxed = labelled[:2].with_columns(
        crystal={
            "energy": np.array([-10.0, -12.6]),
            "status": np.array(["converged"] * 2),
            "candidate": np.array([0, 1]),
            "seed": np.zeros(2, dtype=int),
        }
    )
    chain.ctx.reference_energies = orm.Dict({"energies": {"Si": -5.0, "C": -7.0}})
    chain.ctx.predict = job("PredictCalculation", 0, crystals=CrystalSetData(relaxed))
    assert chain.run_screen() is None
    rows = chain.outputs["report"].get_dict()["ranking"]
    assert [(row["candidate"], row["predicted_distance"]) for row in rows] == [(1, None), (0, None)]
    assert [row["score"] for row in rows] == pytest.approx([-0.3, 0.0])


# --- relaxed, and unrelaxed ---------------------------------------------------------------------------------------------------


@pytest.fixture
def both(labelled, target):
    """Two candidates of two atoms, unrelaxed and relaxed."""
    numbers = {"candidate": np.array([0, 1]), "seed": np.zeros(2, dtype=int)}
    sampled = labelled[:2].replace(crystal_columns=numbers, atom_columns={})
    columns = {"energy": np.array([-10.0, -12.6]), "start_energy": np.array([-9.0, -12.0]), "status": np.full(2, "converged")}
    return {"sample": sampled, "relax": sampled.with_columns(crystal=columns)}


def predicted(given, target):
    """Return what a prediction makes of crystals, in one geometry or both: near the target are 0 unrelaxed, and 1 relaxed."""
    geometries = given.crystal_columns.get("geometry", np.full(len(given), "relaxed")).tolist()
    near = [
        pair in ((0, "unrelaxed"), (1, "relaxed"))
        for pair in zip(given.crystal_columns["candidate"].tolist(), geometries, strict=True)
    ]
    curves = [target.curves if one else np.full_like(target.curves, 0.5) for one in near]
    return given.with_columns(atom={"predicted_dos": np.concatenate(curves).astype(np.float32)})


def screened(chain, both, target, monkeypatch, n_jobs=1):
    """Take a chain from its relaxed candidates to the ranking; return {candidate: geometry}."""
    submitted = {}

    def submit(cls, metadata, **inputs):
        submitted[metadata["call_link_label"]] = inputs
        return job(cls.__name__, 0)

    monkeypatch.setattr(chain, "submit", submit)
    shares = [""] if n_jobs == 1 else [f"_{i}" for i in range(n_jobs)]
    for i, share in enumerate(shares):
        for step, crystals in both.items():
            part = crystals if n_jobs == 1 else crystals[[i]]
            chain.ctx[f"{step}{share}"] = job(step, 0, crystals=CrystalSetData(part))
    chain.ctx.reference_energies = orm.Dict({"energies": {"Si": -5.0, "C": -7.0}})
    assert chain.inspect_relax() is None and chain.run_predict() is None
    assert list(submitted) == [f"predict{share}" for share in shares]
    for share in shares:
        given = submitted[f"predict{share}"]["predict"]["crystals"].crystals
        chain.ctx[f"predict{share}"] = job("predict", 0, crystals=CrystalSetData(predicted(given, target)))
    assert chain.inspect_predict() is None and chain.run_screen() is None
    return {row["candidate"]: row["geometry"] for row in chain.outputs["report"].get_dict()["ranking"]}


def test_candidates_are_ranked_in_their_closer_geometry(build, process, both, target, monkeypatch):
    chain = process(build(overrides=BOTH))
    assert screened(chain, both, target, monkeypatch) == {0: "unrelaxed", 1: "relaxed"}
    both = chain.outputs["predicted"].crystals
    assert both.crystal_columns["geometry"].tolist() == ["relaxed", "relaxed", "unrelaxed", "unrelaxed"]


def test_several_jobs_find_the_same(build, process, both, target, monkeypatch):
    chain = process(build(overrides=BOTH, n_candidates=2, n_jobs=2))
    assert screened(chain, both, target, monkeypatch, n_jobs=2) == {0: "unrelaxed", 1: "relaxed"}


@pytest.mark.parametrize("max_ranked", [1, 2])
def test_more_candidates_than_are_ranked_are_screened_as_they_are_predicted(
    build, process, both, target, monkeypatch, max_ranked
):
    chain = process(build(n_candidates=2, overrides={"criteria": {"max_ranked": max_ranked}}))
    submitted = []
    monkeypatch.setattr(chain, "submit", lambda cls, metadata, **inputs: submitted.append(inputs) or job("predict", 0))
    chain.ctx.relax = job("relax", 0, crystals=CrystalSetData(both["relax"]))
    chain.ctx.reference_energies = orm.Dict({"energies": {"Si": -5.0, "C": -7.0}}).store()
    assert chain.run_predict() is None
    inputs = submitted[0]["predict"]
    screening = {name: node.uuid for name, node in inputs.items() if name in ("criteria", "references", "target")}
    expected = {
        "criteria": chain.inputs.criteria.uuid,
        "references": chain.ctx.reference_energies.uuid,
        "target": chain.inputs.target.uuid,
    }
    assert screening == (expected if max_ranked == 1 else {})


def test_what_jobs_left_out_is_counted(build, process, both, target):
    chain = process(build(n_candidates=4, n_jobs=2))
    chain.ctx.reference_energies = orm.Dict({"energies": {"Si": -5.0, "C": -7.0}})
    for i in range(2):
        columns = {"candidate": np.array([7 + i]), "reason": np.array(["duplicate"]), "criterion": np.array(["unique"])}
        left_out = CrystalSetData(both["relax"][[i]].replace(crystal_columns=columns))
        kept = CrystalSetData(predicted(both["relax"][[i]], target))
        chain.ctx[f"predict_{i}"] = job("predict", 0, crystals=kept, left_out=left_out)
    assert chain.run_screen() is None
    report = chain.outputs["report"].get_dict()
    assert report["rejected"] == {"duplicate": [7, 8]} and report["funnel"]["candidates"] == 4
    assert {row["candidate"] for row in report["ranking"]} == {0, 1}


def test_relaxed_candidates_alone(build, process, both, target, monkeypatch):
    chain = process(build())
    assert screened(chain, both, target, monkeypatch) == {0: "relaxed", 1: "relaxed"}
    assert "geometry" not in chain.outputs["predicted"].crystals.crystal_columns


def test_unrelaxed_candidates_alone_are_relaxed_for_their_energies(build, process, both, target, monkeypatch):
    chain = process(build(overrides={"criteria": {"geometries": ["unrelaxed"]}}))
    assert screened(chain, both, target, monkeypatch) == {0: "unrelaxed", 1: "unrelaxed"}
    energies = {row["candidate"]: row["formation_energy"] for row in chain.outputs["report"].get_dict()["ranking"]}
    assert energies == pytest.approx({0: 0.0, 1: -0.3})


def test_free_candidates_are_not_compared_unrelaxed(build, process, both, target, monkeypatch):
    chain = process(build(target=None))
    assert screened(chain, both, target, monkeypatch) == {0: "relaxed", 1: "relaxed"}


def test_geometries_that_do_not_belong_together_end_the_chain(build, process, both, crystals):
    chain = process(build(overrides=BOTH))
    chain.ctx.relax = job("relax", 0, crystals=CrystalSetData(both["relax"]))
    chain.ctx.sample = job("sample", 0, crystals=CrystalSetData(crystals))
    exit_code = chain.run_predict()
    assert exit_code.status == 304 and "no column 'candidate'" in exit_code.message


def test_a_template_goes_to_the_sampling(build, process, crystals):
    template = CrystalSetData(crystals[:2])
    chain = process(build(template=template, overrides={"sample": {"parameters": {"start_time": 0.6}}}))
    assert chain.inputs.sample.template is template
    with pytest.raises(ValueError, match="a template is given, but nothing uses it"):
        process(build(template=template))
    with pytest.raises(ValueError, match="start_time needs a template"):
        process(build(overrides={"sample": {"parameters": {"start_time": 0.6}}}))


def test_a_classifier_guides_unless_told_otherwise(build, process, checkpoint_file):
    classifier = CheckpointData(checkpoint_file("classifier", "classifier.safetensors", elements=["C", "Si"]))
    chain = process(build(classifier=classifier))
    assert chain.inputs.sample.classifier is classifier
    assert chain.inputs.sample.parameters["guidance"] == "classifier"
    with pytest.raises(ValueError, match="there is no target to guide to"):
        process(build(classifier=classifier, target=None))
    with pytest.raises(ValueError, match="a classifier is given, but guidance is 'classifier-free'"):
        process(build(classifier=classifier, overrides={"sample": {"parameters": {"guidance": "classifier-free"}}}))
    with pytest.raises(ValueError, match="guidance is 'classifier', but none is given"):
        process(build(overrides={"sample": {"parameters": {"guidance": "classifier"}}}))


def test_free_sampling_without_guidance(build, process):
    chain = process(build(target=None, overrides={"sample": {"parameters": {"guidance": "none"}}}))
    assert chain.inputs.sample.parameters["guidance"] == "none"


def test_a_job_that_stopped_early_is_gone_on_with(build, process, crystals):
    chain = process(build())
    chain.ctx.sample = job("SampleCalculation", 401, "stopped", crystals=CrystalSetData(crystals))
    assert chain.inspect_sample() is None
    assert chain.outputs["sampled"].crystals == crystals


@pytest.mark.parametrize(("status", "with_crystals"), [(301, False), (303, True), (401, False)])
def test_a_job_that_left_nothing_ends_the_chain(build, process, crystals, status, with_crystals):
    chain = process(build())
    outputs = {"crystals": CrystalSetData(crystals)} if with_crystals else {}
    chain.ctx.sample = job("SampleCalculation", status, "no\nuse", **outputs)
    exit_code = chain.inspect_sample()
    assert exit_code.status == CandidatesWorkChain.exit_codes.ERROR_SAMPLE_FAILED.status
    assert f"SampleCalculation exit status {status}: no use" in exit_code.message


def references_of(force_field, parameters, elements, exit_status=0):
    """Return the energies that a finished job computed."""
    node = orm.CalcJobNode(process_type="aiida.calculations:dosmatgen.references")
    for label, given in (("force_field", force_field), ("parameters", orm.Dict(parameters))):
        node.base.links.add_incoming(given.store(), link_type=LinkType.INPUT_CALC, link_label=label)
    node.set_process_state("finished")
    node.set_exit_status(exit_status)
    node.store()
    references = orm.Dict({"elements": elements, "energies": dict.fromkeys(elements, -1.0)})
    references.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="references")
    return references.store()


@pytest.mark.usefixtures("aiida_profile_clean")  # nothing that earlier tests stored
def test_energies_of_the_elements_are_computed_once_for_each_force_field(models, model_file):
    force_field, loose = models["force_field"], {"fmax": 0.1}
    assert stored_references(force_field, loose, ["Si"]) is None
    first = references_of(force_field, loose, ["C", "Si"])
    references_of(force_field, loose, ["C", "Si"], exit_status=301)
    assert stored_references(force_field, loose, ["Si"]).uuid == first.uuid
    assert stored_references(force_field, {"fmax": 0.1, "max_steps": 300}, ["Si", "C"]).uuid == first.uuid  # the default
    assert stored_references(force_field, {"fmax": 0.05}, ["Si"]) is None
    assert stored_references(force_field, loose, ["Si", "Ge"]) is None
    same_file = ForceFieldData.from_file(model_file, name="a copy").store()
    assert stored_references(same_file, loose, ["Si"]).uuid == first.uuid
    calculator = ForceFieldData.from_calculator("ase.calculators.emt:EMT").store()
    assert stored_references(calculator, loose, ["Si"]) is None
    own = references_of(calculator, loose, ["Si"])
    assert stored_references(calculator, loose, ["Si"]).uuid == own.uuid
    again = ForceFieldData.from_calculator("ase.calculators.emt:EMT").store()
    assert stored_references(again, loose, ["Si"]) is None  # a name says nothing of what it meant elsewhere


def sampled(chain, *symbols):
    """Return a chain that has sampled one crystal of each element."""
    crystals = CrystalSet.from_ase([bulk(symbol, "diamond", a=4.0) for symbol in symbols])
    chain.ctx.sample = job("SampleBaseWorkChain", 0, crystals=CrystalSetData(crystals))
    return chain


@pytest.mark.usefixtures("aiida_profile_clean")  # nothing that earlier tests stored
def test_stored_energies_of_the_elements_are_taken(build, process, models):
    stored = references_of(models["force_field"], build().relax.parameters.get_dict(), ["C", "Si"])
    chain = sampled(process(build()), "Si", "C")
    assert chain.run_references() is None
    assert chain.ctx.reference_energies.uuid == stored.uuid
    given = orm.Dict({"energies": {"Si": -1.0}})
    builder = build()
    builder.references = given
    chain = process(builder)
    chain.run_references()
    assert chain.ctx.reference_energies.uuid == given.uuid


@pytest.mark.usefixtures("aiida_profile_clean")  # nothing that earlier tests stored
@pytest.mark.usefixtures("aiida_profile_clean")  # nothing that earlier tests stored
def test_energies_of_no_other_elements_are_computed_than_the_candidates_and_phases_have(build, process, monkeypatch):
    submitted = []
    builder = build()
    builder.phases = CrystalSetData(CrystalSet.from_ase([bulk("Ge")]))
    chain = sampled(process(builder), "Si")  # the checkpoint knows carbon, too
    monkeypatch.setattr(chain, "submit", lambda _, **inputs: submitted.append(inputs) or job("ReferencesBaseWorkChain", 0))
    chain.run_references()
    assert submitted[0]["references"].elements.get_list() == ["Ge", "Si"]


def test_energies_of_the_elements_are_computed_like_the_relaxation(build, process, monkeypatch):
    submitted = []
    chain = sampled(process(build(options={"max_wallclock_seconds": 77})), "Si", "C")
    monkeypatch.setattr(chain, "submit", lambda _, **inputs: submitted.append(inputs) or job("ReferencesBaseWorkChain", 0))
    chain.run_references()
    (inputs,) = submitted
    assert inputs["references"].elements.get_list() == ["C", "Si"]
    options = inputs["references"].metadata.options
    assert options.max_wallclock_seconds == 77 and "parser_name" not in options


@pytest.mark.usefixtures("aiida_profile_clean")  # nothing that earlier tests stored
def test_elements_are_relaxed_where_candidates_stay_unrelaxed(build, process, models, monkeypatch):
    submitted = []
    overrides = {"relax": {"parameters": {"max_steps": 0, "fmax": 0.07}}}
    chain = sampled(process(build(overrides=overrides)), "Si", "C")
    monkeypatch.setattr(chain, "submit", lambda _, **inputs: submitted.append(inputs) or job("ReferencesBaseWorkChain", 0))
    chain.run_references()
    parameters = submitted[0]["references"].parameters.get_dict()
    assert RelaxParameters.model_validate(parameters).max_steps > 0 and parameters["fmax"] == 0.07
    assert chain.inputs.relax.parameters["max_steps"] == 0
    stored = references_of(models["force_field"], parameters, ["C", "Si"])
    chain = sampled(process(build(overrides=overrides)), "Si", "C")
    assert chain.run_references() is None and chain.ctx.reference_energies.uuid == stored.uuid


def test_without_energies_of_the_elements_there_is_nothing_to_rank_by(build, process):
    chain = process(build())
    chain.ctx.references = job("ReferencesBaseWorkChain", 301, "killed")
    exit_code = chain.inspect_references()
    assert exit_code.status == 305 and "killed" in exit_code.message
    assert chain.outputs["failure"]["reason"] == exit_code.message
