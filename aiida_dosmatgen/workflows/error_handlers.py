"""Error messages of Quantum ESPRESSO, and what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiida import orm
from aiida_quantumespresso.calculations.pw import PwCalculation

from ..core.dft.recipe import ALMOST_SYMMETRIC, TRY_ANOTHER_SOLVER
from ..data.base import pk_of

_ERROR = re.compile(r"^ %{40,}\n(.*?)^ %{40,}$", re.MULTILINE | re.DOTALL)

_SIGNALS = re.compile(
    r"segmentation fault|illegal instruction|bus error|floating point exception|SIG(?:SEGV|ABRT|ILL|BUS|FPE)|\baborted\b",
    re.IGNORECASE,
)


def error_message(job: orm.CalcJobNode) -> str | None:
    """Return the error message of an executable in one line, or None."""
    found = _ERROR.findall(_output(job))
    return " ".join(found[0].split()) if found else None


def crashed(node: orm.ProcessNode) -> bool:
    """Tell whether the executable of a job, or of the last job of a work chain, ended by a signal of its own making."""
    job = last_job(node)
    if job is None or job.is_finished_ok:
        return False
    return _SIGNALS.search(_file(job, job.get_option("scheduler_stderr"))) is not None


def not_converged(node: orm.ProcessNode) -> bool:
    """Tell whether a job, or the last job of a work chain, ended because the self-consistent field did not converge."""
    job = last_job(node)
    return job is not None and job.exit_status == PwCalculation.exit_codes.ERROR_ELECTRONIC_CONVERGENCE_NOT_REACHED.status


def almost_symmetric(node: orm.ProcessNode) -> bool:
    """Tell whether a job, or the last job of a work chain, did not take for symmetries what pw.x had found."""
    return _said(node, ALMOST_SYMMETRIC)


def bands_left(node: orm.ProcessNode) -> bool:
    """Tell whether a job, or the last job of a work chain, ended because bands did not converge."""
    return _said(node, TRY_ANOTHER_SOLVER)


def _said(node: orm.ProcessNode, words: Iterable[str]) -> bool:
    job = last_job(node)
    message = "" if job is None or job.is_finished_ok else error_message(job) or ""
    return any(some in message for some in words)


def last_job(node: orm.ProcessNode | None) -> orm.CalcJobNode | None:
    """Return a job, or the last job of a work chain, or None."""
    if isinstance(node, orm.WorkChainNode):
        jobs = [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
        return max(jobs, key=pk_of, default=None)
    return node if isinstance(node, orm.CalcJobNode) else None


def _output(job: orm.CalcJobNode) -> str:
    """Return what the executable printed, empty if that was not retrieved."""
    return _file(job, job.get_option("output_filename"))


def _file(job: orm.CalcJobNode, name: str | None) -> str:
    if not name or "retrieved" not in job.outputs:
        return ""
    files = job.outputs.retrieved.base.repository
    return files.get_object_content(name, mode="rb").decode(errors="replace") if name in files.list_object_names() else ""
