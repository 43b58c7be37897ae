"""The parser of the energies of the elements."""

import json


def test_references(references_job):
    assert references_job.run() == 0
    outputs, node = references_job.parse()
    assert node.is_finished_ok
    references = outputs["references"].get_dict()
    assert references["elements"] == ["C", "Si"] and set(references["energies"]) <= {"C", "Si"}
    crystals = outputs["crystals"].crystals
    assert set(crystals.numbers) == {6, 14} and len(crystals) > 6


def test_references_that_are_not_complete_are_none(references_job):
    references_job.run()
    references_job.results(finished=False)
    outputs, node = references_job.parse()
    assert node.exit_status == 401 and "references" not in outputs and "crystals" in outputs


def test_nan_becomes_none(references_job):
    references_job.run()
    text = (references_job.folder / "results.json").read_text()
    details = json.loads(text)["details"]
    references_job.results(details={**details, "energies": {"Si": float("nan"), "C": -1.0}})
    outputs, node = references_job.parse()
    assert node.is_finished_ok
    assert outputs["references"].store().get_dict()["energies"] == {"Si": None, "C": -1.0}
