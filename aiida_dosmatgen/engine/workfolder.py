"""The folder that a job runs in: one run at a time, nothing computed twice, and what an interrupted run left taken over.

A scheduler may start a job again after its node died, and AiiDA may submit one job twice into the same folder at the same time
(a worker of its daemon that is killed after the submission, and before it could write that down).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from .. import __version__
from ..core.errors import ContentError
from ..core.job import Job, Results, sha256_of

LOCK = ".dosmatgen.lock"

_LOCKED = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def alone_in(folder: Path, patience: float | None = None, interval: float = 0.5) -> Iterator[float]:
    """Keep other runs out of a folder; if there is one, wait for its end first.

    The lock is one of the operating system's: it is gone when the process is, however that dies. On a file system without
    locks the run goes on without.

    :param patience: seconds to wait at most; None waits without end.
    :param interval: seconds between two tries.
    :return: the seconds that were waited.
    :raises ContentError: if the other run does not end in time.
    """
    start = time.monotonic()
    while (handle := _try_lock(folder / LOCK)) is None:
        waited = time.monotonic() - start
        if patience is not None and waited > patience:
            raise ContentError(f"another run of dosmatgen works in {folder}; let it end, or give this one a folder of its own")
        if waited < interval:
            print(f"dosmatgen: another run works in {folder}; waiting for its end", file=sys.stderr, flush=True)
        time.sleep(interval)  # the system's own waiting for a lock has no end
    try:
        yield time.monotonic() - start
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        handle.close()


def _try_lock(path: Path) -> IO | None:
    """Return the locked file, or None if another process holds it."""
    handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held by the caller
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = os.stat(path).st_ino
    except FileNotFoundError:  # its owner has just removed it: what is locked here is nobody's
        there = None
    except OSError as exception:
        if exception.errno not in _LOCKED:
            print(f"dosmatgen: {path.parent} cannot be locked ({exception}); going on without", file=sys.stderr)
            return handle
        there = None
    if there != os.fstat(handle.fileno()).st_ino:
        handle.close()
        return None
    return handle


def fingerprint(job: Job, folder: Path) -> str:
    """Return a hash of all that a job's results depend on: the job but for how it runs, its files, the version.

    Files that do not exist count as such: the job itself says what is wrong with them.
    """
    files = {name: sha256_of(folder / name) if (folder / name).is_file() else None for name in job.input_files()}
    content = {"job": job.model_dump(mode="json", exclude={"runtime"}), "files": files, "version": __version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def answered(path: Path, job_sha256: str) -> Results | None:
    """Return the results of an earlier run that answer a job, or None.

    :param path: of ``results.json``; the output that it names must lie beside it, unchanged.
    """
    try:
        results = Results.load(path.read_text(encoding="utf-8"))
        whole = sha256_of(path.parent / results.output) == results.output_sha256
    except (ContentError, OSError, UnicodeDecodeError):
        return None
    return results if whole and results.finished and results.job_sha256 == job_sha256 else None


def take_over(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy what an interrupted run kept, unless the folder has it already; what is not there is computed again.

    :param source: folder of that run.
    :param names: files and folders in which the kind of job keeps what it has done.
    """
    for name in names:
        kept, here = source / name, folder / name
        if here.exists() or not kept.exists():
            continue
        partial = folder / f".{name}.copied"
        try:
            if kept.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(kept, partial)
            else:
                shutil.copyfile(kept, partial)
            partial.replace(here)
        except OSError as exception:
            print(f"dosmatgen: what {source} kept cannot be used ({exception}); computing it again", file=sys.stderr)
