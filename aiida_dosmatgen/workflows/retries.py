"""What is repeated, and how often: one policy for all work chains.

A job is repeated if its exit code says that it was interrupted, and a process if AiiDA itself failed with it: its broker, its
database or a connection. What crashed, or refused its input, would do so again, and is not. :data:`LIMIT` interruptions in a
row without progress end the work chain.
"""

from __future__ import annotations

import re

from aiida import orm
from aiida.common import EntryPointError, LinkType
from aiida.engine import CalcJob, Process, ProcessState, WorkChain

from ..aiida_internals.one_worker import OneWorkerMixin
from ..data.base import pk_of
from .error_handlers import crashed, error_message
from .failures import CALLED_OFF, failure

LIMIT = 5
"""Interruptions in a row without progress after which a work chain gives up."""

_INTERRUPTED = (
    "ERROR_NO_RETRIEVED_FOLDER",
    "ERROR_SCHEDULER_OUT_OF_MEMORY",
    "ERROR_SCHEDULER_OUT_OF_WALLTIME",
    "ERROR_SCHEDULER_NODE_FAILURE",
    "ERROR_NO_RESULTS",  # of dosmatgen
    "ERROR_HASH_MISMATCH",
    "ERROR_OUTPUT_STDOUT_MISSING",  # of Quantum ESPRESSO
    "ERROR_OUTPUT_STDOUT_READ",
    "ERROR_OUTPUT_STDOUT_INCOMPLETE",
    "ERROR_OUTPUT_XML_MISSING",
    "ERROR_OUTPUT_FILES",
)
"""Exit codes that say nothing against the job itself: its process was killed, or its files were cut on their way."""

_AIIDA_FAILED = re.compile(
    r"^(?:aio_pika|aiormq|pamqp|kiwipy|plumpy|zmq|sqlalchemy|psycopg2?|sqlite3|asyncio|concurrent\.futures|paramiko|asyncssh|"
    r"aiida\.brokers|aiida\.common\.exceptions\.(?:ClosedStorage|LockedProfileError|LockingProfileError|ModificationNotAllowed)|"
    r"(?:Connection\w*|BrokenPipe|Timeout)Error\b|RuntimeError: (?:Event loop|cannot schedule new futures)|"
    r"ValueError: .*already has an (?:incoming|outgoing)|KeyError: \"duplicate label )",
    re.MULTILINE,
)
"""Exceptions of AiiDA's broker, database and connections, or of two workers that run one process; as nodes keep them."""


def interrupted_codes(process_class: type[Process]) -> frozenset[int]:
    """Return the exit statuses of a kind of job that say that it was interrupted."""
    return frozenset(process_class.exit_codes[name].status for name in _INTERRUPTED if name in process_class.exit_codes)


def aiida_failed(node: orm.ProcessNode) -> bool:
    """Tell whether AiiDA's surroundings ended a process, and not its inputs or its code.

    By an exception of theirs, or without an exit status, as where two workers have written down the end of a job together.
    """
    if node.is_finished and node.exit_status is None:
        return True
    return node.is_excepted and _AIIDA_FAILED.search(node.exception or "") is not None


def outputs_were_lost(node: orm.ProcessNode) -> bool:
    """Tell whether a work chain failed only because AiiDA lost sight of outputs that are there.

    If the daemon is killed after a base restart work chain has attached its outputs and before its end, the chain finds them
    attached when it continues, does not register them again, and ends with exit status 11. So does a chain whose job is run by
    two workers, if it looks before all links of the job are there.
    """
    lost = node.exit_status == Process.exit_codes.ERROR_MISSING_OUTPUT.status and isinstance(node, orm.WorkChainNode)
    return lost and bool(node.base.links.get_outgoing(link_type=LinkType.RETURN).first())


def is_abandoned(node: orm.ProcessNode) -> bool:
    """Tell whether a process has begun and not ended, and yet no worker can continue it, as its checkpoint is gone.

    Of two workers that run it, one failed with it and removed the checkpoint, and the other then noted that it was running. A
    process has its checkpoint before its parent knows it, and until its end is noted.
    """
    return node.process_state in (ProcessState.RUNNING, ProcessState.WAITING) and node.checkpoint is None


def ended_from_outside(node: orm.ProcessNode) -> bool:
    """Tell whether AiiDA failed with a process: for work chains of this package, which repeat interrupted jobs themselves.

    One that was called off (:meth:`.ResumingMixin.submitted`) counts, too: of two workers that run the work chain above, one
    may call off what the other waits for.
    """
    called_off = node.is_killed and node.process_status == CALLED_OFF
    return called_off or is_abandoned(node) or aiida_failed(node) or outputs_were_lost(node)


def was_interrupted(node: orm.ProcessNode) -> bool:
    """Tell whether a job was interrupted, or what a work chain of another package failed with last."""
    if ended_from_outside(node):
        return True
    if isinstance(node, orm.CalcJobNode):
        return node.exit_status in _codes_of(node) and error_message(node) is None and not crashed(node)
    for child in sorted(node.called, key=pk_of, reverse=True) if isinstance(node, orm.WorkChainNode) else []:
        if child.is_terminated and not child.is_finished_ok:
            return was_interrupted(child)
    return False


def _codes_of(job: orm.CalcJobNode) -> frozenset[int]:
    try:
        return interrupted_codes(job.process_class)
    except (EntryPointError, ValueError):  # of a plugin that is not installed any more
        return interrupted_codes(CalcJob)


class RetryMixin(OneWorkerMixin, WorkChain):
    """Counts the interruptions of each child by its name; one worker runs the work chain at a time."""

    def repeat(self, name: str, node: orm.ProcessNode, further: bool = False) -> bool:
        """Say whether a child that was interrupted is repeated, and count.

        :param name: of the child.
        :param further: whether it got further than the one before.
        """
        counts = dict(self.ctx.get("interruptions", {}))
        counts[name] = 1 if further else counts.get(name, 0) + 1
        self.ctx.interruptions = counts
        again = counts[name] < LIMIT
        how = "running it again" if again else f"{counts[name]} times in a row: giving up"
        self.report(f"{failure(node)}; it was interrupted, {how}")
        return again

    def comes_again(self, name: str, node: orm.ProcessNode) -> bool:
        """Say whether a child is waited for once more, because it continues, or run again, because AiiDA failed with it.

        A child continues although its end was announced, if two workers ran it, as happens after a broker was killed, and one
        of them failed with it; unless no worker can continue it.
        """
        goes_on = not node.is_terminated and not is_abandoned(node)
        return goes_on or (ended_from_outside(node) and self.repeat(name, node))

    def interruptions(self, name: str) -> int:
        """Return how often a child was interrupted in a row."""
        return int(self.ctx.get("interruptions", {}).get(name, 0))

    def progressed(self, name: str) -> None:
        """Forget the interruptions of a child that ended well."""
        self.ctx.interruptions = {key: count for key, count in self.ctx.get("interruptions", {}).items() if key != name}
