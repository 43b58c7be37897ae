"""Slurm's accounting on the loopback cluster: MariaDB by a socket, and slurmdbd. It can be switched on and off."""

from __future__ import annotations

import shutil
import socket
import subprocess

from .loopback import LoopbackCluster, free_port, which

NEEDED = ("slurmdbd", "mariadbd", "mariadb-install-db")


def why_not() -> str | None:
    """Say why there can be no accounting here, or None."""
    missing = [name for name in NEEDED if shutil.which(which(name)) is None]
    return f"not installed: {' '.join(missing)}" if missing else None


class Accounting:
    """A database of jobs for a running cluster, which is restarted with it."""

    def __init__(self, cluster: LoopbackCluster) -> None:
        self.cluster = cluster
        self.folder = cluster.folder / "accounting"
        self.port = free_port()
        self.database = self.folder / "mariadb"
        self.socket = self.folder / "socket"
        self._without = cluster.slurm_configuration.read_text()

    def start(self, **further: str) -> None:
        """Start the database and slurmdbd, and let the cluster use them.

        :param further: settings of the cluster.
        """
        self.folder.mkdir()
        # all of it belongs to root, who alone can have a cluster
        install = [which("mariadb-install-db"), f"--datadir={self.database}", "--user=root", "--skip-test-db"]
        subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
        self.cluster.start_program(
            "mariadbd",
            *("--no-defaults", f"--datadir={self.database}", f"--socket={self.socket}", "--skip-networking", "--user=root"),
        )
        self.cluster.wait_for(self.socket.exists, "MariaDB")
        configuration = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.cluster.folder}/run/munge",
            "DbdHost": "localhost",
            "DbdPort": self.port,
            "SlurmUser": "root",
            "PidFile": self.cluster.folder / "run" / "slurmdbd.pid",
            "LogFile": self.cluster.folder / "log" / "slurmdbd",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "root",
            "StorageLoc": "slurm",
        }
        path = self.cluster.folder / "slurmdbd.conf"  # slurmdbd looks for it beside slurm.conf
        path.write_text("".join(f"{key}={value}\n" for key, value in configuration.items()))
        path.chmod(0o600)
        self.cluster.start_program("slurmdbd", "-D", environment={"MYSQL_UNIX_PORT": str(self.socket)})
        self.cluster.wait_for(self._answers, "slurmdbd")
        settings = {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "localhost",
            "AccountingStoragePort": self.port,
            "AccountingStoragePass": f"{self.cluster.folder}/run/munge",
            "JobAcctGatherType": "jobacct_gather/linux",
            **further,
        }
        self._restart("".join(f"{key}={value}\n" for key, value in settings.items()) + self._without)
        self.cluster.wait_for(lambda: self.cluster.login("sacct -n -X", check=False).returncode == 0, "sacct")

    def stop(self) -> None:
        """Take the accounting away again."""
        self._restart(self._without)
        for name in ("slurmdbd", "mariadbd"):
            self.cluster.kill(name)
        shutil.rmtree(self.folder)

    def _restart(self, configuration: str) -> None:
        for name in ("slurmd", "slurmctld"):
            self.cluster.kill(name)
        self.cluster.slurm_configuration.write_text(configuration)
        self.cluster.start_slurmctld()
        self.cluster.start_slurmd()
        self.cluster.wait_for(lambda: "idle" in self.cluster.login("sinfo -h -o %T").stdout, "an idle node")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
