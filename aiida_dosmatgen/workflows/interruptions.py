"""Interruptions: failures that come from outside of a calculation, so that it can be repeated."""

from __future__ import annotations

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import Process

from ..data.base import pk_of
from .error_handlers import error_message, last_job, printed_done


def was_interrupted(node: orm.ProcessNode | None) -> bool:
    """Tell whether a process was stopped from outside: by AiiDA, or its last job by the machine or its scheduler.

    Such a job printed neither that it is done nor an error message.
    """
    if node is not None and (excepted_process(node) is not None or outputs_were_lost(node)):
        return True
    job = last_job(node)
    if job is None or not job.is_finished or job.is_finished_ok or error_message(job) is not None:
        return False
    return not printed_done(job)


def excepted_process(node: orm.ProcessNode) -> orm.ProcessNode | None:
    """Return the process that ended with an exception of AiiDA: this one, or one that made it fail; or None.

    This happens if the broker, the database or the computer goes away while a process begins or ends.
    Of the jobs of a work chain only the last counts: those before it were repeated.
    """
    if node.is_excepted:
        return node
    if not isinstance(node, orm.WorkChainNode) or node.is_finished_ok:
        return None
    called = sorted(node.called, key=pk_of, reverse=True)
    jobs = [child for child in called if isinstance(child, orm.CalcJobNode)][:1]
    chains = [child for child in called if isinstance(child, orm.WorkChainNode)]
    return next((found for child in (*jobs, *chains) if (found := excepted_process(child)) is not None), None)


def outputs_were_lost(node: orm.ProcessNode) -> bool:
    """Tell whether a work chain, or one that it called, failed only because AiiDA lost sight of outputs that are there.

    If the daemon is killed after a base restart work chain has attached its outputs and before its end, the chain finds them
    attached when it continues, does not register them again, and ends with exit status 11.
    """
    lost = Process.exit_codes.ERROR_MISSING_OUTPUT.status
    return any(
        child.exit_status == lost and bool(child.base.links.get_outgoing(link_type=LinkType.RETURN).first())
        for child in (node, *node.called_descendants)
        if isinstance(child, orm.WorkChainNode)
    )
