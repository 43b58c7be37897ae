"""Error messages of Quantum ESPRESSO, and the handlers for them."""

from __future__ import annotations

import re

from aiida import orm

from ..core.dft.settings import ALMOST_SYMMETRIC
from ..data.base import pk_of

_ERROR = re.compile(r"^ %{40,}\n(.*?)^ %{40,}$", re.MULTILINE | re.DOTALL)

_DONE = "JOB DONE"

MORE_BANDS = "more bands"
WITHOUT_SYMMETRY = "without symmetry"

_HANDLERS = {
    # more electrons than the bands hold, seen by the tetrahedron method
    "bad Fermi energy": MORE_BANDS,
    "too few bands": MORE_BANDS,
    ALMOST_SYMMETRIC: WITHOUT_SYMMETRY,
}


def error_message(job: orm.CalcJobNode) -> str | None:
    """Return the error message of an executable in one line, or None."""
    found = _ERROR.findall(_output(job))
    return " ".join(found[0].split()) if found else None


def printed_done(job: orm.CalcJobNode) -> bool:
    """Tell whether an executable printed that it is done."""
    return _DONE in _output(job)


def handler(node: orm.ProcessNode | None) -> str | None:
    """Return the handler for the failure of a job, or of the last job of a work chain, or None."""
    job = last_job(node)
    if job is None or not job.is_finished or job.is_finished_ok:
        return None
    message = error_message(job) or ""
    return next((handler for pattern, handler in _HANDLERS.items() if pattern in message), None)


def last_job(node: orm.ProcessNode | None) -> orm.CalcJobNode | None:
    """Return a job, or the last job of a work chain, or None."""
    if isinstance(node, orm.WorkChainNode):
        jobs = [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
        return max(jobs, key=pk_of, default=None)
    return node if isinstance(node, orm.CalcJobNode) else None


def _output(job: orm.CalcJobNode) -> str:
    """Return what the executable printed, empty if that was not retrieved."""
    name = job.get_option("output_filename")
    if not name or "retrieved" not in job.outputs:
        return ""
    files = job.outputs.retrieved.base.repository
    return files.get_object_content(name, mode="rb").decode(errors="replace") if name in files.list_object_names() else ""
