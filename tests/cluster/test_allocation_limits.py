"""The script of the allocation scheduler on a real Slurm, where something changes or is refused; no AiiDA here."""

import itertools
import subprocess

import pytest
from aiida.plugins import SchedulerFactory

from .accounting import Accounting, why_not
from .loopback import ACCOUNT, which

pytestmark = pytest.mark.cluster


class Tool:
    """The scheduler plugin's commands, run on the login node."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.scheduler = SchedulerFactory("dosmatgen.slurm_allocation")()
        self.numbers = itertools.count()

    def submit(self, commands, header, seconds=60, check=True):
        """Submit a job of one CPU; return its identifier, or how it was refused."""
        folder = f"{self.cluster.home}/job-{next(self.numbers)}"
        lines = ["#!/bin/bash", *(f"#SBATCH {line}" for line in header), f"#STEP 1 {seconds} out err", commands]
        script = "\n".join(lines)
        self.cluster.login(f"mkdir {folder}; cat > {folder}/script <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT")
        done = self.cluster.login(f"cd {folder} && {self.scheduler._get_submit_command('script')}", check=check)
        return done.stdout.strip() if check else done

    def states(self):
        """Return the state of each job that has not ended."""
        done = self.cluster.login(self.scheduler._get_joblist_command())
        return {
            job.job_id: job.job_state.value
            for job in self.scheduler._parse_joblist_output(done.returncode, done.stdout, done.stderr)
        }

    def allocations(self, states="all"):
        """Return the number and the state of each allocation that Slurm remembers."""
        lines = self.cluster.login(f"squeue -h --states={states} -o '%i %T %j'").stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in lines if "dosmatgen-" in line}

    def wait_for(self, job, state):
        self.cluster.wait_for(lambda: self.states().get(job) == state, f"{job} {state}")


@pytest.fixture
def tool(cluster):
    empty(cluster)  # allocations of the tests before wait for more work for a while
    yield Tool(cluster)
    empty(cluster)


def empty(cluster):
    """End what is in the queue, and forget what the scheduler plugin had written."""
    cluster.login("scancel --me; rm -rf .dosmatgen-allocations job-*")
    cluster.wait_for(lambda: set(cluster.states()) <= {"COMPLETING"}, "an empty queue")


def test_an_allocation_that_runs_out_of_time(tool, cluster):
    """What runs in it has ended, and what waits gets another one."""
    header, done = ["--ntasks=1", "--time=00:30:00"], cluster.home / "after-the-first"
    too_long = tool.submit("sleep 1000", header, seconds=1000)
    tool.wait_for(too_long, "running")
    (first,) = tool.allocations("running")
    waiting = tool.submit(f"touch {done}", header, seconds=20)
    assert tool.states() == {too_long: "running", waiting: "queued"}
    before, seen = tool.allocations().keys(), {}
    tool.cluster._control("update", f"jobid={first}", "timelimit=1")  # only now: on a slow machine a minute is over early

    def ended():
        seen.update(tool.allocations())  # Slurm forgets them soon
        return not tool.states() and done.exists()

    cluster.wait_for(ended, "the end of both")
    assert seen[first] == "TIMEOUT" and len(seen.keys() - before) == 1


def test_settings_that_are_changed_midway(tool, cluster):
    """Jobs with other settings have another allocation; a longer time limit of a running one is seen."""
    go, long = cluster.home / "go", cluster.home / "long"
    before = tool.submit(f"until [ -e {go} ]; do sleep 1; done", ["--ntasks=1", "--time=00:30:00"], seconds=1000)
    tool.wait_for(before, "running")
    (first,) = tool.allocations("running")
    after = tool.submit(f"until [ -e {go} ]; do sleep 1; done", ["--ntasks=2", "--time=00:30:00"], seconds=1000)
    tool.wait_for(after, "running")
    (second,) = set(tool.allocations("running")) - {first}
    needs_longer = tool.submit(f"touch {long}", ["--ntasks=2", "--time=00:30:00"], seconds=2500)
    cluster.wait_for(lambda: tool.states()[needs_longer] == "queued", "a job that waits")
    tool.cluster._control("update", f"jobid={second}", "timelimit=60")
    cluster.wait_for(long.exists, "the job for which there is time now")
    assert tool.states().keys() == {before, after} and set(tool.allocations("running")) == {first, second}
    go.touch()
    cluster.wait_for(lambda: not tool.states(), "the end of both")


def test_a_second_allocation_in_spite_of_one(tool, cluster):
    """One that was asked for at the same moment comes after the first, and runs nothing twice."""
    header, go, log = ["--ntasks=1", "--time=00:30:00"], cluster.home / "go-on", cluster.home / "begun"
    command = f"echo $$ >> {log}; until [ -e {go} ]; do sleep 1; done"
    jobs = [tool.submit(command, header, seconds=800) for _ in range(2)]
    tool.wait_for(jobs[0], "running")
    (first,) = tool.allocations("running")
    name = cluster.login(f"squeue -h -j {first} -o %j").stdout.strip()
    spool = f".dosmatgen-allocations/{name.removeprefix('dosmatgen-')}"
    second = cluster.login(f"sbatch --parsable --job-name={name} --dependency=singleton {spool}/allocation").stdout.strip()
    cluster.wait_for(lambda: tool.allocations() == {first: "RUNNING", second: "PENDING"}, "two allocations")
    assert tool.states() == {jobs[0]: "running", jobs[1]: "queued"}
    go.touch()
    cluster.wait_for(lambda: not tool.states(), "the end of both")
    assert len(log.read_text().split()) == 2
    cluster.login(f"scancel {first}")
    cluster.wait_for(lambda: tool.allocations("running").keys() == {second}, "the second allocation")
    assert not tool.states() and len(log.read_text().split()) == 2


def test_a_limit_of_jobs_in_the_queue(tool, cluster):
    """A job that would need an allocation too many waits until there may be one; what is never allowed is refused."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    accounting = Accounting(cluster)
    accounting.start(AccountingStorageEnforce="limits")
    try:
        environment = {"SLURM_CONF": str(cluster.slurm_configuration)}
        for what in ("add account a", f"add user {ACCOUNT} account=a maxsubmitjobs=1"):
            done = subprocess.run([which("sacctmgr"), "-i", *what.split()], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        go = cluster.home / "go-at-last"
        one = tool.submit(f"until [ -e {go} ]; do sleep 1; done", ["--ntasks=1", "--time=00:25:00"], seconds=1000)
        tool.wait_for(one, "running")
        other = tool.submit("true", ["--ntasks=2", "--time=00:10:00"])
        assert tool.states() == {one: "running", other: "queued"}
        refused = tool.submit("true", ["--ntasks=1", "--partition=nowhere"], check=False)
        assert refused.returncode == 1 and "invalid partition" in refused.stderr and len(tool.states()) == 2
        go.touch()
        cluster.wait_for(lambda: one not in tool.states(), "the end of the first job")
        cluster.login(f"scancel {' '.join(tool.allocations('running'))}")
        cluster.wait_for(lambda: not tool.states(), "the end of the other job")
    finally:
        accounting.stop()
