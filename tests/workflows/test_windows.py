"""Windows of children, with real jobs, in this process; tests/integration has them in a daemon that is killed."""

from aiida import orm
from aiida.engine import run_get_node

from .windowed import WindowedWorkChain, count_in_window, most_at_once, slow_until


def test_the_slowest_child_holds_nobody(aiida_profile, aiida_code_installed, tmp_path):
    """The first job ends only after the last: a window that waited for all of its children would wait for ever."""
    code = aiida_code_installed(label="bash", filepath_executable="/bin/bash", default_calc_job_plugin="core.arithmetic.add")
    log, last = tmp_path / "log", tmp_path / "last"
    commands = [slow_until(last), *(count_in_window(log, number) for number in range(4)), f"touch {last}"]
    inputs = {"code": code, "commands": orm.List(commands), "max_concurrent": 3, "log": str(log)}
    ended, node = run_get_node(WindowedWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert sorted(ended["ended"]) == list(range(6)) and ended["ended"].index(0) > 3
    assert most_at_once(log) == 2
    assert len(node.called) == 6
