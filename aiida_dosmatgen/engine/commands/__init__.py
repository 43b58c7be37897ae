"""One module for each kind of job, with ``run(job, folder) -> Results`` and ``restart_files(job)``; here what they share.

``restart_files`` names the files and folders, relative to the job's folder, that hold finished parts of a run until it is
complete. ``run`` reads its inputs from ``folder`` and writes its output there, atomically. The executable writes the
returned results to ``results.json`` last.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...core.errors import ContentError
from ...core.job import Job, Results, Runtime, sha256_of
from ..effort import cpu_seconds

if TYPE_CHECKING:
    import torch


def prepare(runtime: Runtime) -> "torch.device":
    """Set the number of threads, and return the device.

    :raises ContentError: for a device that is not there.
    """
    import torch

    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exception:
        reason = str(exception).splitlines()[0]
        raise ContentError(f"runtime.device: {runtime.device!r} cannot be used here ({reason}); use 'cpu' or 'auto'") from None
    return device


class Clock:
    """The time that a job has used, and whether its budget is spent.

    :param max_seconds: the budget; None has no end.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.start = time.monotonic()
        self._cpu_start = cpu_seconds()
        self.max_seconds = max_seconds

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def cpu_seconds(self) -> float:
        """Seconds since the start on all cores together."""
        return cpu_seconds() - self._cpu_start

    def allows(self, seconds: float = 0.0) -> bool:
        """Say whether something that takes so many seconds still fits."""
        return self.max_seconds is None or self.seconds + seconds < self.max_seconds


class Progress:
    """A line on stderr that says how far a job is: rewritten on a terminal, at most one each ten seconds in a log.

    :param what: what is counted, e.g. ``candidates``.
    :param of: how many there are.
    """

    def __init__(self, what: str, of: int) -> None:
        self.what, self.of = what, of
        self.start = self.last = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def __call__(self, done: int, note: str = "") -> None:
        """Show that ``done`` are finished."""
        now = time.monotonic()
        finished = done >= self.of
        if not finished and now - self.last < (0.2 if self.terminal else 10.0):
            return
        self.last = now
        rate = f", {(now - self.start) / done:.2g} s each" if done else ""
        line = f"{done}/{self.of} {self.what}{rate}{', ' + note if note else ''}"
        end = "\n" if finished or not self.terminal else ""
        print(f"\r\033[K{line}" if self.terminal else line, end=end, file=sys.stderr, flush=True)


def results(
    job: Job,
    folder: Path,
    clock: Clock,
    *,
    output: str,
    done: int,
    of: int,
    device: Any = "cpu",
    finished: bool | None = None,
    details: dict | None = None,
) -> Results:
    """Describe what a job did; its output file must be complete on disk.

    :param finished: defaults to ``done == of``.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "none"
    return Results(
        kind=job.kind,  # type: ignore[attr-defined]
        finished=done == of if finished is None else finished,
        done=done,
        of=of,
        output=output,
        output_sha256=sha256_of(folder / output),
        seconds=round(clock.seconds, 3),
        cpu_seconds=round(clock.cpu_seconds, 3),
        engine_version=__version__,
        torch_version=torch_version,
        device=str(device),
        details=details or {},
    )
