"""Many small jobs in one Slurm allocation."""

import numpy as np
import pytest
from aiida import orm
from aiida.calculations.arithmetic.add import ArithmeticAddCalculation
from aiida.engine import CalcJob, submit
from aiida.engine.processes.control import kill_processes
from ase.build import bulk

from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.data.target import DosTargetData
from aiida_dosmatgen.setup import ensure_debian_family
from aiida_dosmatgen.workflows.validate import ValidateWorkChain

from ..campaigns import wait_for
from ..workflows.windowed import count_inside, most_at_once

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def computer(profile, cluster):
    """The cluster once more, with the other scheduler plugin."""
    given = orm.load_computer("cluster")
    computer = orm.Computer(
        label="allocation",
        hostname=given.hostname,
        transport_type=given.transport_type,
        scheduler_type="dosmatgen.slurm_allocation",
        workdir=f"{cluster.home}/small-jobs",
    ).store()
    computer.configure(**given.get_configuration())
    computer.set_minimum_job_poll_interval(3)
    computer.set_default_mpiprocs_per_machine(1)
    return computer


@pytest.fixture(scope="module")
def run(computer):
    """Return a function that submits a job of a few shell commands to an allocation."""
    code = orm.InstalledCode(label="bash", computer=computer, filepath_executable="/bin/bash").store()

    def run(commands, allocation, seconds=300):
        options = {
            "prepend_text": commands,
            "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
            "custom_scheduler_commands": allocation,
            "max_wallclock_seconds": seconds,
            "withmpi": False,
        }
        return submit(ArithmeticAddCalculation, code=code, x=orm.Int(1), y=orm.Int(2), metadata={"options": options})

    return run


def allocations(cluster, ntasks: int, states: str = "all") -> set[str]:
    """Return the numbers of the allocations with so many CPUs, of all that Slurm remembers."""
    lines = cluster.login(f"squeue -h --states={states} -o '%i %C %j'").stdout.splitlines()
    return {line.split()[0] for line in lines if line.split()[1] == str(ntasks) and "dosmatgen-" in line}


def test_jobs_share_an_allocation(run, cluster, computer, tmp_path):
    """Jobs wait for CPUs inside of it, one that takes too long is ended, and pw.x runs in it as anywhere."""
    allocation = "#SBATCH --ntasks=3\n#SBATCH --time=01:00:00"
    log = cluster.home / "log"
    quick = [run(count_inside(log, company=2), allocation) for _ in range(6)]
    slow = run("sleep 1000", allocation, seconds=5)
    codes = {
        name: orm.InstalledCode(
            label=name,
            computer=computer,
            filepath_executable=f"{name}.x",
            default_calc_job_plugin=f"quantumespresso.{name}",
            prepend_text="export OMP_NUM_THREADS=1",
        )
        for name in ("pw", "projwfc")
    }
    builder = ValidateWorkChain.get_builder_from_protocol(
        *(codes[name].store() for name in ("pw", "projwfc")),
        orm.StructureData(ase=bulk("Si", "diamond", a=5.43)),
        DosTargetData(DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None])),
        protocol="fast",
        overrides={
            "pseudo_family": ensure_debian_family().label,
            "recipe": {"cutoff": 18, "scf_distance": 0.8, "bands_distance": 0.8, "points_per_atom": 0, "least_high": 1.0},
        },
        options={
            "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1},
            "withmpi": False,
            "max_wallclock_seconds": 1200,
            "custom_scheduler_commands": allocation,
        },
    )
    validation = submit(builder)
    nodes = [*quick, slow, validation]
    wait_for(lambda: all(node.is_terminated for node in nodes), "the end of all jobs")
    assert all(node.is_finished_ok and node.outputs.sum.value == 3 for node in quick)
    end = computer.get_scheduler().parse_output(None, slow.get_scheduler_stdout(), slow.get_scheduler_stderr())
    assert end == CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME and not slow.is_finished_ok
    assert validation.is_finished_ok, validation.exit_message

    assert 1 < most_at_once(log) <= 3 and len(log.read_text().split()) == 12
    # of eleven jobs: two that are asked for at once come one after the other, and one ends after two minutes without work
    assert len(allocations(cluster, 3)) <= 4


def test_an_allocation_that_ends_takes_along_what_runs_and_no_more(run, cluster):
    allocation = "#SBATCH --ntasks=2\n#SBATCH --time=00:10:00"
    begun = cluster.home / "begun"
    running = [run(f"touch {begun}-{number}; sleep 1000", allocation) for number in range(2)]
    wait_for(lambda: all((cluster.home / f"begun-{number}").exists() for number in range(2)), "the begin of two jobs")
    waiting = run("true", allocation)
    wait_for(lambda: waiting.get_job_id() is not None, "the submission of the third")
    (number,) = allocations(cluster, 2, "running")
    cluster.login(f"scancel {number}")
    wait_for(lambda: all(node.is_terminated for node in (*running, waiting)), "the end of all jobs")
    assert not any(node.is_finished_ok for node in running)
    assert waiting.is_finished_ok
    assert allocations(cluster, 2) > {number}


def test_a_job_can_be_cancelled(run, cluster):
    allocation = "#SBATCH --ntasks=1\n#SBATCH --time=00:10:00"
    begun, ended = cluster.home / "one", cluster.home / "other"
    first, second = run(f"touch {begun}; sleep 1000", allocation), None
    wait_for(begun.exists, "the begin of the first job")
    second = run(f"touch {ended}", allocation)
    kill_processes([first], timeout=30)
    wait_for(lambda: first.is_terminated and second.is_terminated, "the end of both")
    assert first.is_killed and second.is_finished_ok
    wait_for(lambda: not cluster.account.processes("sleep 1000"), "the end of what it ran")
