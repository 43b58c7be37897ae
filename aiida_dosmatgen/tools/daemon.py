"""Whether the daemon is really there."""

from aiida.engine.daemon.client import (
    DaemonException,
    DaemonNotRunningException,
    DaemonStalePidException,
    get_daemon_client,
)


def is_running(timeout: float = 10) -> bool:
    """Ask the daemon itself: the file with its pid, which ``is_daemon_running`` looks for, outlives a daemon that was killed.

    :param timeout: seconds to wait for its answer.
    :raises DaemonException: if it runs, but does not answer.
    """
    try:
        get_daemon_client().get_status(timeout=timeout)
    except (DaemonNotRunningException, DaemonStalePidException):
        return False
    return True


def problem() -> str | None:
    """Say why nothing will happen to what was submitted, and what to type; None if the daemon runs."""
    try:
        return None if is_running() else "The daemon is not running; start it: verdi daemon start"
    except DaemonException as exception:
        return f"The daemon does not answer ({' '.join(str(exception).split())}); restart it: verdi daemon restart"
