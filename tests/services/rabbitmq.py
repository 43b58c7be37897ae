"""A private RabbitMQ that can be killed and started again. Everything of it listens on 127.0.0.1 only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Debian's command of this name serves the system's own broker; the real one lies here.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_SECONDS = 1200.0  # of the start; a busy machine takes its time


def server_program() -> str | None:
    """Return the path of RabbitMQ's start script, or None."""
    return str(_SERVER) if _SERVER.exists() else shutil.which("rabbitmq-server")


def why_not() -> str | None:
    """Say why there can be no RabbitMQ here, or None."""
    missing = server_program() is None or shutil.which("epmd") is None
    return "RabbitMQ is not installed (Debian: rabbitmq-server)" if missing else None


def _free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class PrivateRabbitMQ:
    """A broker with its own port, name, cookie, folder and Erlang port mapper.

    :ivar port: of AMQP, for user ``guest`` with password ``guest``.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dosmatgen-rabbitmq-"))
        self.port, mapper_port, distribution_port = _free_ports(3)
        self._log = (self.folder / "output").open("ab")
        configuration = [
            f"listeners.tcp.local = 127.0.0.1:{self.port}",
            "disk_free_limit.absolute = 50MB",
            "log.file.level = warning",
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(configuration) + "\n")
        # AiiDA holds the message of a process until the process ends, which may take days
        (self.folder / "advanced.config").write_text("[{rabbit, [{consumer_timeout, undefined}]}].\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        self.environment = os.environ | {
            "HOME": str(self.folder),  # of the cookie
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"dosmatgen-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._mapper = self._run("epmd", "-address", "127.0.0.1", "-port", str(mapper_port))
        self._server: subprocess.Popen | None = None
        self.start()

    @property
    def configuration(self) -> dict:
        """How AiiDA connects to it."""
        return {
            "broker_protocol": "amqp",
            "broker_username": "guest",
            "broker_password": "guest",
            "broker_host": "127.0.0.1",
            "broker_port": self.port,
            "broker_virtual_host": "",
        }

    def start(self) -> None:
        """Start the broker, and wait until it answers."""
        self._server = self._run(str(server_program()))
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ did not start:\n{(self.folder / 'output').read_text()[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """``kill -9`` of the broker."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def close(self) -> None:
        """End everything and remove the folder."""
        self.kill()
        self._mapper.kill()
        self._mapper.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def _answers(self) -> bool:
        """Whether something speaks AMQP: whoever sends nonsense is told the version."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as probe:
                probe.sendall(b"NONSENSE")
                return probe.recv(8).startswith(b"AMQP")
        except OSError:
            return False
