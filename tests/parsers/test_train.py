"""The parser of trained models."""

import shutil

from aiida.common.folders import SandboxFolder

from aiida_dosmatgen.calculations.train import TrainCalculation
from aiida_dosmatgen.core.elements import atomic_number
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.engine.commands import Clock, train
from tests.parsers.jobs import SIZES


def test_train(train_job):
    assert train_job.run() == 0
    outputs, node = train_job.parse()
    assert node.is_finished_ok
    checkpoint = outputs["checkpoint"].store()
    assert checkpoint.base.attributes.get("dataset_sha256") == train_job.process.inputs.dataset.sha256
    assert all(isinstance(values, list) for values in outputs["history"].get_dict().values())
    assert "force_field" not in outputs
    outputs["history"].store(), outputs["results"].store()  # NaN would be refused here


def test_a_predictor_that_was_stopped_in_its_tight_binding_fit_is_to_be_continued(start, monkeypatch):
    from tests.engine.labelled import labelled

    class Spent(Clock):
        def allows(self, seconds: float = 0.0) -> bool:
            return False

    monkeypatch.setattr(train, "Clock", Spent)
    job = start(
        "train",
        dataset=LabelledCrystalSetData(labelled(12)).store(),
        parameters={"model": "predictor", "epochs": 1, "tight_binding_epochs": 2, "architecture": SIZES["predictor"]},
        seed=3,
    )
    assert job.run() == 3
    outputs, node = job.parse()
    assert node.exit_status == TrainCalculation.exit_codes.ERROR_STOPPED_EARLY.status
    assert outputs["checkpoint"].base.attributes.get("kind") == "predictor"
    assert outputs["history"].get_dict() == {}


def test_a_force_field_is_attached_as_one(train_job, make_job, model_file):
    train_job.run()
    inputs = {"dataset": train_job.process.inputs.dataset, "parameters": {"model": "forcefield"}, "seed": 3}
    train_job.process = make_job("train", **inputs)
    with SandboxFolder() as sandbox:
        train_job.info = train_job.process.prepare_for_submission(sandbox)
    shutil.copy(model_file, train_job.folder / "forcefield.model")
    train_job.results(output="forcefield.model", output_sha256=sha256_of(model_file))
    outputs, node = train_job.parse()
    assert node.is_finished_ok and "checkpoint" not in outputs
    assert outputs["force_field"].store().sha256 == sha256_of(model_file)
    assert outputs["force_field"].is_trusted
    elements = inputs["dataset"].base.attributes.get("elements")
    assert outputs["force_field"].base.attributes.get("elements") == sorted(elements, key=atomic_number)


def test_a_model_trained_on_another_set_is_refused(train_job, model):
    train_job.run()
    path = train_job.folder / "checkpoint.safetensors"
    path.write_bytes(model("denoiser").get_content("rb"))
    train_job.results(output_sha256=sha256_of(path))
    _, node = train_job.parse()
    assert node.exit_status == 303
    assert "was trained on the data set 0000" in node.exit_message
