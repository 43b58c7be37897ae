"""That one worker of the daemon runs a process at a time.

A broker that was killed, or that has lost the connection to a worker, hands out the tasks of that worker once more, and the
worker continues its processes all the same. AiiDA lets the second worker run them, too: each then calls what the other has
called, and the one that ends last takes up what has ended. How a process is recreated for a worker is extended here: while
another worker has it, what this one gets waits; if the other is gone before the end, it continues from the last checkpoint.

Workers on one machine see each other's locks, and those on several if the folder of AiiDA's configuration is on a file system
with locks.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import IO, Any

from aiida import orm
from aiida.common import AIIDA_LOGGER
from aiida.engine import Process
from aiida.manage import get_manager

PAUSE = 2.0
"""Seconds between two looks at whether another worker still has a process."""

_LOGGER = AIIDA_LOGGER.getChild("dosmatgen.one_worker")


class Locks:
    """Locks of processes, which the operating system takes back from a worker that is gone.

    :param path: of a file whose byte ``pk`` stands for the process ``pk``; nothing is written to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: set[int] = set()
        self._file: IO[bytes] | None = None
        self._owner = 0

    def take(self, pk: int) -> bool:
        """Take the lock of a process, and say whether it was free."""
        if self._owner != os.getpid():  # a fork shares the file and not the locks
            self._owner, self._file = os.getpid(), self._path.open("ab")
            self._held.clear()
        if pk in self._held:
            return False
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, pk)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as exception:  # of a file system without locks
            _LOGGER.warning("%s cannot be locked (%s): two workers may run process %d", self._path, exception, pk)
        self._held.add(pk)
        return True

    def release(self, pk: int) -> None:
        """Give the lock of a process back."""
        if pk in self._held and self._owner == os.getpid() and self._file is not None:
            self._held.discard(pk)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, pk)


_LOCKS: dict[str, Locks] = {}


def locks() -> Locks:
    """Return the locks of the processes of the loaded profile."""
    profile = get_manager().get_profile()
    assert profile is not None  # whose processes they are
    if profile.uuid not in _LOCKS:
        pid_file = Path(get_manager().get_config().filepaths(profile)["daemon"]["pid"])
        _LOCKS[profile.uuid] = Locks(pid_file.with_suffix(".processes"))
    return _LOCKS[profile.uuid]


class OneWorkerMixin(Process):
    """A process that one worker runs at a time."""

    @classmethod
    def recreate_from(cls, saved_state: Any, load_context: Any = None) -> Any:
        """Return the process of a checkpoint, or what waits for it to be free."""
        pk = saved_state["_pid"]
        if not locks().take(pk):
            return _Waiting(pk, load_context)
        try:
            return super().recreate_from(saved_state, load_context)
        except BaseException:
            locks().release(pk)
            raise

    async def step_until_terminated(self) -> None:
        """Run until the end; a worker that drops the process on the way lets go of it."""
        try:
            await super().step_until_terminated()
        finally:
            if isinstance(self.pid, int):  # not of a process that is not stored
                locks().release(self.pid)


class _Waiting:
    """What a worker runs in the place of a process that another worker has."""

    def __init__(self, pk: int, load_context: Any) -> None:
        self.pid = pk
        self._load_context = load_context
        self._future: asyncio.Future = asyncio.Future()

    async def step_until_terminated(self) -> None:
        """Wait, and continue the process if it was left without an end."""
        node = orm.load_node(self.pid)
        _LOGGER.warning("another worker runs process %d; this one waits for it", self.pid)
        while not node.is_terminated:
            if locks().take(self.pid):
                locks().release(self.pid)
                if not node.is_terminated:
                    process: Any = get_manager().get_persister().load_checkpoint(self.pid).unbundle(self._load_context)
                    await process.step_until_terminated()
                    self._future = process.future()
                    return
            await asyncio.sleep(PAUSE)
        self._future.set_result({})

    def future(self) -> asyncio.Future:
        """Return what holds the outputs, or none if another worker has attached them."""
        return self._future
