"""Windows of children, with real jobs, in this process and through a daemon that is killed."""

import contextlib
import time
from pathlib import Path

import pytest
from aiida import orm
from aiida.engine import run_get_node, submit
from aiida.engine.daemon.client import get_daemon_client

from aiida_dosmatgen import setup

from ..campaigns import kill_daemon, start_daemon_again
from .windowed import WindowedWorkChain

SECONDS = 200


def slow_until(path: Path) -> str:
    """Return a command that ends when a file is there."""
    return f"until [ -e {path} ]; do sleep 0.1; done"


def count_inside(log: Path) -> str:
    """Return a command that notes its begin, and its end two seconds later."""
    return f"echo + >> {log}; trap 'echo - >> {log}' EXIT; sleep 2"


def most_at_once(log: Path) -> int:
    """Return how many of those commands were under way together."""
    inside = most = 0
    for sign in log.read_text().split():
        inside += 1 if sign == "+" else -1
        most = max(most, inside)
    return most


@pytest.mark.timeout(SECONDS)
def test_the_slowest_child_holds_nobody(aiida_profile, aiida_code_installed, tmp_path):
    """The first job ends only after the last: a window that waited for all of its children would wait for ever."""
    code = aiida_code_installed(label="bash", filepath_executable="/bin/bash", default_calc_job_plugin="core.arithmetic.add")
    log, last = tmp_path / "log", tmp_path / "last"
    commands = [slow_until(last), *[count_inside(log)] * 4, f"touch {last}"]
    ended, node = run_get_node(WindowedWorkChain, code=code, commands=orm.List(commands), max_concurrent=3)
    assert node.is_finished_ok, node.exit_message
    assert sorted(ended["ended"]) == list(range(6)) and ended["ended"].index(0) > 3
    assert most_at_once(log) == 2
    assert len(node.called) == 6


def wait_for(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(Path(get_daemon_client().daemon_log_file).read_text()[-4000:])
        time.sleep(0.2)


@pytest.mark.integration
@pytest.mark.timeout(2 * SECONDS)
def test_a_window_survives_the_daemon(tmp_path, aiida_config_factory, aiida_profile_factory, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with (
        aiida_config_factory(tmp_path / "config") as config,
        aiida_profile_factory(config, broker_backend="core.zeromq") as profile,
    ):
        config.set_option("runner.poll.interval", 1, scope=profile.name)
        config.store()
        computer = setup.ensure_computer(tmp_path / "jobs")
        code = orm.InstalledCode(label="bash", computer=computer, filepath_executable="/bin/bash").store()
        log, gate, last = (tmp_path / name for name in ("log", "gate", "last"))
        commands = [slow_until(last), count_inside(log), count_inside(log), slow_until(gate), *[count_inside(log)] * 3]
        commands.append(f"touch {last}")
        setup.ensure_daemon()
        try:
            node = submit(WindowedWorkChain, code=code, commands=orm.List(commands), max_concurrent=2)
            # two have ended, and the chain waits in a window that has slid twice
            wait_for(lambda: node.is_terminated or len(node.called) == 4)
            wait_for(lambda: node.is_terminated or node.process_state.value == "waiting")
            kill_daemon()
            start_daemon_again()
            gate.touch()
            wait_for(lambda: node.is_terminated)
            assert node.is_finished_ok, node.exit_message or node.exception
            assert sorted(node.outputs.ended) == list(range(8))
            assert len(node.called) == 8  # none lost, none twice
            assert most_at_once(log) == 1
        finally:
            with contextlib.suppress(Exception):
                get_daemon_client().stop_daemon(wait=True)
