"""Time limits: jobs stop themselves before, keep what they have, and are continued from there."""

import pytest
from aiida.engine import CalcJob

from aiida_dosmatgen.calculations.base import DosmatgenCalculation
from aiida_dosmatgen.workflows.base import TrainBaseWorkChain

from ..campaigns import wait_for, what_failed
from .endless import end, runs_of, start

pytestmark = pytest.mark.cluster

STOPPED = DosmatgenCalculation.exit_codes.ERROR_STOPPED_EARLY.status
OUT_OF_TIME = CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status
INCOMPLETE = TrainBaseWorkChain.exit_codes.ERROR_INCOMPLETE.status
KINDS = ("sample", "relax", "train")
LIMITS = (40, 80, 160, 320)  # seconds; a busy machine may need more to do anything at all


@pytest.fixture(scope="module")
def chains(profile):
    """Running chains of jobs with the shortest limit, by their kinds."""
    started = {kind: [start(kind, max_wallclock_seconds=LIMITS[0])] for kind in KINDS}
    yield started
    end(*(chain for chains in started.values() for chain in chains))


def was_too_slow(chain, limit: int) -> bool:
    """Whether the machine had no time to start the executable and to do something more, or to end it."""
    for run in runs_of(chain)[:2]:
        if run.exit_status == OUT_OF_TIME:
            return True
        if run.exit_status == STOPPED and (not run.outputs.results["done"] or run.outputs.results["seconds"] >= limit):
            return True
    return chain.exit_status == INCOMPLETE


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_stops_in_time_and_is_continued(chains, kind):
    for limit in LIMITS:
        if limit != LIMITS[0]:
            chains[kind].append(start(kind, max_wallclock_seconds=limit))
        chain = chains[kind][-1]
        wait_for(
            lambda chain=chain: chain.is_terminated or (len(runs_of(chain)) > 1 and runs_of(chain)[1].is_terminated),
            "a second job",
        )
        ended_itself = chain.is_terminated
        end(chain)
        if limit == LIMITS[-1] or not was_too_slow(chain, limit):
            break
    assert not ended_itself, what_failed(chain)
    first, second = runs_of(chain)[:2]
    assert [first.exit_status, second.exit_status] == [STOPPED, STOPPED]  # not 120: Slurm did not have to end them
    assert max(node.outputs.results["seconds"] for node in (first, second)) < limit  # Slurm counts in minutes
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    done = [node.outputs.results["done"] for node in (first, second)]
    assert 0 < done[0] < done[1]
