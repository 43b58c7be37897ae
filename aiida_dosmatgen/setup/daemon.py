"""Start the daemon of the loaded profile."""

from __future__ import annotations

from aiida.engine import get_daemon_client

from ..aiida_internals.services import DaemonException
from ..core.errors import ContentError
from ..tools.daemon import forget_a_killed_broker, has_lost_its_tasks, is_outdated, is_running, without_broker


def ensure_daemon(workers: int = 1) -> None:
    """Start the daemon, unless it is running the code that is installed now; one that runs older code is restarted.

    :raises ContentError: if it does not start, or the profile has no broker.
    """
    problem = without_broker()
    if problem:
        raise ContentError(problem)
    client = get_daemon_client()
    try:
        if is_running():
            if not has_lost_its_tasks() and not is_outdated():
                return
            client.stop_daemon(wait=True)
    except DaemonException as exception:
        raise ContentError(
            f"the daemon does not answer ({' '.join(str(exception).split())}); its log is {client.daemon_log_file}"
        ) from None
    forget_a_killed_broker()
    try:
        client.start_daemon(workers, timeout=60)
        client.get_status(timeout=60)
    except DaemonException as exception:
        reason = " ".join(str(exception).split())
        raise ContentError(f"the daemon did not start ({reason}); its log is {client.daemon_log_file}") from None
