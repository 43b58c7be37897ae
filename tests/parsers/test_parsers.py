"""The parsers, on folders that the real executable wrote with tiny models, and on what can become of such folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from aiida.common.folders import SandboxFolder
from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Data, Dict, FolderData, load_node
from aiida.plugins import ParserFactory

from aiida_dosmatgen.calculations.train import TrainCalculation
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.elements import atomic_number
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.job import sha256_of
from aiida_dosmatgen.core.labelled.reserved import digest_of
from aiida_dosmatgen.data.checkpoint import CheckpointData
from aiida_dosmatgen.data.conversion import crystal_of, structure_of
from aiida_dosmatgen.data.crystals import CrystalSetData
from aiida_dosmatgen.data.forcefield import ForceFieldData
from aiida_dosmatgen.data.labelled import LabelledCrystalSetData
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.engine.checkpoint import build_model, save_model
from aiida_dosmatgen.engine.cli import main
from aiida_dosmatgen.engine.commands import Clock, train
from tests.calculations.test_jobs import upf

SIZES = {"denoiser": {"width": 16, "layers": 1, "frequencies": 2}, "predictor": {"width": 16, "layers": 1, "members": 1}}
SIZES["classifier"] = SIZES["denoiser"]


@pytest.fixture
def model(tmp_path):
    """Return a function that writes an untrained model of a kind."""

    def make(kind):
        torch.manual_seed(0)
        header = CheckpointHeader(
            kind=kind,
            architecture=SIZES[kind],
            elements=["B", "C", "N", "Si"],
            grid={"emin": -10, "emax": 10, "n": 400},
            sigma=0.3,
            training={"dataset_sha256": "0" * 64, "n_crystals": 0, "seed": 0, "epochs": 0, "parameters": {}},
            engine_version="0",
        )
        save_model(tmp_path / f"{kind}.safetensors", build_model(header), header)
        return CheckpointData.from_file(tmp_path / f"{kind}.safetensors").store()

    return make


class Job:
    """A job as the scheduler would run it: prepared by the CalcJob, run by the executable, retrieved, parsed."""

    def __init__(self, process, folder: Path, capfd) -> None:
        self.process, self.folder, self.capfd = process, folder, capfd
        with SandboxFolder() as sandbox:
            self.info = process.prepare_for_submission(sandbox)
            shutil.copytree(sandbox.abspath, folder)
        for uuid, key, name in self.info.local_copy_list:
            with load_node(uuid).base.repository.open(key, "rb") as stream:
                (folder / name).write_bytes(stream.read())

    def run(self, *arguments: str) -> int:
        kind, job = self.info.codes_info[0].cmdline_params
        status = main([kind, str(self.folder / job), *arguments])
        (self.folder / "dosmatgen.err").write_text(self.capfd.readouterr().err)
        return status

    def parse(self, scheduler_status: int | None = None):
        process = self.process
        node = CalcJobNode(computer=process.inputs.code.computer, process_type=process.node.process_type)
        for name, value in process.options.items():
            node.set_option(name, value)
        given = {link: value for link, value in process.inputs.items() if link != "metadata"}
        for namespace in [link for link, value in given.items() if not isinstance(value, Data)]:
            given |= {f"{namespace}__{name}": value for name, value in given.pop(namespace).items()}
        for link, value in given.items():
            value if value.is_stored else value.store()
            node.base.links.add_incoming(value, LinkType.INPUT_CALC, link)
        node.store()
        if scheduler_status is not None:
            node.set_exit_status(scheduler_status)
            node.set_exit_message("what the scheduler saw")
        retrieved = FolderData()
        for name in [*self.info.retrieve_list, process.options.scheduler_stderr]:
            if (self.folder / name).exists():
                retrieved.base.repository.put_object_from_file(str(self.folder / name), name)
        retrieved.base.links.add_incoming(node, LinkType.CREATE, "retrieved")
        retrieved.store()
        parser = ParserFactory(process.options.parser_name)
        return parser.parse_from_node(node, store_provenance=False)

    def results(self, **changes) -> None:
        """Change what ``results.json`` says."""
        path = self.folder / "results.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def start(make_job, tmp_path, capfd):
    return lambda kind, **inputs: Job(make_job(kind, **inputs), tmp_path / "work", capfd)


@pytest.fixture
def sample_job(start, model, target):
    return start(
        "sample",
        checkpoint=model("denoiser"),
        target=DosTargetData(target).store(),
        parameters={"steps": 2},
        seed=1,
        candidates=[4, 7],
    )


def lennard_jones():
    return ForceFieldData.from_calculator("ase.calculators.lj:LennardJones", sigma=2.0, rc=5.0, smooth=True)


@pytest.fixture
def relax_job(start, crystals):
    return start(
        "relax",
        crystals=CrystalSetData(crystals).store(),
        force_field=lennard_jones(),
        parameters={"max_steps": 2},
    )


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


def test_relax(relax_job, crystals):
    assert relax_job.run() == 0
    outputs, node = relax_job.parse()
    assert node.is_finished_ok
    relaxed = outputs["crystals"].crystals
    np.testing.assert_array_equal(relaxed.numbers, crystals.numbers)
    assert {"energy", "status", "fmax"} <= set(relaxed.crystal_columns)


def test_predict(start, model, crystals):
    job = start("predict", crystals=CrystalSetData(crystals).store(), checkpoint=model("predictor"))
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    assert outputs["crystals"].crystals.atom_columns["predicted_dos"].shape == (7, DEFAULT_GRID.n)


def test_many_candidates_are_screened_as_they_are_predicted(start, model, crystals):
    columns = {
        "candidate": np.arange(10, 13),
        "energy": -5.0 * crystals.n_atoms,
        "status": np.array(["exploded", "converged", "converged"]),
    }
    job = start(
        "predict",
        crystals=CrystalSetData(crystals.with_columns(crystal=columns)).store(),
        checkpoint=model("predictor"),
        criteria={"max_ranked": 1, "unique": False, "min_contact": 0, "max_formation_energy": None},
        references=Dict({"energies": {"Si": -5.0, "C": -5.0, "N": None}}).store(),
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    kept, others = (outputs[name].crystals for name in ("crystals", "left_out"))
    assert len(kept) == 1 and len(others) == 2
    assert sorted([*kept.crystal_columns["candidate"], *others.crystal_columns["candidate"]]) == [10, 11, 12]
    assert "relaxation: exploded" in others.crystal_columns["reason"].tolist()
    assert "predicted_dos" in kept.atom_columns and not others.atom_columns
    job.results(details={**outputs["results"].get_dict()["details"], "left_out_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "left_out.npz has not the sha256" in node.exit_message
    job.results(details={**outputs["results"].get_dict()["details"], "checkpoint_sha256": None})
    _, node = job.parse()
    assert node.exit_status == 303 and "checkpoint: the job used a file with sha256 None" in node.exit_message


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


def test_crystals(start, crystals):
    origin = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}
    job = start(
        "crystals",
        structures={"real": CrystalSetData(crystals.with_columns(crystal=origin)).store()},
        pseudos={symbol: upf(symbol, 4).store() for symbol in ("Si", "C", "N")},
        parameters={"distorted": 1.0},  # without prototypes, which take ten seconds to read: tests/engine/labelling makes some
        reserved=["Si-C"],
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    made = outputs["crystals"].crystals
    kinds = made.crystal_columns["kind"].tolist()
    assert {"real", "element"} <= set(kinds) and {"scaled", "distorted"} & set(kinds)
    assert "CSi" not in made.formulas and "SiC" not in made.formulas  # reserved
    assert made.crystal_columns["id"][kinds.index("real")] == "1"
    assert outputs["crystals"].sha256 == outputs["results"].get_dict()["output_sha256"]


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


def test_frames(start, crystals):
    origin = {"source": np.full(3, "here"), "id": np.array(["1", "2", "3"])}
    job = start(
        "frames",
        crystals=CrystalSetData(crystals.with_columns(crystal=origin)).store(),
        force_field=lennard_jones().store(),
        parameters={"count": 40, "steps": 1, "largest_force": 1e6},
        reserved=["C-Si"],
        seed=1,
    )
    assert job.run() == 0
    outputs, node = job.parse()
    assert node.is_finished_ok
    columns = outputs["frames"].store().crystals.crystal_columns
    of = dict(zip(columns["kind"].tolist(), columns["source"].tolist(), strict=True))
    assert of["rattled"] == "here" and of["soup"] == "frames" and len(of) >= 4
    assert set(columns["id"][columns["source"] == "here"]) <= {"1", "2", "3"}
    job.results(details={**outputs["results"].get_dict()["details"], "crystals_sha256": "0" * 64})
    _, node = job.parse()
    assert node.exit_status == 303 and "crystals: the job used a file with sha256 0000" in node.exit_message


@pytest.fixture
def train_job(start):
    from tests.engine.labelled import labelled

    return start(
        "train",
        dataset=LabelledCrystalSetData(labelled(12)).store(),
        parameters={"model": "denoiser", "epochs": 1, "architecture": SIZES["denoiser"]},
        seed=3,
    )


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


def test_stopped_early_keeps_what_is_done(sample_job):
    assert sample_job.run("--batch-size", "1", "--max-seconds", "0.000001") == 3
    outputs, node = sample_job.parse()
    done = len(outputs["crystals"].crystals)
    assert node.exit_status == 401 and done < 3
    assert node.exit_message.startswith(f"Stopped by the time limit with {done} of 3 done")
    assert sample_job.process.exit_codes.ERROR_STOPPED_EARLY.invalidates_cache


def test_a_refusal_is_quoted(sample_job):
    (sample_job.folder / "target.npz").write_bytes(b"no target")
    assert sample_job.run() == 2
    outputs, node = sample_job.parse()
    assert node.exit_status == 201 and not outputs
    assert node.exit_message.startswith("The executable refused its input: ")
    assert "target.npz" in node.exit_message


def test_a_command_line_it_does_not_know_is_a_refusal(sample_job):
    (sample_job.folder / "dosmatgen.err").write_text(
        "usage: dosmatgen …\ndosmatgen sample: error: unrecognized arguments: -x\n"
    )
    _, node = sample_job.parse()
    assert node.exit_status == 201
    assert node.exit_message == "The executable refused its input: unrecognized arguments: -x"


@pytest.mark.parametrize(
    "stderr, words",
    [
        ("", "Its standard error is empty."),
        ("1/3 candidates\n", "The last line of its standard error: 1/3 candidates"),
        ("dosmatgen: interrupted\n", "standard error: dosmatgen: interrupted"),
        ("dosmatgen: another run works in /scratch/1; waiting for its end\n", "waiting for its end"),
        ("dosmatgen: the restart files in /scratch/1 cannot be used (gone); computing again\n", "computing again"),
    ],
)
def test_killed_before_the_end(sample_job, stderr, words):
    (sample_job.folder / "dosmatgen.err").write_text(stderr)
    _, node = sample_job.parse()
    assert node.exit_status == 301
    assert node.exit_message.startswith("The job ended without a whole results.json: it was killed.")
    assert node.exit_message.endswith(words)


TRACEBACK = "Traceback (most recent call last):\n  …\n"


@pytest.mark.parametrize(
    "stderr, scheduler, status, words",
    [
        (f"{TRACEBACK}KeyError: 'x'\ndosmatgen: crashed: KeyError: 'x'\n", "", 304, "The executable crashed: KeyError: 'x'"),
        (f"{TRACEBACK}ModuleNotFoundError: No module named 'numpy'\n", "", 304, "crashed: ModuleNotFoundError: No module"),
        ("1/3 candidates\n", "job.sh: line 9: 7 Segmentation fault (core dumped) dosmatgen\n", 304, "crashed: 1/3 candidates"),
        ("", "job.sh: line 9: 7 Illegal instruction dosmatgen\n", 304, "crashed: job.sh: line 9: 7 Illegal instruction"),
        (f"{TRACEBACK}MemoryError: 3 GiB\ndosmatgen: interrupted: out of memory: MemoryError: 3 GiB\n", "", 110, ""),
        (f"{TRACEBACK}MemoryError: 3 GiB\n", "", 110, ""),
        (f"ignored: {TRACEBACK}OSError: x\n1/3 candidates\n", "job.sh: line 9: 7 Killed dosmatgen\n", 301, "1/3 candidates"),
    ],
)
def test_a_crash_is_told_from_a_kill(sample_job, stderr, scheduler, status, words):
    (sample_job.folder / "dosmatgen.err").write_text(stderr)
    (sample_job.folder / "_scheduler-stderr.txt").write_text(scheduler)
    _, node = sample_job.parse()
    assert node.exit_status == status and words in node.exit_message


def test_the_executable_says_that_it_crashed(sample_job, monkeypatch):
    def broken(*_):
        raise RuntimeError("a mistake\nin two lines")

    monkeypatch.setattr("aiida_dosmatgen.engine.commands.sample.run", broken)
    assert sample_job.run() == 1
    _, node = sample_job.parse()
    assert (node.exit_status, node.exit_message) == (304, "The executable crashed: RuntimeError: a mistake in two lines")


@pytest.mark.parametrize(
    "line, status",
    [
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 DUE TO TIME LIMIT ***", 120),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T10:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***",
            140,
        ),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch. Some of your processes may have been killed", 110),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T10:00:00 ***", 301),
    ],
)
def test_what_slurm_wrote_is_read_without_accounting(sample_job, line, status):
    """Also behind a warning, behind which AiiDA does not look."""
    (sample_job.folder / "_scheduler-stderr.txt").write_text(f"a module was replaced\n{line}\n")
    (sample_job.folder / "dosmatgen.err").write_text("1/3 candidates\n")
    _, node = sample_job.parse()
    assert node.exit_status == status


def test_what_the_scheduler_saw_goes_first(sample_job):
    _, node = sample_job.parse(scheduler_status=120)
    assert (node.exit_status, node.exit_message) == (120, "what the scheduler saw")


def test_truncated_results(sample_job):
    sample_job.run()
    path = sample_job.folder / "results.json"
    path.write_text(path.read_text()[:-30])
    _, node = sample_job.parse()
    assert node.exit_status == 301


def test_output_cut_on_its_way(sample_job):
    sample_job.run()
    path = sample_job.folder / "candidates.npz"
    path.write_bytes(path.read_bytes()[:-7])
    _, node = sample_job.parse()
    assert node.exit_status == 302
    path.unlink()
    outputs, node = sample_job.parse()
    assert node.exit_status == 302 and "candidates.npz is missing" in node.exit_message
    assert "crystals" not in outputs


def test_results_of_another_job(sample_job):
    sample_job.run()
    sample_job.results(kind="relax")
    _, node = sample_job.parse()
    assert node.exit_status == 303 and "of a job of kind 'relax', expected 'sample'" in node.exit_message


def replace_output(job, name, content):
    """Put other crystals where the output was, with the right hash."""
    content.save(job.folder / name)
    job.results(output_sha256=sha256_of(job.folder / name))


def test_foreign_output(sample_job, target):
    sample_job.run()
    replace_output(sample_job, "candidates.npz", target)
    _, node = sample_job.parse()
    assert node.exit_status == 303 and "holds 'dosmatgen-target'" in node.exit_message


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


def test_relaxed_crystals_that_are_others(relax_job):
    relax_job.run()
    relaxed = CrystalSet.load(relax_job.folder / "relaxed.npz")
    for changed, words in [
        (relaxed[:2], "has 2 crystals, 3 were given"),
        (relaxed[[1, 0, 2]], "crystals of other compositions"),
    ]:
        replace_output(relax_job, "relaxed.npz", changed)
        _, node = relax_job.parse()
        assert node.exit_status == 303 and words in node.exit_message


def test_a_relaxation_that_was_stopped_early_has_all_crystals_too(relax_job):
    assert relax_job.run("--max-seconds", "0.000001") == 3
    outputs, node = relax_job.parse()
    assert node.exit_status == 401 and len(outputs["crystals"].crystals) == 3
    replace_output(relax_job, "relaxed.npz", CrystalSet.load(relax_job.folder / "relaxed.npz")[:2])
    _, node = relax_job.parse()
    assert node.exit_status == 303 and "has 2 crystals, 3 were given" in node.exit_message


def test_another_force_field_than_the_one_given(relax_job, make_job, model_file):
    relax_job.run()
    given = ForceFieldData.from_file(model_file, trusted_sha256=sha256_of(model_file)).store()
    relax_job.process = make_job("relax", crystals=relax_job.process.inputs.crystals, force_field=given)
    _, node = relax_job.parse()
    assert node.exit_status == 303 and f"the one given {given.sha256}" in node.exit_message


@pytest.fixture
def references_job(start):
    return start(
        "references",
        elements=["Si", "C"],
        force_field=lennard_jones(),
        parameters={"max_steps": 2},
    )


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


def test_exploded_crystals_are_results(relax_job):
    relax_job.run()
    relaxed = CrystalSet.load(relax_job.folder / "relaxed.npz")
    fractional = relaxed.fractional.copy()
    fractional[0] = np.nan
    replace_output(relax_job, "relaxed.npz", relaxed.replace(fractional=fractional))
    outputs, node = relax_job.parse()
    assert node.is_finished_ok
    assert outputs["crystals"].store().crystals[0].defect() is not None
