"""Many small jobs in one Slurm allocation, each a step of it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from aiida.common import FeatureNotAvailable
from aiida.plugins import SchedulerFactory
from aiida.schedulers import JobInfo, JobState, JobTemplate, SchedulerError

SlurmScheduler: Any = SchedulerFactory("core.slurm")

_TOOL = files(__package__) / "allocation.sh"
_FOLDER = "$HOME/.dosmatgen-allocations"
_STATES = {"PENDING": JobState.QUEUED, "RUNNING": JobState.RUNNING}


class SlurmAllocationScheduler(SlurmScheduler):
    """Run jobs as steps of an allocation that is shared by all jobs with the same partition, account and custom commands.

    What ``custom_scheduler_commands`` say concerns the allocation (``#SBATCH --ntasks=64``, ``#SBATCH --time=12:00:00``), and
    so do ``queue_name``, ``account`` and ``qos``; ``resources`` and ``max_wallclock_seconds`` are those of the job, which takes
    ``tot_num_mpiprocs`` × ``num_cores_per_mpiproc`` CPUs of a node. The allocation is asked for when there is something to do,
    takes jobs in their order as CPUs become free and as long as they can end in time, and ends after two idle minutes.
    If it ends with jobs unfinished, these count as ended, and those that wait get another one.
    """

    def _get_submit_script_header(self, job_tmpl: JobTemplate) -> str:
        """Return the lines about the allocation, and one about the job.

        :raises ValueError: without a time limit, or for more than one node.
        """
        resource = job_tmpl.job_resource
        if resource.num_machines != 1:
            raise ValueError(f"resources: num_machines is {resource.num_machines}; a job in a shared allocation has 1")
        if not job_tmpl.max_wallclock_seconds:
            raise ValueError("max_wallclock_seconds is missing; the allocation has to know how long a job may take")
        lines = [
            f"#SBATCH --{option}={value}"
            for option, value in (("partition", job_tmpl.queue_name), ("account", job_tmpl.account), ("qos", job_tmpl.qos))
            if value
        ]
        if job_tmpl.custom_scheduler_commands:
            lines.append(job_tmpl.custom_scheduler_commands)
        cpus = resource.get_tot_num_mpiprocs() * (resource.num_cores_per_mpiproc or 1)
        paths = (job_tmpl.sched_output_path or "/dev/null", job_tmpl.sched_error_path or "/dev/null")
        lines.append(f"#STEP {cpus} {int(job_tmpl.max_wallclock_seconds)} {' '.join(paths)}")
        return "\n".join(lines)

    def _get_submit_command(self, submit_script: str) -> str:
        """Return a command that brings along the script that does it."""
        end = "END_OF_ALLOCATION_SH"
        return (
            f'mkdir -p "{_FOLDER}" && cat > "{_FOLDER}/new.$$" <<\'{end}\' && '
            f'mv "{_FOLDER}/new.$$" "{_FOLDER}/allocation.sh" && bash "{_FOLDER}/allocation.sh" submit {submit_script}\n'
            f"{_TOOL.read_text(encoding='utf-8')}{end}\n"
        )

    def _parse_submit_output(self, retval: int, stdout: str, stderr: str) -> Any:
        """Return the identifier of a job; what sbatch refuses is told as for any job of Slurm."""
        if retval != 0 or not stdout.strip():
            return super()._parse_submit_output(retval or 1, stdout, stderr)
        return stdout.split()[-1]

    def _get_joblist_command(self, jobs: list[str] | None = None, user: str | None = None) -> str:
        """Return a command that lists all jobs that have not ended."""
        return f'if [ -e "{_FOLDER}/allocation.sh" ]; then bash "{_FOLDER}/allocation.sh" list; else echo end; fi'

    def _parse_joblist_output(self, retval: int, stdout: str, stderr: str) -> list[JobInfo]:
        """Return the jobs that have not ended.

        :raises SchedulerError: if the list is not whole: a job that is missing would be taken for one that has ended.
        """
        lines = stdout.split("\n")
        if retval != 0 or "end" not in lines:
            raise SchedulerError(f"the jobs could not be listed (exit code {retval}): {' '.join(stderr.split())}")
        if stderr.strip():
            self.logger.warning(f"while jobs were listed: {' '.join(stderr.split())}")
        found = {}
        for line in lines[: lines.index("end")]:
            name, _, state = line.rpartition(" ")
            if not name or state not in _STATES:
                raise SchedulerError(f"{line!r} in the list of jobs is not a job and its state")
            found[name] = job = JobInfo()
            job.job_id, job.job_state = name, _STATES[state]
        return list(found.values())

    def _get_kill_command(self, jobid: str) -> str:
        """Return a command that ends a job."""
        return f'bash "{_FOLDER}/allocation.sh" cancel {jobid}'

    def _get_detailed_job_info_command(self, job_id: str) -> str:
        """There is no accounting of steps by their names."""
        raise FeatureNotAvailable("no accounting for jobs in a shared allocation")
