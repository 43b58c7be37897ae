"""The parser of sampled candidates."""

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.data.conversion import crystal_of, structure_of
from aiida_dosmatgen.data.target import DosTargetData
from tests.parsers.jobs import replace_output


def test_sample(sample_job):
    assert sample_job.run() == 0
    outputs, node = sample_job.parse()
    assert node.is_finished_ok
    crystals = outputs["crystals"].crystals
    assert crystals.crystal_columns["candidate"].tolist() == [4, 5, 6]
    assert outputs["crystals"].sha256 == outputs["results"].get_dict()["output_sha256"]
    details = outputs["results"].get_dict()["details"]
    assert details["checkpoint_sha256"] == sample_job.process.inputs.checkpoint.sha256
    sample_job.results(details={**details, "checkpoint_sha256": "0" * 64})
    _, node = sample_job.parse()
    assert node.exit_status == 303 and "checkpoint: the job used a file with sha256 0000" in node.exit_message


def test_sample_from_a_structure_guided_by_a_classifier(start, model, target, crystals):
    structure = structure_of(crystals[1])
    held = {"sites": [{"sites": [1], "element": "template", "coordinates": "template"}], "lattice": {"matrix": "template"}}
    job = start(
        "sample",
        checkpoint=model("denoiser"),
        classifier=model("classifier"),
        target=DosTargetData(target).store(),
        template=structure.store(),
        parameters={"steps": 2, "guidance": "classifier", "start_time": 0.5, "constraints": held},
        seed=1,
        candidates=[0, 2],
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    template, found = crystal_of(structure), outputs["crystals"].crystals
    for i in range(2):
        np.testing.assert_array_equal(found[i].lattices, template.lattices)
        np.testing.assert_array_equal(found[i].fractional[1], template.fractional[1])
        assert found[i].numbers[1] == template.numbers[1]
    assert outputs["results"].get_dict()["details"]["classifier_sha256"] == job.process.inputs.classifier.sha256


def test_sample_freely(start, model):
    job = start("sample", checkpoint=model("denoiser"), parameters={"steps": 2, "n_atoms": [2, 3]}, seed=1, candidates=[0, 3])
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    assert outputs["crystals"].crystals.n_atoms.tolist() == [2, 3, 2]


def test_candidates_of_another_range(sample_job):
    sample_job.run()
    crystals = CrystalSet.load(sample_job.folder / "candidates.npz")
    for changed, words in [
        (crystals.with_columns({"candidate": np.array([0, 1, 2])}), "other candidates than 4 to 6"),
        (crystals[[1, 0, 2]], "other candidates than 4 to 6"),
        (crystals[:2], "holds 2 candidates, expected 3"),
        (crystals.replace(crystal_columns={}), "lacks the column 'candidate'"),
    ]:
        replace_output(sample_job, "candidates.npz", changed)
        outputs, node = sample_job.parse()
        assert node.exit_status == 303 and words in node.exit_message
        assert "crystals" not in outputs
