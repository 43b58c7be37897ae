"""Time limits: jobs stop themselves before, keep what they have, and are continued from there."""

import pytest
from aiida.engine.processes.control import kill_processes

from aiida_dosmatgen.calculations.base import DosmatgenCalculation

from ..campaigns import wait_for, what_failed
from .endless import runs_of, start

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster-jobs")]

STOPPED = DosmatgenCalculation.exit_codes.ERROR_STOPPED_EARLY.status
KINDS = ("sample", "relax", "train")


@pytest.fixture(scope="module")
def chains(profile):
    """Running chains of jobs of a minute each, by their kinds."""
    started = {kind: start(kind, max_wallclock_seconds=60) for kind in KINDS}
    yield started
    kill_processes([chain for chain in started.values() if not chain.is_terminated], timeout=60)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_stops_in_time_and_is_continued(chains, kind):
    chain = chains[kind]
    wait_for(lambda: chain.is_terminated or (len(runs_of(chain)) > 1 and runs_of(chain)[1].is_terminated), "a second job")
    assert not chain.is_terminated, what_failed(chain)
    first, second = runs_of(chain)[:2]
    assert [first.exit_status, second.exit_status] == [STOPPED, STOPPED]  # not 120: Slurm did not have to end them
    assert second.inputs.parent_folder.uuid == first.outputs.remote_folder.uuid
    done = [node.outputs.results["done"] for node in (first, second)]
    assert 0 < done[0] < done[1]
