"""Ends of processes that say nothing against what was computed: it is worth another try."""

from __future__ import annotations

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import Process

from .remedies import last_job, last_words, printed_done


def was_interrupted(node: orm.ProcessNode | None) -> bool:
    """Tell whether a process was stopped from outside: by AiiDA, or its last job by whatever it ran on.

    Such a job said neither that it is done, nor why not.
    """
    if broken_off(node) is not None:
        return True
    job = last_job(node)
    if job is None or not job.is_finished or job.is_finished_ok or last_words(job) is not None:
        return False
    return not printed_done(job)


def broken_off(node: orm.ProcessNode | None) -> orm.ProcessNode | None:
    """Return the process that AiiDA itself failed with, by an exception: this one, or the last one that it called; or None.

    So it is when the broker, the database or the computer goes away in the moment in which a process begins or ends.
    """
    if node is None or node.is_excepted:
        return node
    if not isinstance(node, orm.WorkChainNode) or node.is_finished_ok:
        return None
    return broken_off(max(node.called, key=lambda child: child.pk, default=None))


def outputs_were_lost(node: orm.WorkChainNode) -> bool:
    """Tell whether a work chain failed only because AiiDA lost sight of outputs that are there.

    If the daemon is killed after a base restart work chain has attached its outputs and before its end, the chain finds them
    attached when it goes on, does not register them again, and ends with exit status 11.
    """
    lost = Process.exit_codes.ERROR_MISSING_OUTPUT.status
    return any(
        child.exit_status == lost and bool(child.base.links.get_outgoing(link_type=LinkType.RETURN).first())
        for child in node.called_descendants
        if isinstance(child, orm.WorkChainNode)
    )
