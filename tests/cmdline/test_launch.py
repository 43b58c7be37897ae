"""``aiida-dosmatgen launch``: what a person types becomes the inputs of work chains. ``--dry-run`` shows them."""

import ase.io
import numpy as np
import pytest
import yaml
from aiida import orm
from ase.build import bulk

from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.workflows.protocols.utils import CODE_OPTIONS
from tests.workflows.conftest import FAMILY, codes, pseudo_family  # noqa: F401

pytestmark = pytest.mark.usefixtures("codes", "pseudo_family")


@pytest.fixture(autouse=True)
def stored(aiida_profile_clean, codes, checkpoint_file, model_file, target, labelled):  # noqa: F811
    """What the set-up stores, and a target and a data set of one's own."""
    nodes = {
        "dosmatgen-denoiser": CheckpointData(checkpoint_file("denoiser", "d.safetensors", elements=["C", "Si"])),
        "dosmatgen-predictor": CheckpointData(checkpoint_file("predictor", "p.safetensors", elements=["C", "Si"])),
        "my-classifier": CheckpointData(checkpoint_file("classifier", "c.safetensors", elements=["C", "Si"])),
        "dosmatgen-forcefield": ForceFieldData.from_file(model_file),
        "my dos": DosTargetData(target),
        "my-set": LabelledCrystalSetData(labelled),
    }
    for label, node in nodes.items():
        node.store().label = label
    nodes["dosmatgen-forcefield"].trust(nodes["dosmatgen-forcefield"].sha256)
    return nodes


@pytest.fixture
def dry(run):
    """Return a function that launches something dry, and returns its inputs."""
    return lambda *arguments: yaml.safe_load(run("launch", *arguments, "--dry-run"))


def test_a_campaign(dry, stored, codes):  # noqa: F811
    codes["pw"].base.extras.set(CODE_OPTIONS, {"withmpi": False, "queue_name": "main"})
    inputs = dry(
        *("campaign", "--target", "my dos", "--protocol", "fast", "-n", 30, "--top-k", 2, "--seed", 5, "--n-jobs", 2),
        *("--override", f"validate.pseudo_family={FAMILY}", "--override", "candidates.criteria.max_formation_energy=0.2"),
        *("--option", "queue_name=gpu", "--option", "device=cuda", "--dft-option", "max_wallclock_seconds=60"),
    )
    assert inputs["targets"] == {"my_dos": f"DosTargetData<{stored['my dos'].pk}> my dos"}
    chain = inputs["candidates"]
    assert (chain["n_candidates"], chain["seed"], chain["n_jobs"], inputs["top_k"]) == (30, 5, 2, 2)
    assert chain["criteria"]["max_formation_energy"] == 0.2
    assert chain["checkpoint"].endswith("dosmatgen-denoiser")
    options = chain["relax"]["metadata"]["options"]
    assert (options["queue_name"], options["device"]) == ("gpu", "cuda")
    options = inputs["validate"]["dos"]["pw"]["pw"]["metadata"]["options"]
    assert (options["max_wallclock_seconds"], options["queue_name"], options["withmpi"]) == (60, "main", False)
    assert sorted(inputs["validate"]["dos"]["pseudos"]) == ["C", "Si"]


def test_a_campaign_without_dft_needs_no_quantum_espresso(dry, tmp_path, codes):  # noqa: F811
    for name in ("pw", "projwfc"):
        codes[name].label = f"other-{name}"
    path = tmp_path / "overrides.yaml"
    path.write_text("candidates:\n  relax:\n    parameters: {fmax: 0.2}\n")
    inputs = dry("campaign", "--target", "my dos", "--top-k", 0, "--overrides", path, "--classifier", "my-classifier")
    assert "validate" not in inputs and inputs["candidates"]["relax"]["parameters"]["fmax"] == 0.2
    assert inputs["candidates"]["sample"]["parameters"]["guidance"] == "classifier"


def test_codes_are_taken_from_computers_or_by_name(dry, run, codes):  # noqa: F811
    line = run("launch", "campaign", "--target", "my dos", "--computer", "mars", status=2)
    assert line.startswith("launch campaign: there is no code dosmatgen@mars; make it") and "--dosmatgen LABEL@COMPUTER" in line
    codes["dosmatgen"].label = "mine"
    inputs = dry("candidates", "--target", "my dos", "--dosmatgen", "mine@localhost")
    assert inputs["sample"]["code"].endswith("mine@localhost")
    override = ("--override", f"validate.pseudo_family={FAMILY}")
    line = run(
        "launch", "campaign", "--target", "my dos", "--dosmatgen", "mine", "--dft-computer", "venus", *override, status=2
    )
    assert "there is no code pw@venus" in line


def test_candidates(dry):
    inputs = dry("candidates", "--protocol", "fast", "--override", "sample.parameters.n_atoms=2")
    assert "target" not in inputs and inputs["n_candidates"] == 64
    assert inputs["sample"]["parameters"]["n_atoms"] == 2


def test_sample(dry, run):
    inputs = dry("sample", "--target", "my dos", "-n", 4, "-P", "steps=5", "-P", "constraints.formula=SiC", "--seed", 7)[
        "sample"
    ]
    assert inputs["candidates"] == [0, 4] and inputs["seed"] == 7
    assert inputs["parameters"] == {"steps": 5, "constraints": {"formula": "SiC"}}
    guided = dry("sample", "--target", "my dos", "--classifier", "my-classifier")["sample"]
    assert guided["parameters"] == {"guidance": "classifier"}
    assert "steps" in run("launch", "sample", "-P", "steps=0", "--dry-run", status=2)
    assert "'steps' is not KEY=VALUE" in run("launch", "sample", "-P", "steps", status=2)
    assert "a.b stands below a value" in run("launch", "sample", "-P", "a=1", "-P", "a.b=2", status=2)


def test_relax_takes_files_sets_and_structures(dry, tmp_path, crystals):
    bulk("Si").write(tmp_path / "si.cif")
    from_file = dry("relax", tmp_path / "si.cif", "-P", "fmax=0.02")["relax"]
    assert from_file["parameters"] == {"fmax": 0.02} and from_file["force_field"].endswith("dosmatgen-forcefield")
    node = CrystalSetData(crystals).store()
    assert dry("relax", node.pk)["relax"]["crystals"] == f"CrystalSetData<{node.pk}>"
    structure = orm.StructureData(ase=bulk("Si")).store()
    made = dry("relax", structure.pk)["relax"]["crystals"]
    made = orm.load_node(int(made.split("<")[1].rstrip(">")))
    assert made.creator.process_label == "crystals_from_structure"
    np.testing.assert_allclose(made.crystals.lattices[0], structure.cell)


def test_validate(dry, run, tmp_path, crystals):
    options = ("--target", "my dos", "--override", f"pseudo_family={FAMILY}")
    bulk("Si").write(tmp_path / "si.cif")
    inputs = dry("validate", tmp_path / "si.cif", *options, "--relax")
    structure = orm.load_node(int(inputs["structure"].split("<")[1].split(">")[0]))
    assert structure.get_formula() == "Si2" and "relax" in inputs
    node = CrystalSetData(crystals.with_columns(crystal={"candidate": np.array([4, 9, 11])})).store()
    line = run("launch", "validate", node.pk, *options, status=2)
    assert "there are 3 crystals" in line and "--candidate NUMBER" in line
    assert "0 of the 3 crystals have the number 5" in run("launch", "validate", node.pk, *options, "--candidate", 5, status=2)
    inputs = dry("validate", node.pk, *options, "--candidate", 9)
    structure = orm.load_node(int(inputs["structure"].split("<")[1].split(">")[0]))
    assert structure.get_formula() == "CSi" and structure.creator.process_label == "extract_candidate"
    assert "this is one structure" in run("launch", "validate", structure.pk, *options, "--candidate", 9, status=2)


def test_train(dry, run):
    inputs = dry("train", "my-set", "--model", "predictor", "-P", "epochs=2", "-P", "architecture.width=16")["train"]
    assert inputs["dataset"].endswith("my-set")
    assert inputs["parameters"] == {"model": "predictor", "epochs": 2, "architecture": {"width": 16}}
    line = run("launch", "train", "my-set", "--parent", "dosmatgen-predictor", "--dry-run", status=2)
    assert "the parent is a predictor, but a denoiser is to be trained" in line


def test_a_force_field_learns_from_frames_and_a_parent(dry, run, tmp_path, crystals, labelled, model_file, stored):
    few = crystals[:2].replace(crystal_columns={"energy": np.array([-5.0, -6.0])})
    few = few.replace(atom_columns={"forces": np.zeros((len(few.numbers), 3))})
    few.save(tmp_path / "frames.npz")
    sha256 = stored["dosmatgen-forcefield"].sha256
    more = ("--parent", model_file, "-P", "batched.at_rest=true", "-P", f"batched.parent_sha256={sha256}")
    inputs = dry("train", tmp_path / "frames.npz", "--model", "forcefield", *more)["train"]
    assert inputs["dataset"].startswith("CrystalSetData<") and inputs["parent"].endswith("dosmatgen-forcefield")
    given = ("train", "my-set", "--pseudolabelled", tmp_path / "frames.npz", "--model")
    assert "learns from densities of states" in run("launch", *given, "denoiser", "--dry-run", status=2)
    labelled.save(tmp_path / "labelled.npz")
    inputs = dry("train", tmp_path / "labelled.npz", "--model", "predictor")["train"]
    assert inputs["dataset"].startswith("LabelledCrystalSetData<")


def test_label(dry, crystals):
    node = CrystalSetData(crystals[:2]).store()
    inputs = dry("label", node.pk, "--override", f"pseudo_family={FAMILY}", "--max-concurrent", 3)
    assert inputs["max_concurrent"] == 3 and inputs["dos"]["recipe"]["bands_distance"] == 0.25


def test_two_targets_of_one_name_are_refused(run, target, stored):
    other = DosTargetData(target.on(target.grid)).store()
    other.label = "my_dos"
    line = run("launch", "campaign", "--target", "my dos", "--target", "my_dos", "--top-k", 0, status=2)
    assert "two targets are called my_dos" in line


def test_without_a_daemon_nothing_is_submitted(run):
    before = orm.QueryBuilder().append(orm.ProcessNode).count()
    line = run("launch", "sample", "--target", "my dos", status=2)
    assert "verdi daemon start" in line or "no broker" in line
    assert orm.QueryBuilder().append(orm.ProcessNode).count() == before


def test_crystals_of_a_data_set(dry, run, tmp_path):
    atoms = [bulk("SiC", "zincblende", a=4.36), bulk("Si")]
    for number, one in enumerate(atoms):
        one.info.update(source="tabulated", id=str(number))
    ase.io.write(tmp_path / "real.extxyz", atoms)
    (tmp_path / "reserved.txt").write_text("C-Ge\nGe-Si\n")
    inputs = dry(
        *("crystals", "--structures", tmp_path / "real.extxyz", "--pseudo-family", FAMILY, "--seed", 3),
        *("--reserved", tmp_path / "reserved.txt", "-P", "substituted=5", "-P", "elements=[Si, C]"),
    )["crystals"]
    assert list(inputs["structures"]) == ["set_0"] and sorted(inputs["pseudos"]) == ["C", "Si"]
    assert inputs["parameters"] == {"substituted": 5, "elements": ["Si", "C"]}
    assert (inputs["reserved"], inputs["seed"]) == (["C-Ge", "Ge-Si"], 3)
    ase.io.write(tmp_path / "nameless.extxyz", bulk("Si"))
    line = run(
        "launch", "crystals", "--structures", tmp_path / "nameless.extxyz", "--pseudo-family", FAMILY, "--dry-run", status=2
    )
    assert "structures.set_0: the crystals have no column 'source'" in line


def test_pseudo_labels(dry, run):
    inputs = dry("pseudolabel", "-P", "elements=[Si, C]", "-P", "count=10", "-P", "split.final_fraction=0.1")["pseudolabel"]
    assert inputs["predictor"].endswith("dosmatgen-predictor") and inputs["force_field"].endswith("dosmatgen-forcefield")
    assert inputs["parameters"] == {"elements": ["Si", "C"], "count": 10, "split": {"final_fraction": 0.1}}
    line = run("launch", "pseudolabel", "-P", "elements=[Ti]", "-P", "count=10", "--dry-run", status=2)
    assert "the predictor does not know Ti" in line
    inputs = dry("train", "my-set", "--pseudolabelled", "my-set")["train"]
    assert inputs["pseudolabelled"] == inputs["dataset"]
