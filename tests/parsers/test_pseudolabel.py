"""The parser of crystals with predicted curves."""

import numpy as np

from aiida_dosmatgen.core.labelled.reserved import digest_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from tests.parsers.jobs import lennard_jones


def test_pseudolabel(start, model):
    job = start(
        "pseudolabel",
        predictor=model("predictor"),
        force_field=lennard_jones().store(),
        parameters={"elements": ["Si", "C"], "count": 6, "max_atoms": 2, "relaxed": 0.5, "parameters": {"max_steps": 1}},
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    labelled = outputs["crystals"].store()
    assert labelled.base.attributes.get("card")["predictor_sha256"] == job.process.inputs.predictor.sha256
    columns = labelled.crystals.crystal_columns
    assert set(columns["source"]) == {"prototypes"} and len(columns["id"]) > 1
    assert all(name.endswith(f) for name, f in zip(columns["id"].tolist(), labelled.crystals.formulas, strict=True))
    job.results(details={**outputs["results"].get_dict()["details"], "predictor_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "predictor: the job used a file with sha256 0000" in node.exit_message


def test_pseudolabel_of_given_crystals(start, model, crystals):
    origin = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}
    job = start(
        "pseudolabel",
        predictor=model("predictor"),
        force_field=lennard_jones().store(),
        crystals=CrystalSetData(crystals.with_columns(crystal=origin)).store(),
        reserved=[digest_of("Ga-N")],
        parameters={"elements": ["Si", "C", "B", "N"], "count": 0, "relaxed": 0.0, "left_out": 0.0},
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    labelled = outputs["crystals"].store()
    assert set(labelled.crystals.crystal_columns["source"]) == {"here"}
    assert set(labelled.crystals.crystal_columns["id"]) <= {"1", "2", "3"} and len(labelled.crystals) >= 2
    assert labelled.base.attributes.get("card")["crystals_sha256"] == job.process.inputs.crystals.sha256
    job.results(details={**outputs["results"].get_dict()["details"], "crystals_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "crystals: the job used a file with sha256 0000" in node.exit_message
