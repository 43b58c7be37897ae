"""The folder that a job runs in: an exclusive lock, cached results, and the restart files of an interrupted run.

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
def exclusive_lock(folder: Path, patience: float | None = None, interval: float = 0.5) -> Iterator[float]:
    """Lock a folder against other runs; if another run has the lock, wait for its end.

    The operating system releases the lock when the process ends, for whatever reason. On a file system without locks the run
    continues without one.

    :param patience: seconds to wait at most; None waits without end.
    :param interval: seconds between two tries.
    :return: the seconds that were waited.
    :raises ContentError: if the other run does not end in time.
    """
    start = time.monotonic()
    while (handle := _try_lock(folder / LOCK)) is None:
        waited = time.monotonic() - start
        if patience is not None and waited > patience:
            raise ContentError(f"another run of dosmatgen works in {folder}; wait for its end, or use another folder")
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
    except FileNotFoundError:  # its owner has just removed it: the lock here is on a deleted file
        there = None
    except OSError as exception:
        if exception.errno not in _LOCKED:
            print(f"dosmatgen: {path.parent} cannot be locked ({exception}); continuing without a lock", file=sys.stderr)
            return handle
        there = None
    if there != os.fstat(handle.fileno()).st_ino:
        handle.close()
        return None
    return handle


def fingerprint(job: Job, folder: Path) -> str:
    """Return a hash of all that a job's results depend on: the job but for how it runs, its files, the version.

    Files that do not exist count as missing; the job itself reports them. Of a folder of shards the manifest counts, which
    lists their hashes.
    """
    files = {name: _hash(folder / name) for name in job.input_files()}
    content = {"job": job.model_dump(mode="json", exclude={"runtime"}), "files": files, "version": __version__}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str | None:
    if path.is_dir():
        from ..core.labelled.shards import MANIFEST  # takes a second to import

        path = path / MANIFEST
    return sha256_of(path) if path.is_file() else None


def cached_results(path: Path, job_sha256: str) -> Results | None:
    """Return the results of an earlier run of the same job, or None.

    :param path: of ``results.json``; the output that it names must lie beside it, unchanged.
    """
    try:
        results = Results.load(path.read_text(encoding="utf-8"))
        whole = sha256_of(path.parent / results.output) == results.output_sha256
    except (ContentError, OSError, UnicodeDecodeError):
        return None
    return results if whole and results.finished and results.job_sha256 == job_sha256 else None


def restore(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy the restart files of an interrupted run, unless the folder has them already; what is missing is computed again.

    :param source: folder of that run.
    :param names: the restart files and folders of this kind of job.
    """
    for name in names:
        there, here = source / name, folder / name
        if here.exists() or not there.exists():
            continue
        partial = folder / f".{name}.copied"
        try:
            if there.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(there, partial)
            else:
                shutil.copyfile(there, partial)
            partial.replace(here)
        except OSError as exception:
            print(f"dosmatgen: the restart files in {source} cannot be used ({exception}); computing again", file=sys.stderr)
