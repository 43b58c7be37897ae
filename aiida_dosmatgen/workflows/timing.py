"""The speed of the jobs of a work chain, read from their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida.common import LinkType
from aiida.orm import CalcJobNode, WorkChainNode


def rate_of(label: WorkChainNode, workers: int) -> dict[str, Any]:
    """Return the rate of a work chain that labels crystals: :func:`computed_in_this_run` of what it called."""
    calls = label.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
    jobs: dict[int, list[CalcJobNode]] = {}
    for call in calls:
        row = int(call.link_label.removeprefix("dos_"))
        jobs.setdefault(row, []).extend(job for job in call.node.called_descendants if isinstance(job, CalcJobNode))
    return computed_in_this_run(jobs, workers)


def computed_in_this_run(jobs: Mapping[int, Sequence[CalcJobNode]], workers: int) -> dict[str, Any]:
    """Return the rate of one run; the keys that ``dosmatgen label`` writes, too, have its meanings.

    The wall time goes from the first submission to the end of the last job, so that pauses of the daemon count. Jobs from
    AiiDA's cache run no program: they are counted apart, and a crystal is ``computed`` if one of its jobs ran.

    :param jobs: the terminated jobs of each crystal.
    :param workers: how many crystals are computed at a time.
    :return: ``structures`` (computed), ``workers``, ``jobs``, ``jobs_from_cache``, ``wall_seconds``; if anything ran,
        ``structures_per_hour``, and for each structure ``job_seconds`` (from submission to parsed results) and
        ``program_seconds`` (as the executables report; jobs without a report are left out of both).
    """
    every = [job for ones in jobs.values() for job in ones]
    ran = {job.pk for job in every if not job.base.caching.is_created_from_cache}
    structures = sum(any(job.pk in ran for job in ones) for ones in jobs.values())
    wall = (max(map(_end, every)) - min(job.ctime for job in every)).total_seconds() if every else 0.0
    rate = {
        "structures": structures,
        "workers": workers,
        "jobs": len(every),
        "jobs_from_cache": len(every) - len(ran),
        "wall_seconds": round(wall, 1),
    }
    if not structures:
        return rate
    rate["structures_per_hour"] = round(3600 * structures / wall, 1)
    timed = [(job, seconds) for job in every if job.pk in ran and (seconds := _program_seconds(job)) is not None]
    if timed:
        rate["job_seconds_per_structure"] = round(
            sum((_end(job) - job.ctime).total_seconds() for job, _ in timed) / structures, 2
        )
        rate["program_seconds_per_structure"] = round(sum(seconds for _, seconds in timed) / structures, 2)
    return rate


def _end(job: CalcJobNode) -> Any:
    """When the last output was stored: unlike the job's own ``mtime``, nothing that is noted on the job later moves it."""
    outputs = job.base.links.get_outgoing().all_nodes()
    return max((node.ctime for node in outputs), default=job.mtime)


def _program_seconds(job: CalcJobNode) -> float | None:
    """Wall time by the executable's own clock, as the parsers of aiida-quantumespresso keep it."""
    if "output_parameters" not in job.outputs:
        return None
    return job.outputs.output_parameters.get_dict().get("wall_time_seconds")
