"""Commands run on a computer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida.common import AiidaException
from aiida.transports import AsyncTransport

from ..core.errors import ContentError

if TYPE_CHECKING:
    from aiida.orm import Computer


class Shell:
    """Runs commands on a computer.

    Asynchronous transports are driven by an event loop of its own: AiiDA's would want a broker, thus a running daemon.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.loop = asyncio.new_event_loop()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the transport."""
        if isinstance(self.transport, AsyncTransport):
            return self.loop.run_until_complete(getattr(self.transport, f"{method}_async")(*arguments))
        return getattr(self.transport, method)(*arguments)

    def run(self, command: str) -> tuple[int, str]:
        """Return the exit status of a command and what it printed last."""
        status, stdout, stderr = self.call("exec_command_wait", command)
        lines = (stdout.strip() or stderr.strip()).splitlines()
        return status, lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the connection, if there is one."""
        with contextlib.suppress(OSError, AiidaException):
            self.call("close")
        self.loop.close()


@contextlib.contextmanager
def connection(computer: Computer) -> Iterator[Shell]:
    """Connect, and see that the work directory can be written to."""
    hint = f"try ssh {computer.hostname} by hand: it must ask nothing" if "ssh" in computer.transport_type else "look at it"
    shell = Shell(computer.get_transport())
    try:
        try:
            shell.call("open")
        except (OSError, ValueError, AiidaException) as exception:
            reason = " ".join(str(exception).split())
            raise ContentError(f"no connection to {computer.label}: {reason}; {hint}") from None
        work_dir = computer.get_workdir().format(username=shell.call("whoami"))
        status, message = shell.run(f"mkdir -p '{work_dir}' && test -w '{work_dir}'")
        if status != 0:
            raise ContentError(f"{work_dir} on {computer.label} cannot be written to{': ' + message if message else ''}")
        yield shell
    finally:
        shell.close()
