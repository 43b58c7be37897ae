"""A process whose task was handed out twice: it is run by one worker at a time, and by the other if that one is gone."""

import asyncio
import subprocess
import sys

import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from plumpy import LoadSaveContext

from aiida_dosmatgen.aiida_internals import one_worker

from .windowed import WindowedWorkChain

ANOTHER_WORKER = """
import sys
from pathlib import Path
from aiida_dosmatgen.aiida_internals.one_worker import Locks
locks = Locks(Path(sys.argv[1]))
print(locks.take(int(sys.argv[2])), flush=True)
sys.stdin.read()  # until it is killed, or this test is
"""


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(one_worker, "PAUSE", 0.1)


@pytest.fixture
def submitted(aiida_profile, aiida_code_installed):
    """The pk of a work chain that was submitted: it has a checkpoint, and no worker yet."""
    code = aiida_code_installed(label="bash", filepath_executable="/bin/bash", default_calc_job_plugin="core.arithmetic.add")
    inputs = {"code": code, "commands": orm.List(["true"]), "max_concurrent": 1}
    process = instantiate_process(get_manager().get_runner(), WindowedWorkChain, **inputs)
    get_manager().get_persister().save_checkpoint(process)
    process.close()
    return process.pid


def recreate(pk):
    """Return what a worker makes of a task."""
    context = LoadSaveContext(runner=get_manager().get_runner())
    return get_manager().get_persister().load_checkpoint(pk).unbundle(context)


def run(*processes):
    """Run what workers have, together."""

    async def all_of_them():
        await asyncio.wait_for(asyncio.gather(*(process.step_until_terminated() for process in processes)), 600)

    get_manager().get_runner().loop.run_until_complete(all_of_them())


def test_of_two_workers_one_runs_it(submitted):
    workers = [recreate(submitted) for _ in range(3)]
    run(*workers)
    node = orm.load_node(submitted)
    assert node.is_finished_ok and node.is_sealed and node.checkpoint is None
    assert len(node.called) == 1
    assert workers[0].future().result()["ended"].get_list() == [0]
    assert [worker.future().result() for worker in workers[1:]] == [{}, {}]


def test_it_goes_on_when_the_other_worker_is_gone(submitted):
    path = one_worker.locks()._path
    command = [sys.executable, "-c", ANOTHER_WORKER, str(path), str(submitted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        process = recreate(submitted)
        loop = get_manager().get_runner().loop
        with pytest.raises(TimeoutError if sys.version_info >= (3, 11) else asyncio.TimeoutError):
            loop.run_until_complete(asyncio.wait_for(process.step_until_terminated(), 1))
        node = orm.load_node(submitted)
        assert not node.is_terminated and not node.called
        process = recreate(submitted)
        other.kill()
        run(process)
    assert node.is_finished_ok and len(node.called) == 1
    assert process.future().result()["ended"].get_list() == [0]


def test_a_worker_that_drops_it_lets_go_of_it(submitted):
    process = recreate(submitted)

    async def without_a_database():
        raise ConnectionError("the server closed the connection")

    process.step = without_a_database
    with pytest.raises(ConnectionError):
        run(process)
    process.close()
    run(recreate(submitted))
    assert orm.load_node(submitted).is_finished_ok


def test_it_is_run_where_nothing_can_be_locked(submitted, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(one_worker.fcntl, "lockf", unsupported)
    assert one_worker.Locks(one_worker.locks()._path).take(submitted)
    assert f"two workers may run process {submitted}" in caplog.text
