"""Job files and results: one schema, versioned, unknown keys refused by name."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import (
    ForceField,
    LabelJob,
    LabelSettings,
    PredictJob,
    RelaxJob,
    Results,
    SampleJob,
    SampleParameters,
    TrainJob,
    load_job,
    sha256_of,
)

JOBS = [
    SampleJob(checkpoint="c.safetensors", target="t.npz", seed=1, stop=10, parameters=SampleParameters(n_atoms=[2, 4])),
    RelaxJob(crystals="c.npz", force_field=ForceField(calculator="ase.calculators.emt:EMT", arguments={"asap_cutoff": True})),
    PredictJob(checkpoint="p.safetensors", crystals="c.npz"),
    TrainJob(dataset="d.npz", seed=3, parent="p.safetensors"),
    LabelJob(crystals="c.npz", settings=LabelSettings(stringency="normal"), workers=2),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_job_files_round_trip(job, tmp_path):
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    assert load_job(path) == job


def load(tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text)
    return load_job(path)


PSEUDOLABEL = {"kind": "pseudolabel", "elements": ["Si"], "count": 1, "force_field": {"foundation": "small"}, "predictor": "p"}
FRAMES = {"kind": "frames", "crystals": "c", "count": 1, "force_field": {"foundation": "small"}}


@pytest.mark.parametrize("path", ["../candidates.npz", "/tmp/candidates.npz", "a/../../b.npz", "..", ".", ""])
@pytest.mark.parametrize(
    ("key", "job"),
    [
        ("output", {"kind": "sample", "checkpoint": "c", "seed": 1, "stop": 2}),
        ("output", {"kind": "relax", "crystals": "c", "force_field": {"foundation": "small"}}),
        ("output", {"kind": "references", "elements": ["Si"], "force_field": {"foundation": "small"}}),
        ("output", {"kind": "predict", "crystals": "c", "checkpoint": "c"}),
        ("output", {"kind": "train", "dataset": "d", "seed": 1}),
        ("history", {"kind": "train", "dataset": "d", "seed": 1}),
        ("output", {"kind": "label", "crystals": "c"}),
        ("directory", {"kind": "label", "crystals": "c"}),
        ("shards", {"kind": "label", "crystals": "c"}),
        ("output", PSEUDOLABEL),
        ("directory", PSEUDOLABEL),
        ("output", {"kind": "evaluate", "checkpoint": "c", "crystals": "c"}),
        ("left_out", {"kind": "predict", "crystals": "c", "checkpoint": "c"}),
        ("directory", FRAMES),
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path, key, job, path):
    with pytest.raises(ContentError, match=f"{job['kind']}.{key}: .*leads out of the folder of the job file"):
        load(tmp_path, json.dumps({**job, key: path}))
    assert load(tmp_path, json.dumps({**job, key: "results/final.npz"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ('{"kind": "sample", "checkpoi', "Invalid JSON"),
        ('{"seed": 1}', "'kind'"),
        ('{"kind": "dance"}', "dance"),
        ('{"kind": "sample", "checkpoint": "c", "seed": 1}', "sample.stop: Field required"),
        ('{"kind": "sample", "checkpoint": "c", "seed": -1, "stop": 2}', "sample.seed: Input should be greater"),
        ('{"kind": "sample", "checkpoint": "c", "seed": 1, "stop": 2, "sed": 1}', "sample.sed: unknown key"),
        (
            '{"kind": "sample", "checkpoint": "c", "seed": 1, "stop": 2, "parameters": {"guide": 1}}',
            "sample.parameters.guide: unknown key",
        ),
        ('{"kind": "sample", "checkpoint": "c", "seed": 1, "stop": 2, "version": 2}', "sample.version"),
        ('{"kind": "relax", "crystals": "c", "force_field": {}}', "give exactly one of file, foundation, calculator"),
        ('{"kind": "relax", "crystals": "c", "force_field": {"file": "a", "foundation": "b"}}', "give exactly one of"),
        ('{"kind": "train", "dataset": "d", "seed": 1, "parameters": {"validation_fraction": 1}}', "validation_fraction"),
    ],
)
def test_refused_job_files(tmp_path, text, message):
    with pytest.raises(ContentError, match=message) as info:
        load(tmp_path, text)
    assert "job.json" in str(info.value)
    assert "\n" not in str(info.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(ContentError, match="does not exist"):
        load_job(tmp_path / "no.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContentError, match="not a text file"):
        load_job(tmp_path / "binary")


def test_jobs_do_not_change():
    with pytest.raises(ValidationError):
        JOBS[0].seed = 2


def test_the_physics_of_labels_leaves_out_how_they_are_run():
    settings = LabelSettings()
    run_otherwise = LabelSettings(pw_command=["mpirun", "pw.x"], projwfc_command=["x"], max_seconds_per_crystal=1)
    assert settings.physics() == run_otherwise.physics()
    for change in ({"stringency": "normal"}, {"kpoints_distance": 0.2}, {"degauss": 0.01}, {"sigma": 0.2}):
        assert LabelSettings(**change).physics() != settings.physics()


RESULTS = Results(
    kind="sample", finished=True, done=3, of=3, output="candidates.npz", output_sha256="0" * 64, seconds=1.5,
    engine_version="0.1.0", torch_version="2", device="cpu", details={"seed": 1},
)  # fmt: skip


def test_results_round_trip(tmp_path):
    path = tmp_path / "results.json"
    RESULTS.save(path)
    assert Results.load(path.read_text()) == RESULTS
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@given(st.integers(0, len(RESULTS.model_dump_json()) - 1))
def test_truncated_results_are_refused(length):
    with pytest.raises(ContentError, match="results.json: "):
        Results.load(RESULTS.model_dump_json()[:length])


@given(st.binary(max_size=5000))
def test_sha256(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
