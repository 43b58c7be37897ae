"""What the scheduler plugin writes and reads; tests/cluster runs it on a real Slurm."""

import subprocess

import pytest
from aiida.engine import CalcJob
from aiida.schedulers import SchedulerError
from aiida.schedulers.datastructures import JobState, JobTemplate

from aiida_dosmatgen.schedulers.allocation import SlurmAllocationScheduler


@pytest.fixture
def scheduler():
    return SlurmAllocationScheduler()


def template(scheduler, seconds=600, **resources):
    job = JobTemplate()
    job.job_resource = scheduler.create_job_resource(
        **{"num_machines": 1, "num_mpiprocs_per_machine": 4, "num_cores_per_mpiproc": 2, **resources}
    )
    job.max_wallclock_seconds = seconds
    job.queue_name = "main"
    job.custom_scheduler_commands = "#SBATCH --ntasks=64"
    job.sched_output_path, job.sched_error_path = "out.txt", "err.txt"
    return job


def test_what_concerns_the_allocation_and_what_the_job(scheduler):
    header = scheduler._get_submit_script_header(template(scheduler))
    assert header.splitlines() == ["#SBATCH --partition=main", "#SBATCH --ntasks=64", "#STEP 8 600 out.txt err.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_machines": 2}, "num_machines is 2"), ({"seconds": None}, "max_wallclock_seconds is missing")],
)
def test_a_job_that_cannot_be_a_step_is_refused(scheduler, changes, message):
    with pytest.raises(ValueError, match=message):
        scheduler._get_submit_script_header(template(scheduler, **changes))


def test_states_are_read(scheduler):
    jobs = scheduler._parse_joblist_output(0, "a-1 PENDING\na-2 RUNNING\na-1 RUNNING\nend\n", "")
    # one that was moved while the list was made is there twice; what was seen last counts
    assert {job.job_id: job.job_state for job in jobs} == {"a-1": JobState.RUNNING, "a-2": JobState.RUNNING}
    assert scheduler._parse_joblist_output(0, "end\n", "") == []


@pytest.mark.parametrize(
    ("retval", "stdout"),
    [(1, ""), (0, "a-1 RUNNING\n"), (0, "a-1 RUNN"), (0, "a-1 SLEEPING\nend\n"), (1, "a-1 RUNNING\nend\n")],
)
def test_a_list_that_is_not_whole_is_no_list(scheduler, retval, stdout):
    with pytest.raises(SchedulerError):
        scheduler._parse_joblist_output(retval, stdout, "slurm_load_jobs error")


def test_what_sbatch_refuses_is_told(scheduler):
    assert scheduler._parse_submit_output(0, "abc-17-3\n", "") == "abc-17-3"
    code = scheduler._parse_submit_output(1, "", "sbatch: error: Invalid account or account/partition combination")
    assert code == CalcJob.exit_codes.ERROR_SCHEDULER_INVALID_ACCOUNT
    with pytest.raises(SchedulerError, match="slurmctld"):
        scheduler._parse_submit_output(1, "", "slurmctld does not answer")


def test_commands_are_bash(scheduler):
    for command in (
        scheduler._get_submit_command("_aiidasubmit.sh"),
        scheduler._get_joblist_command(),
        scheduler._get_kill_command("abc-1"),
    ):
        done = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True)
        assert done.returncode == 0 and not done.stderr


def test_where_nothing_was_submitted_there_are_no_jobs(scheduler, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run(["bash", "-c", scheduler._get_joblist_command()], text=True, capture_output=True)
    assert scheduler._parse_joblist_output(done.returncode, done.stdout, done.stderr) == []
