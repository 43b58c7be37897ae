"""The parser of a model's errors."""

from aiida_dosmatgen.data.labelled import LabelledCrystalSetData


def test_evaluate(start, model, labelled):
    given = LabelledCrystalSetData(labelled).store()
    job = start("evaluate", crystals=given, dataset=given, checkpoint=model("denoiser"))
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    metrics = outputs["metrics"].get_dict()
    assert metrics["kind"] == "denoiser" and metrics["n_crystals"] == 3 and metrics["loss"] > 0
    job.results(details={**outputs["results"].get_dict()["details"], "crystals_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "crystals: the job used a file with sha256 0000" in node.exit_message
