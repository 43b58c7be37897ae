"""Jobs that Slurm ends, with accounting and without: never taken for finished, and continued from what they had written."""

import pytest
from aiida.engine import CalcJob

from aiida_dosmatgen.calculations.base import DosmatgenCalculation

from ..campaigns import wait_for, what_failed
from .accounting import Accounting, why_not
from .campaigns import has_parts
from .endless import end, runs_of, start

pytestmark = pytest.mark.cluster

OUT_OF_TIME = CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status
KILLED = DosmatgenCalculation.exit_codes.ERROR_NO_RESULTS.status


@pytest.fixture(params=["without accounting", "with accounting"])
def accounting(request, profile, cluster) -> bool:
    """Whether Slurm keeps a database of jobs."""
    if request.param == "without accounting":
        yield False
        return
    reason = why_not()
    if reason:
        pytest.skip(reason)
    database = Accounting(cluster)
    database.start()
    yield True
    database.stop()


def test_a_truncated_run_never_counts_as_finished(accounting, cluster):
    # Slurm's limit is a minute, and the limit that the job was given is twenty
    late = start("sample", max_wallclock_seconds=1200, custom_scheduler_commands="#SBATCH --time=00:01:00")
    cancelled = start("sample", max_wallclock_seconds=1200)
    wait_for(lambda: runs_of(cancelled) and has_parts(runs_of(cancelled)[0]), "a batch")
    cluster.login(f"scancel {runs_of(cancelled)[0].get_job_id()}")
    for chain, status in ((cancelled, KILLED), (late, OUT_OF_TIME)):
        wait_for(lambda chain=chain: chain.is_terminated or len(runs_of(chain)) > 1, "a second job")
        assert not chain.is_terminated, what_failed(chain)
        first, second = runs_of(chain)[:2]
        end(chain)
        assert first.exit_status == status
        assert bool(first.get_detailed_job_info().get("stdout", "").count("\n") > 1) is accounting
        assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    wait_for(lambda: not cluster.states() or set(cluster.states()) <= {"COMPLETING"}, "an empty queue")
