"""What all parsers share: refusals, kills, crashes, and files that are cut or of another job."""

import pytest

from tests.parsers.jobs import replace_output


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


def test_foreign_output(sample_job, target):
    sample_job.run()
    replace_output(sample_job, "candidates.npz", target)
    _, node = sample_job.parse()
    assert node.exit_status == 303 and "holds 'dosmatgen-target'" in node.exit_message
