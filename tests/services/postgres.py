"""A private PostgreSQL, made by pgtest, that can be killed and started again. It listens on 127.0.0.1 only."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import psycopg
from pgtest.pgtest import PGTest, which

ACCOUNT = "postgres"  # Debian's; PostgreSQL refuses to run as root


def why_not() -> str | None:
    """Say why there can be no PostgreSQL here, or None."""
    try:
        which("pg_ctl")
    except (FileNotFoundError, ValueError):
        return "PostgreSQL is not installed (Debian: postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            return f"PostgreSQL refuses to run as root, and there is no account {ACCOUNT!r} to run it"
    return None


class PrivatePostgres:
    """A database cluster in a temporary folder, on a port of its own.

    :ivar server: pgtest's cluster, as AiiDA's fixtures want it.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dosmatgen-postgres-"))
        self.folder.chmod(0o755)
        data = self.folder / "cluster"
        data.mkdir()
        self.server = PGTest(base_dir=str(data), pg_ctl=str(self._pg_ctl(data)), max_connections=100)

    def create_database(self, name: str) -> dict:
        """Make an empty database, and return how AiiDA connects to it.

        AiiDA's own fixture makes it in the locale en_US.UTF-8, which minimal systems lack.
        """
        user, host, port = (self.server.dsn[key] for key in ("user", "host", "port"))
        with psycopg.connect(user=user, host=host, port=port, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        return {
            "database_engine": "postgresql_psycopg",
            "database_name": name,
            "database_username": user,
            "database_password": "",
            "database_hostname": host,
            "database_port": port,
        }

    def kill(self) -> None:
        """``kill -9`` of the server: no goodbye to anyone, and the write-ahead log is replayed at the next start."""
        pid = int((Path(self.server.cluster) / "postmaster.pid").read_text().split()[0])
        processes = [psutil.Process(pid), *psutil.Process(pid).children()]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)

    def start(self) -> None:
        """Start the server again on the same port, as pgtest had started it, and wait until it answers."""
        options = (Path(self.server.cluster) / "postmaster.opts").read_text()
        arguments = " ".join(re.findall(r'"([^"]*)"', options)[2:])  # without -D and the folder
        command = [self.server.pg_ctl, "start", "-w", "-D", self.server.cluster, "-l", self.server.log_file, "-o", arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        try:
            self.server.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _pg_ctl(self, data: Path) -> Path:
        """Return pg_ctl; for root, a script that hands the cluster to an unprivileged account and runs pg_ctl there."""
        program = Path(which("pg_ctl"))
        if os.geteuid() != 0:
            return program
        script = self.folder / "pg_ctl"
        account = f"--reuid={ACCOUNT} --regid={ACCOUNT} --clear-groups"
        script.write_text(f'#!/bin/sh\ncd /\nchown -R {ACCOUNT}: {data}\nexec setpriv {account} {program} "$@"\n')
        script.chmod(0o755)
        return script
