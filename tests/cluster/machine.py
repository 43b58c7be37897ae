"""A machine of its own for each program: it sees its own processes and its own ``/etc/passwd``, and leaves nothing behind.

Linux gives a program a mount namespace, in which an account exists that the machine does not have, and a process namespace,
which ends with it: what a killed program had started is gone when :meth:`Machine.kill` returns.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import random
import subprocess
from pathlib import Path

import psutil

# It ends with the process that began it, however that ends.
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"),
)

# The shell is process 1 of the namespace, which has to wait for orphans. /run is empty, so that no name service of the
# machine answers in place of the files, and sshd has its fixed place there for privilege separation.
_BOOT = """
mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd || exit 1
for name in passwd group shadow; do mount --bind "$0/$name" "/etc/$name" || exit 1; done
"$@" &
wait $!
"""


def why_not() -> str | None:
    """Say why there can be no such machines here, or None."""
    if os.geteuid() != 0:
        return "only root may make namespaces, and serve another account"
    try:
        done = subprocess.run([*_NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True)
    except FileNotFoundError:
        return "not installed: setpriv or unshare"
    return f"no namespaces can be made here: {done.stderr.strip()}" if done.returncode != 0 else None


class Account:
    """An account that exists on the machines of a folder only.

    :ivar id: number of the account and of its group; nobody on this computer has it.
    """

    def __init__(self, name: str, home: Path, folder: Path) -> None:
        taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
        taken |= {process.info["uids"].real for process in psutil.process_iter(["uids"]) if process.info["uids"]}
        self.name, self.folder = name, folder
        self.id = random.SystemRandom().choice([number for number in range(20_000, 60_000) if number not in taken])
        folder.mkdir(mode=0o755)
        # sshd takes an account without any password for a locked one
        entries = {"passwd": f"x:{self.id}:{self.id}::{home}:/bin/bash", "group": f"x:{self.id}:", "shadow": "*:19000::::::"}
        for file, entry in entries.items():
            there = Path("/etc", file)
            lines = [line for line in there.read_text().splitlines() if not line.startswith(f"{name}:")]
            (folder / file).touch(mode=there.stat().st_mode & 0o777)
            (folder / file).write_text("\n".join([*lines, f"{name}:{entry}"]) + "\n")

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return the account's processes whose command line has all words."""
        found = []
        for process in psutil.process_iter(["uids", "cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if process.info["uids"] and process.info["uids"].real == self.id and all(word in line for word in words):
                found.append(process)
        return found


class Machine:
    """A running program with all that it starts.

    :param command: of the program.
    :param account: the account that its machine has.
    :param log: file for what it prints.
    """

    def __init__(self, command: list[str], account: Account, log: Path, environment: dict[str, str]) -> None:
        with log.open("ab") as output:
            self._outside = subprocess.Popen(
                [*_NAMESPACES, "sh", "-c", _BOOT, str(account.folder), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit status of the program, or None as long as it runs."""
        return self._outside.poll()

    def kill(self) -> None:
        """``kill -9`` of the program and of all that runs on its machine."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for first in psutil.Process(self._outside.pid).children():
                first.kill()  # process 1: the kernel ends the others, and then it
        self._outside.wait()
