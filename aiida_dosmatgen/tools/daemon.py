"""Whether the daemon runs and its workers respond."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from aiida import orm
from aiida.brokers import ZeromqBroker
from aiida.common import CalcJobState
from aiida.engine import get_daemon_client
from aiida.manage import get_manager

from ..aiida_internals.services import DaemonException, DaemonNotRunningException, DaemonStalePidException, broker_address

PACKAGE = Path(__file__).parents[1]

_REVIVE = "verdi daemon stop, verdi process repair, verdi daemon start"

PATIENCE = 600.0
"""Seconds after which a job that no worker looks at is forgotten; AiiDA's own pauses after failed connections are shorter."""


def is_running(timeout: int = 10) -> bool:
    """Ask the daemon itself: the file with its pid, which ``is_daemon_running`` looks for, outlives a daemon that was killed.

    :param timeout: seconds to wait for its answer.
    :raises DaemonException: if it runs, but does not answer.
    """
    try:
        get_daemon_client().get_status(timeout=timeout)
    except (DaemonNotRunningException, DaemonStalePidException):
        return False
    return True


def is_outdated(folder: Path = PACKAGE) -> bool:
    """Say whether code has changed since the running daemon was started: its workers continue with that of before.

    :param folder: of the code.
    """
    written = Path(get_daemon_client().circus_pid_file)  # when it was started
    return written.exists() and written.stat().st_mtime < max(path.stat().st_mtime for path in folder.rglob("*.py"))


def has_lost_its_tasks() -> bool:
    """Say whether tasks wait at a ZeroMQ broker that no worker listens to.

    A worker that starts before its broker takes the address of the broker before, if that one was killed and left it behind.
    """
    broker = get_manager().get_broker()
    if not isinstance(broker, ZeromqBroker) or not broker.check_service_reachable():
        return False
    status = broker.probe_service_status()
    return bool(status.get("pending_tasks")) and not status.get("task_subscribers")


def forgotten(patience: float = PATIENCE) -> list[int]:
    """Return the pks of jobs in the hands of a scheduler that no worker asks for any more.

    A worker does so again and again until a job ends. The tasks of a worker that was killed go to the next one, but not always:
    a broker may still assign them to the old one.

    :param patience: seconds since the last question, besides three of the pauses between two that the computer wants.
    """
    query = orm.QueryBuilder().append(
        orm.CalcJobNode,
        filters={"attributes.state": CalcJobState.WITHSCHEDULER.value, "attributes.paused": {"!==": True}},
        tag="job",
        project=["id", "mtime", "attributes.scheduler_lastchecktime"],
    )
    query.append(orm.Computer, with_node="job", project="*")
    found = []
    for pk, changed, asked, computer in query.all():
        last = datetime.fromisoformat(asked) if asked else changed
        if (datetime.now(timezone.utc) - last).total_seconds() > patience + 3 * computer.get_minimum_job_poll_interval():
            found.append(pk)
    return sorted(found)


def idle(patience: float = PATIENCE) -> list[int]:
    """Return the pks of work chains that nothing moves any more: none of what they called is active, nor are they.

    A worker that cannot write to the database in time drops the work chain at hand, which stays as it was.

    :param patience: seconds since their last change.
    """
    active = {"attributes.process_state": {"in": ["created", "running", "waiting"]}}
    since = datetime.now(timezone.utc) - timedelta(seconds=patience)
    query = orm.QueryBuilder().append(
        orm.WorkChainNode,
        filters=active | {
            "attributes.paused": {"!==": True}, "attributes": {"has_key": orm.ProcessNode.CHECKPOINT_KEY}, "mtime": {"<": since}
        },
        project="id",
    )  # fmt: skip
    found = set(query.all(flat=True))
    if not found:
        return []
    query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"id": {"in": list(found)}}, tag="chain", project="id")
    query.append(orm.ProcessNode, filters=active, with_incoming="chain")
    return sorted(found - set(query.all(flat=True)))


def abandoned(patience: float = PATIENCE) -> list[int]:
    """Return the pks of work chains that no worker can continue, as they have not ended and their checkpoint is gone.

    Those that a work chain called are left out: it repeats them.

    :param patience: seconds since their last change.
    """
    since = datetime.now(timezone.utc) - timedelta(seconds=patience)
    query = orm.QueryBuilder().append(
        orm.WorkChainNode,
        filters={
            "attributes.process_state": {"in": ["running", "waiting"]},
            "attributes": {"!has_key": orm.ProcessNode.CHECKPOINT_KEY},
            "mtime": {"<": since},
        },
        project="*",
    )
    return sorted(node.pk for node in query.all(flat=True) if node.caller is None)


def forget_a_killed_broker() -> None:
    """Remove the address that a killed ZeroMQ broker has left behind, so that new workers wait for the new one."""
    broker = get_manager().get_broker()
    if isinstance(broker, ZeromqBroker) and not broker.check_service_reachable():
        profile = get_manager().get_profile()
        assert profile is not None  # whose broker this is
        broker_address(profile).unlink(missing_ok=True)


def without_broker() -> str | None:
    """Say that the profile has no broker, so that nothing can be submitted, and what to type; None if it has one."""
    profile = get_manager().get_profile()
    if profile is None or profile.process_control_backend is not None:
        return None
    how = f"verdi profile configure-broker core.zeromq -n -f {profile.name}"
    return f"The profile {profile.name} has no broker, so that nothing can be submitted; add one: {how}"


def problem() -> str | None:
    """Say why nothing will happen to what was submitted, and what to type; None if the daemon is at work."""
    if missing := without_broker():
        return missing
    try:
        if not is_running():
            return "The daemon is not running; start it: verdi daemon start"
    except DaemonException as exception:
        return f"The daemon does not answer ({' '.join(str(exception).split())}); restart it: verdi daemon restart"
    if has_lost_its_tasks():
        return "The daemon's workers do not hear of their tasks; if this is still so in a minute: verdi daemon restart"
    if jobs := forgotten():
        others = f" (nor for {len(jobs) - 1} more)" if jobs[1:] else ""
        return (
            f"No worker has asked for job {jobs[0]}{others} for minutes: its task was lost with a worker; if this is still so "
            f"in a minute: {_REVIVE}"
        )
    if chains := idle():
        others = f" (nor on {len(chains) - 1} more)" if chains[1:] else ""
        return (
            f"No worker has worked on {chains[0]}{others} for minutes, and it waits for nothing; if this is still so in a "
            f"minute: {_REVIVE}"
        )
    if lost := abandoned():
        others = f" (nor {len(lost) - 1} more)" if lost[1:] else ""
        return (
            f"No worker can continue {lost[0]}{others}: its checkpoint is gone; submit it again, with caching, so that "
            "finished jobs are taken from the database"
        )
    return None
