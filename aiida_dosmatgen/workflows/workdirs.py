"""The work directories of jobs: whether they are emptied, and of Quantum ESPRESSO which, and which may have been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiida import orm
from aiida.common import NotExistent
from aiida_quantumespresso.workflows.pdos import clean_calcjob_remote


def clean_workdir_port(default: bool, note: str = "") -> dict[str, Any]:
    """Return the arguments of ``spec.input`` for whether the work directories are emptied at the end.

    :param note: what the help says besides.
    """
    return {
        "valid_type": orm.Bool,
        "serializer": orm.to_aiida_type,
        "default": lambda: orm.Bool(default),
        "help": "; ".join(filter(None, ["Whether the work directories of the jobs are emptied at the end", note])) + ".",
    }


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
