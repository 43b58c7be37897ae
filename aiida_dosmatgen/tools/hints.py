"""What to know of processes that do not move, and of one that failed."""

from __future__ import annotations

from collections import defaultdict

from aiida import orm
from aiida.schedulers import JobState

from ..data.base import pk_of
from .processes import processes_below
from .progress import STAGES

_LINES = 3


def hints(process: orm.ProcessNode) -> list[str]:
    """Say why jobs wait in a queue, what to type for paused processes, and what the last failed job wrote to standard error."""
    below = processes_below(process)
    if process.is_terminated:
        failed = [one.pk for one in below if one.is_job and one.ended and not one.ended_well]
        return [] if process.is_finished_ok or not failed else _last_lines(max(failed))
    pks = [pk_of(process), *(one.pk for one in below if not one.ended)]
    lines: list[str] = []
    waiting: dict[str, list[orm.CalcJobNode]] = defaultdict(list)
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, tag="process")
    for node in query.order_by({"process": {"id": "asc"}}).all(flat=True):
        if node.paused:
            why = f" ({node.process_status})" if node.process_status else ""
            lines.append(f"{node.process_label}<{node.pk}> is paused{why}; to continue: verdi process play {node.pk}")
        elif isinstance(node, orm.CalcJobNode) and node.get_scheduler_state() is JobState.QUEUED:
            info = node.get_last_job_info()
            waiting[(info.annotation if info is not None else None) or "no reason given"].append(node)
    for reason, jobs in waiting.items():
        stages = sorted({STAGES.get(job.process_label or "", job.process_label or "job") for job in jobs})
        how_many = "1 job waits" if len(jobs) == 1 else f"{len(jobs)} jobs wait"
        lines.append(f"{how_many} in the queue ({', '.join(stages)}): {reason}")
    return lines


def _last_lines(pk: int) -> list[str]:
    """Return the last lines that a job or its scheduler wrote to standard error."""
    job = orm.load_node(pk)
    if "retrieved" not in job.outputs:
        return []
    files = job.outputs.retrieved.base.repository
    written: list[str] = []
    for name in sorted(files.list_object_names()):
        if name.endswith((".err", "stderr.txt")):
            text = files.get_object_content(name, "rb").decode(errors="replace")
            written += [line.rstrip() for line in text.splitlines() if line.strip()][-_LINES:]
    return [f"{job.process_label}<{pk}> wrote last:", *(f"  {line}" for line in written)] if written else []
