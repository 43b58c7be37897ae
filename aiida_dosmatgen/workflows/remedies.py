"""What executables of Quantum ESPRESSO say when they stop, and what is known to help."""

from __future__ import annotations

import re

from aiida import orm

from ..core.dft import ALMOST_SYMMETRIC
from ..data.base import pk_of

_ERROR = re.compile(r"^ %{40,}\n(.*?)^ %{40,}$", re.MULTILINE | re.DOTALL)

_DONE = "JOB DONE"

MORE_BANDS = "more bands"
WITHOUT_SYMMETRY = "without symmetry"

_REMEDIES = {
    # more electrons than the bands hold, seen by the tetrahedron method
    "bad Fermi energy": MORE_BANDS,
    "too few bands": MORE_BANDS,
    ALMOST_SYMMETRIC: WITHOUT_SYMMETRY,
}


def last_words(job: orm.CalcJobNode) -> str | None:
    """Return the error that an executable printed before it stopped, in one line, or None."""
    found = _ERROR.findall(_output(job))
    return " ".join(found[0].split()) if found else None


def printed_done(job: orm.CalcJobNode) -> bool:
    """Tell whether an executable said at its end that all went well."""
    return _DONE in _output(job)


def remedy(node: orm.ProcessNode | None) -> str | None:
    """Return what helps against the failure of a job, or of the last job of a work chain, or None."""
    job = last_job(node)
    if job is None or not job.is_finished or job.is_finished_ok:
        return None
    words = last_words(job) or ""
    return next((cure for sign, cure in _REMEDIES.items() if sign in words), None)


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
