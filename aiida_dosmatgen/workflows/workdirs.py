"""The work directories of Quantum ESPRESSO's jobs: which are emptied, and which may have been."""

from __future__ import annotations

from collections.abc import Callable

from aiida import orm
from aiida.common import NotExistent
from aiida_quantumespresso.workflows.pdos import clean_calcjob_remote


def from_cache(node: orm.ProcessNode) -> bool:
    """Tell whether a job, or a job of a work chain, was taken from AiiDA's cache: its work directory is another's."""
    return any(job.base.caching.is_created_from_cache for job in _jobs(node))


def empty_workdirs(node: orm.WorkChainNode, report: Callable[[str], object]) -> None:
    """Empty the work directories of the jobs that a work chain has called, but for those of others.

    :param report: takes what is to be said of it.
    """
    cleaned = []
    for job in _jobs(node):
        if job.base.caching.is_created_from_cache:
            continue
        try:
            if clean_calcjob_remote(job):
                cleaned.append(job.pk)
        except (NotExistent, OSError) as exception:  # stopped before it had a work directory, or that is out of reach
            report(f"not all work directories were emptied: {exception}")
    if cleaned:
        report(f"emptied the work directories of {' '.join(map(str, cleaned))}")


def _jobs(node: orm.ProcessNode) -> list[orm.CalcJobNode]:
    if isinstance(node, orm.CalcJobNode):
        return [node]
    return [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
