"""Which tests run in one process and in which order, where there are several processes (``pytest -n``)."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/integration/test_campaign.py",
    "tests/cluster/test_campaign.py",
    "tests/cluster/test_allocation_limits.py",
    "tests/cluster/",
    "tests/integration/test_tutorials.py",
    "tests/integration/test_learn.py",
    "tests/services/",
    "tests/integration/test_candidates.py",
    "tests/benchmarks/test_quality.py",
)
"""Files and folders whose tests run in one process, as they share a daemon, a cluster or services, or are slow: what takes
longest comes first, but for a file before the folder that it lies in. Each other file is one part."""

APART = ("training/test_forcefield.py", "test_error_handlers.py", "training/test_training.py")
"""Ends of the paths of slow files whose tests, but for those of a class, share nothing and need not run in one process.
They come next."""

NEXT = ("tests/workflows/test_dos.py", "tests/workflows/", "tests/tools/", "tests/parsers/", "tests/engine/training/")
"""Files and folders that come after those, the slowest first: a process that began with one of them last would end alone."""


def place(path: str) -> int:
    """Return the place of a file in the order of all."""
    groups = [path.startswith(group) for group in TOGETHER]
    return [*groups, path.endswith(APART), *(path.startswith(group) for group in NEXT), True].index(True)


class Scheduling(LoadScopeScheduling):
    """Give each process the next part, in the order of the tests, when it begins with the last test of the part before."""

    def _split_scope(self, nodeid: str) -> str:
        path, name, *_ = nodeid.split("::")
        if path.endswith(APART):
            return f"{path}::{name}"
        return next((group for group in TOGETHER if path.startswith(group)), path)

    def _reschedule(self, node) -> None:
        if node.shutting_down:
            return
        if not self.workqueue:
            node.shutdown()
        elif self._pending_of(self.assigned_work[node]) <= 1:  # a process wants to know what comes next
            self._assign_work_unit(node)
