"""What the CalcJobs hand to the executable, and what they refuse before anything runs."""

import io
import json

import numpy as np
import pytest
from aiida.common.folders import SandboxFolder
from aiida.orm import Dict, Int, List, RemoteData, StructureData, load_node
from aiida_pseudo.data.pseudo.upf import UpfData
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.job import load_job, sha256_of
from aiida_dosmatgen.core.labelled.reserved import digest_of
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.conversion import crystal_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData

ORIGIN = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}


def upf(element, valence):
    """A pseudopotential of which the header is read, and nothing else."""
    text = f'<UPF version="2.0.1">\n<PP_HEADER element="{element}" z_valence="{valence}.0"/>\n</UPF>\n'
    return UpfData(io.BytesIO(text.encode()), filename=f"{element}.upf").store()


@pytest.fixture
def inputs(aiida_profile, crystals, labelled, target, checkpoint_file, model_file):
    """Valid inputs of each kind of job."""
    denoiser = CheckpointData.from_file(checkpoint_file("denoiser")).store()
    predictor = CheckpointData.from_file(checkpoint_file("predictor", name="p.safetensors")).store()
    given = CrystalSetData(crystals).store()
    return {
        "sample": {
            "checkpoint": denoiser,
            "target": DosTargetData(target).store(),
            "parameters": {"steps": 7},
            "seed": 5,
            "candidates": [10, 30],
        },
        "relax": {
            "crystals": given,
            "force_field": ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store(),
            "parameters": {"fmax": 0.1},
        },
        "references": {
            "elements": ["Si", "C"],
            "force_field": ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store(),
        },
        "predict": {"crystals": given, "checkpoint": predictor},
        "crystals": {
            "structures": {"real": CrystalSetData(crystals.with_columns(crystal=ORIGIN)).store()},
            "pseudos": {"Si": upf("Si", 4), "C": upf("C", 4)},
            "parameters": {"substituted": 3},
            "reserved": ["Si-C"],
            "seed": 4,
        },
        "pseudolabel": {
            "predictor": predictor,
            "force_field": ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store(),
            "parameters": {"elements": ["Si", "C"], "count": 10},
            "seed": 4,
        },
        "frames": {
            "crystals": given,
            "force_field": ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store(),
            "parameters": {"count": 10},
            "reserved": ["Si-C"],
            "seed": 4,
        },
        "evaluate": {
            "checkpoint": predictor,
            "crystals": LabelledCrystalSetData(labelled[[2]]).store(),
            "dataset": LabelledCrystalSetData(labelled).store(),
        },
        "train": {
            "dataset": LabelledCrystalSetData(labelled).store(),
            "parameters": {"model": "predictor"},
            "seed": 2,
            "parent": predictor,
        },
    }


def prepare(process):
    """Return the calculation info, and the job file read as the executable reads it."""
    with SandboxFolder() as folder:
        info = process.prepare_for_submission(folder)
        assert folder.get_content_list() == ["job.json"]  # nothing big goes through the sandbox
        return info, load_job(folder.get_abs_path("job.json"))


EXPECTED = {
    "sample": (["checkpoint.safetensors", "target.npz"], ["candidates.npz"]),
    "relax": (["crystals.npz", "forcefield.model"], ["relaxed.npz"]),
    "references": (["forcefield.model"], ["references.npz"]),
    "predict": (["checkpoint.safetensors", "crystals.npz"], ["predicted.npz"]),
    "evaluate": (["checkpoint.safetensors", "crystals.npz", "dataset.npz"], ["metrics.json"]),
    "train": (["crystals.npz", "parent.safetensors"], ["checkpoint.safetensors", "history.json"]),
    "crystals": (["structures_real.npz"], ["crystals.npz"]),
    "pseudolabel": (["checkpoint.safetensors", "forcefield.model"], ["pseudolabelled.npz"]),
    "frames": (["crystals.npz", "forcefield.model"], ["frames.npz"]),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_files_and_command_line(make_job, inputs, kind):
    info, job = prepare(make_job(kind, **inputs[kind]))
    files, outputs = EXPECTED[kind]
    assert sorted(name for _, _, name in info.local_copy_list) == files
    assert info.retrieve_list == [*outputs, "results.json", "dosmatgen.out", "dosmatgen.err"]
    trusted = ["--trust", inputs[kind]["force_field"].sha256] if "force_field" in inputs[kind] else []
    assert info.codes_info[0].cmdline_params == [kind, "job.json", *trusted]
    assert job.kind == kind
    assert sorted(job.input_files()) == files


def test_what_the_jobs_say(make_job, inputs):
    _, job = prepare(make_job("sample", **inputs["sample"]))
    assert (job.seed, job.start, job.stop, job.parameters.steps) == (5, 10, 30, 7)
    _, job = prepare(make_job("relax", **inputs["relax"]))
    assert job.parameters.fmax == 0.1
    assert job.force_field.sha256 == inputs["relax"]["force_field"].sha256
    _, job = prepare(make_job("train", **inputs["train"]))
    assert (job.seed, job.parameters.model) == (2, "predictor")


def test_runtime_comes_from_the_options(make_job, inputs):
    options = {"batch_size": 8, "threads": 2, "device": "cuda", "max_wallclock_seconds": 1000}
    _, job = prepare(make_job("predict", options, **inputs["predict"]))
    assert json.loads(job.runtime.model_dump_json()) == {
        "batch_size": 8,
        "device": "cuda",
        "threads": 2,
        "max_seconds": 950.0,
        "continue_from": None,
    }
    _, job = prepare(make_job("predict", **inputs["predict"]))
    assert job.runtime.max_seconds is None and job.runtime.batch_size is None


def test_walltime_is_not_hashed_but_the_seed_is(make_job, inputs):
    def digest(options=None, **changes):
        return make_job("sample", options, **{**inputs["sample"], **changes}).node.base.caching.compute_hash()

    assert digest() == digest({"max_wallclock_seconds": 77})
    assert digest() != digest(seed=6)


def test_where_a_job_goes_on_is_not_hashed(make_job, inputs, aiida_localhost):
    """So that a campaign that was interrupted is found again as if it had not been."""
    parent = RemoteData(computer=aiida_localhost, remote_path="/scratch/interrupted").store()
    for kind, given in inputs.items():
        first, second = (make_job(kind, **given, **more).node.base.caching for more in ({}, {"parent_folder": parent}))
        assert first.get_hash() == second.get_hash() is not None, kind


def test_after_a_rehash_restarted_jobs_are_not_found_and_others_are(make_job, inputs, aiida_localhost):
    """AiiDA computes a hash again by its own rule, which knows nothing of classes of jobs: see aiida_internals."""
    parent = RemoteData(computer=aiida_localhost, remote_path="/scratch/interrupted").store()
    again = {"parent_folder": parent}
    fresh, restarted = (make_job("sample", **inputs["sample"], **more).node for more in ({}, again))
    for node in (fresh, restarted):
        load_node(node.pk).base.caching.rehash()
    hashes = [load_node(node.pk).base.caching.get_hash() for node in (fresh, restarted)]
    for more in ({}, again):
        later = make_job("sample", **inputs["sample"], **more).node.base.caching.get_hash()
        assert later == hashes[0] != hashes[1]


def test_force_fields_without_a_file(make_job, inputs):
    field = ForceFieldData.from_calculator("ase.calculators.lj:LennardJones", sigma=2.0)
    info, job = prepare(make_job("relax", **{**inputs["relax"], "force_field": field}))
    assert [name for _, _, name in info.local_copy_list] == ["crystals.npz"]
    assert job.force_field.calculator == "ase.calculators.lj:LennardJones"


def test_a_denoiser_sees_pseudo_labelled_crystals(make_job, inputs):
    given = {k: v for k, v in inputs["train"].items() if k != "parent"} | {"pseudolabelled": inputs["train"]["dataset"]}
    info, job = prepare(make_job("train", **{**given, "parameters": {"model": "denoiser"}}))
    assert job.pseudolabelled == "pseudolabelled.npz"
    assert "pseudolabelled.npz" in [name for _, _, name in info.local_copy_list]
    with pytest.raises(ValueError, match="leave pseudolabelled out for a predictor"):
        make_job("train", **given)


def test_a_force_field_is_trained_into_a_model_file(make_job, inputs):
    changed = {**inputs["train"], "parameters": {"model": "forcefield"}}
    changed.pop("parent")
    info, job = prepare(make_job("train", **changed))
    assert job.output == "forcefield.model" and "forcefield.model" in info.retrieve_list


def test_defaults(make_job, inputs):
    process = make_job("predict", **inputs["predict"])
    assert process.options.parser_name == "dosmatgen.predict"
    assert process.options.resources == {"num_machines": 1, "num_mpiprocs_per_machine": 1}
    assert process.options.withmpi is False


REFUSED = [
    ("sample", {"parameters": {"step": 7}}, "step: unknown key, did you mean 'steps'"),
    ("sample", {"parameters": {"steps": 0}}, "steps: Input should be greater than or equal to 1"),
    ("sample", {"candidates": [5, 5]}, r"\[5, 5\] is no range of candidates"),
    ("sample", {"candidates": [5]}, r"\[5\] is no range of candidates"),
    ("sample", {"candidates": [0.0, 5.5]}, "is no range of candidates"),
    ("sample", {"seed": -1}, "seed is -1: Input should be greater than or equal to 0"),
    ("sample", {"parameters": {"guidance": "classifier"}}, "guidance is 'classifier', but none is given"),
    ("sample", {"parameters": {"start_time": 0.5}}, "start_time needs a template; give structures as the input template"),
    (
        "sample",
        {"parameters": {"constraints": {"sites": [{"sites": [0], "coordinates": "template"}]}}},
        r"constraints.sites\[0\].coordinates needs a template",
    ),
    (
        "sample",
        {"parameters": {"constraints": {"lattice": {"volume": "template"}}}},
        "constraints.lattice.volume needs a template",
    ),
    (
        "sample",
        {"parameters": {"constraints": {"composition": {"Si": 2, "C": 1}}}},
        r"constraints: composition \(Si2 C1\) has 3 atoms, but the crystal has 2",
    ),
    ("sample", {"parameters": {"constraints": {"composition": {"Si": 1, "Ga": 1}}}}, "Ga, but the checkpoint generates only"),
    ("sample", {"parameters": {"constraints": {"latice": {}}}}, "constraints.latice: unknown key, did you mean 'lattice'"),
    ("sample", {"parameters": {"n_atoms": 3}}, "the target is for crystals of 2 atoms, but n_atoms is 3; leave n_atoms out"),
    ("references", {"elements": ["Si", "Xx"]}, "'Xx' is not a chemical element"),
    ("references", {"elements": []}, "at least 1 item"),
    ("relax", {"parameters": {"fmax": 0}}, "fmax: Input should be greater than 0"),
    ("train", {"parameters": {"model": "denoiser"}}, "the parent is a predictor, but a denoiser is to be trained"),
    ("train", {"parameters": {"model": "gan"}}, "model: Input should be"),
    ("train", {"seed": -3}, "seed is -3"),
]


@pytest.mark.parametrize("kind, changes, words", REFUSED)
def test_bad_inputs_are_refused_before_anything_runs(make_job, inputs, kind, changes, words):
    changed = {k: v for k, v in {**inputs[kind], **changes}.items() if v is not None}
    with pytest.raises(ValueError, match=words):
        make_job(kind, **changed)


def test_checkpoints_of_the_wrong_kind(make_job, inputs):
    predictor, denoiser = inputs["predict"]["checkpoint"], inputs["sample"]["checkpoint"]
    with pytest.raises(ValueError, match="the checkpoint is a predictor, a denoiser is needed here"):
        make_job("sample", **{**inputs["sample"], "checkpoint": predictor})
    with pytest.raises(ValueError, match="the checkpoint is a denoiser; predictions need a predictor"):
        make_job("predict", **{**inputs["predict"], "checkpoint": denoiser})


def test_the_number_of_atoms_may_be_left_open(make_job, inputs):
    total = {**inputs["sample"], "target": DosTargetData(DosTarget([1.0] * DEFAULT_GRID.n, "total"))}
    free = {key: value for key, value in inputs["sample"].items() if key != "target"}
    for changed in (total, free):
        _, job = prepare(make_job("sample", **changed))
        assert (job.parameters.n_atoms, job.target is None) == (None, changed is free)
        _, job = prepare(make_job("sample", **{**changed, "parameters": {"n_atoms": {"min": 2, "max": 8}}}))
        assert (job.parameters.n_atoms.min, job.parameters.n_atoms.max) == (2, 8)


def test_chosen_sites_and_sizes(make_job, inputs):
    target = DosTargetData(DosTarget(np.ones((2, DEFAULT_GRID.n)), sites=(1, 4)))
    with pytest.raises(ValueError, match="a curve for atom 4, counted from 0, but n_atoms is 4; ask for more"):
        make_job("sample", **{**inputs["sample"], "target": target, "parameters": {"n_atoms": 4}})
    _, job = prepare(make_job("sample", **{**inputs["sample"], "target": target, "parameters": {"n_atoms": [5, 8]}}))
    assert job.parameters.n_atoms == [5, 8]


@pytest.fixture
def classifier(inputs, checkpoint_file):
    """Return a function that makes the inputs of a sampling that a classifier guides."""

    def make(name="c", guidance="classifier", **header):
        node = CheckpointData.from_file(checkpoint_file("classifier", name=f"{name}.safetensors", **header))
        return {**inputs["sample"], "classifier": node.store(), "parameters": {"guidance": guidance}}

    return make


def test_a_classifier_goes_with_the_job(make_job, classifier):
    changed = classifier()
    info, job = prepare(make_job("sample", **changed))
    assert job.classifier == "classifier.safetensors"
    copied = {name: uuid for uuid, _, name in info.local_copy_list}
    assert copied["classifier.safetensors"] == changed["classifier"].uuid


def test_classifiers_that_do_not_fit(make_job, inputs, classifier):
    with pytest.raises(ValueError, match="a classifier is given, but guidance is 'none'"):
        make_job("sample", **classifier(guidance="none"))
    with pytest.raises(ValueError, match="there is no target to guide to"):
        make_job("sample", **{key: value for key, value in classifier().items() if key != "target"})
    with pytest.raises(ValueError, match="does not know B, C, which the denoiser makes"):
        make_job("sample", **classifier("small", elements=["N", "Si"]))
    with pytest.raises(ValueError, match="another energy grid than the denoiser"):
        make_job("sample", **classifier("coarse", grid={"emin": -10.0, "emax": 10.0, "n": 200}))
    with pytest.raises(ValueError, match="the checkpoint is a predictor, a classifier is needed here"):
        make_job("sample", **{**classifier(), "classifier": inputs["predict"]["checkpoint"]})


HELD = {"constraints": {"sites": [{"sites": [0], "coordinates": "template"}]}}


@pytest.mark.parametrize("parameters", [{"start_time": 0.4}, HELD])
def test_a_set_of_templates_is_copied_as_it_is(make_job, inputs, crystals, parameters):
    template = CrystalSetData(crystals[:2]).store()
    info, job = prepare(make_job("sample", **{**inputs["sample"], "template": template, "parameters": parameters}))
    assert job.template == "template.npz"
    assert (template.uuid, "crystals.npz", "template.npz") in info.local_copy_list


def test_a_structure_becomes_a_file_of_crystals(make_job, inputs):
    structure = StructureData(ase=bulk("SiC", "zincblende", 4.36))
    process = make_job("sample", **{**inputs["sample"], "template": structure, "parameters": HELD})
    with SandboxFolder() as folder:
        info = process.prepare_for_submission(folder)
        assert sorted(folder.get_content_list()) == ["job.json", "template.npz"]
        assert load_job(folder.get_abs_path("job.json")).template == "template.npz"
        assert CrystalSet.load(folder.get_abs_path("template.npz")) == crystal_of(structure)
    assert "template.npz" not in [name for _, _, name in info.local_copy_list]


def test_templates_that_cannot_be_used(make_job, inputs, crystals):
    def make(template, parameters=HELD):
        make_job("sample", **{**inputs["sample"], "template": template, "parameters": parameters})

    with pytest.raises(ValueError, match="a template is given, but nothing uses it; set start_time"):
        make(CrystalSetData(crystals), {})
    with pytest.raises(ValueError, match="the template has no crystals"):
        make(CrystalSetData(crystals[[]]))
    with pytest.raises(ValueError, match="the template cannot be used: crystal 0: the coordinates have NaN"):
        make(CrystalSetData(crystals.replace(fractional=np.full((7, 3), np.nan)), check=False))
    with pytest.raises(ValueError, match="the template cannot be used: the structure is not periodic"):
        make(StructureData(cell=np.eye(3), pbc=(True, True, False)))
    germanium = StructureData(ase=bulk("Ge"))
    with pytest.raises(ValueError, match="the template has Ge, which the denoiser does not know; start_time cannot use it"):
        make(germanium, {"start_time": 0.2})
    make(germanium, {"constraints": {"lattice": {"shape": "template"}}})  # only its cell is used
    with pytest.raises(ValueError, match="from the template, which has 3 atoms, but the crystal has 2"):
        make(CrystalSetData(crystals), {"start_time": 0.2})  # the third one


def test_no_crystals_and_no_energies(make_job, inputs, crystals, labelled):
    with pytest.raises(ValueError, match="there are no crystals to relax"):
        make_job("relax", **{**inputs["relax"], "crystals": CrystalSetData(crystals[[]])})
    with pytest.raises(ValueError, match="there are no crystals to predict"):
        make_job("predict", **{**inputs["predict"], "crystals": CrystalSetData(crystals[[]])})
    dos_only = crystals.with_columns(
        {"complete_below": labelled.crystal_columns["complete_below"]}, {"dos": labelled.atom_columns["dos"]}
    )
    with pytest.raises(ValueError, match="trained on energies and forces, which these crystals have not"):
        make_job("train", dataset=LabelledCrystalSetData(dos_only), parameters={"model": "forcefield"}, seed=Int(1))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"threads": -1}])
def test_options_count_from_one(make_job, inputs, options):
    with pytest.raises(ValueError, match="is (0|-1): Input should be greater than or equal to 1"):
        make_job("predict", options, **inputs["predict"])


def test_nodes_are_taken_as_well_as_plain_values(make_job, inputs):
    changed = {"parameters": Dict({"steps": 3}), "seed": Int(9), "candidates": List([0, 2])}
    _, job = prepare(make_job("sample", **{**inputs["sample"], **changed}))
    assert (job.parameters.steps, job.seed, job.stop) == (3, 9, 2)


def test_crystals_are_made_of_what_the_pseudopotentials_and_reserved_systems_leave(make_job, inputs, crystals):
    _, job = prepare(make_job("crystals", **inputs["crystals"]))
    assert (job.structures, job.valences, job.reserved) == (["structures_real.npz"], {"C": 4, "Si": 4}, ["Si-C"])
    assert (job.substituted, job.seed, job.pseudo_directory) == (3, 4, None)
    nameless = CrystalSetData(crystals).store()
    for change, message in (
        ({"structures": {"real": nameless}}, "structures.real: the crystals have no column 'source'"),
        ({"pseudos": {}}, "pseudos: there are none"),
        ({"parameters": {"substitute": 3}}, "substitute"),
    ):
        with pytest.raises(ValueError, match=message):
            make_job("crystals", **{**inputs["crystals"], **change})


def test_a_predictor_is_asked_for_elements_that_it_knows(make_job, inputs):
    _, job = prepare(make_job("pseudolabel", **inputs["pseudolabel"]))
    assert (job.elements, job.count, job.seed, job.predictor) == (["Si", "C"], 10, 4, "checkpoint.safetensors")
    with pytest.raises(ValueError, match="the predictor does not know Ti"):
        make_job("pseudolabel", **{**inputs["pseudolabel"], "parameters": {"elements": ["Si", "Ti"], "count": 10}})
    with pytest.raises(ValueError, match="predictions need a predictor"):
        make_job("pseudolabel", **{**inputs["pseudolabel"], "predictor": inputs["sample"]["checkpoint"]})


def test_crystals_are_given_and_systems_reserved_by_name_or_digest(make_job, inputs):
    reserved = ["Si-C", digest_of("Ga-N")]
    given = {"crystals": inputs["frames"]["crystals"], "reserved": reserved}
    info, job = prepare(make_job("pseudolabel", **{**inputs["pseudolabel"], **given}))
    assert (job.crystals, job.reserved) == ("crystals.npz", sorted(reserved))
    assert sorted(name for _, _, name in info.local_copy_list) == ["checkpoint.safetensors", "crystals.npz", "forcefield.model"]
    _, job = prepare(make_job("frames", **{**inputs["frames"], "reserved": reserved}))
    assert (job.crystals, job.reserved, job.count) == ("crystals.npz", sorted(reserved), 10)
    for kind in ("crystals", "pseudolabel", "frames"):
        with pytest.raises(ValueError, match="'Gan' is neither a chemical system such as Ga-N nor the digest of one"):
            make_job(kind, **{**inputs[kind], "reserved": ["Gan"]})
    nothing = {"elements": ["Si", "C"], "count": 0}
    with pytest.raises(ValueError, match="count is 0, and no crystals are given"):
        make_job("pseudolabel", **{**inputs["pseudolabel"], "parameters": nothing})
    assert prepare(make_job("pseudolabel", **{**inputs["pseudolabel"], **given, "parameters": nothing}))[1].count == 0
    with pytest.raises(ValueError, match="there are no crystals to make frames of"):
        make_job("frames", **{**inputs["frames"], "crystals": CrystalSetData(given["crystals"].crystals[[]])})


def test_a_force_field_learns_from_frames_and_from_a_parent(make_job, inputs, crystals):
    atoms, n = len(crystals.numbers), len(crystals)
    frames = CrystalSetData(
        crystals.with_columns({"energy": np.zeros(n), "stress": np.zeros((n, 3, 3))}, {"forces": np.zeros((atoms, 3))})
    ).store()
    parent = inputs["relax"]["force_field"]
    batched = {"model": "forcefield", "batched": {"parent_sha256": parent.sha256}}
    given = {"dataset": inputs["train"]["dataset"], "pseudolabelled": frames, "parent": parent, "seed": 1}
    info, job = prepare(make_job("train", **given, parameters=batched))
    assert (job.parent, job.pseudolabelled) == ("parent.model", "pseudolabelled.npz")
    assert info.codes_info[0].cmdline_params[-2:] == ["--trust", parent.sha256]
    prepare(make_job("train", dataset=frames, seed=1, parameters={"model": "forcefield", "batched": {}}))
    bare, refused = CrystalSetData(crystals).store(), {"model": "forcefield", "batched": {}}
    for change, message in (
        ({"parameters": {"model": "forcefield"}}, "with parameters.batched only"),
        ({"parameters": refused}, f"does not name the parent; it is {parent.sha256}"),
        ({"parent": inputs["train"]["parent"]}, "the parent is a predictor, but a forcefield is to be trained"),
        ({"pseudolabelled": bare}, "pseudolabelled: a force field is trained on energies and forces"),
        ({"dataset": frames, "parameters": {"model": "denoiser"}}, "dataset: a denoiser learns from densities of states"),
        ({"parent": ForceFieldData.from_foundation("small")}, "the parent is a foundation, which has no file to start from"),
    ):
        with pytest.raises(ValueError, match=message):
            make_job("train", **{**given, "parameters": batched, **change})
