"""A real cluster on this machine alone: munge, slurmctld, slurmd and sshd on 127.0.0.1, for an unprivileged account.

Everything lies in one folder: keys, configuration, state, logs. Each program runs in namespaces of its own (:mod:`.machine`),
where the account exists. Nothing of the machine's own services and accounts is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil

from . import machine
from .machine import Account, Machine

PACKAGE = Path(__file__).parents[2] / "aiida_dosmatgen"
ACCOUNT = "dosmatgen-test"
HOST = "loopback-cluster"  # as ~/.ssh/config calls it
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "sshd", "ssh-keygen")
PREFIX = "dosmatgen-"  # of the name of the folder
_CONFIGURATIONS = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/etc/slurm/slurmdbd.conf",
    "/run/slurm/conf/slurm.conf",
)
_SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def why_not() -> str | None:
    """Say why there can be no cluster here, or None."""
    missing = [name for name in NEEDED if shutil.which(name, path=_SBIN) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    return _real_slurm() or machine.why_not()


def _real_slurm() -> str | None:
    """Say what shows that this machine belongs to a real cluster, or None.

    A daemon of ours, of another run, is known by the name of its configuration on its command line.
    """
    for name in ("SLURM_CONF", "SLURM_JOB_ID"):
        if name in os.environ:
            return f"this machine belongs to a Slurm cluster: {name} is set"
    for path in _CONFIGURATIONS:
        if os.path.exists(path):
            return f"this machine belongs to a Slurm cluster: there is {path}"
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in ("slurmctld", "slurmd") and PREFIX not in " ".join(process.info["cmdline"] or []):
            return f"this machine belongs to a Slurm cluster: {process.info['name']} runs"
    return None


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LoopbackCluster:
    """One node with sixteen CPUs, one partition, and a login by key.

    :param folder: where everything goes; its parents must be open to every account, and its path short: a socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.keys = folder / "keys"
        self.ports = {name: free_port() for name in ("slurmctld", "slurmd", "sshd")}
        self.machines: dict[str, Machine] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.account = Account(ACCOUNT, self.home, folder / "etc")

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Write the configuration and start everything."""
        for name in ("keys", "home", "state", "spool", "log", "run"):
            (self.folder / name).mkdir(mode=0o755)
        os.chown(self.home, self.account.id, self.account.id)
        self._write_munge_key()
        self._write_slurm_configuration()
        self._write_ssh_configuration()
        self.start_munged()
        self.start_slurmctld()
        self.start_slurmd()
        self.start_sshd()
        self.wait_for(lambda: "idle" in self.login("sinfo -h -o %T").stdout, "an idle node")

    def stop(self) -> None:
        """End everything, with all that runs on the cluster."""
        for name in list(self.machines):
            self.kill(name)

    def kill(self, name: str) -> None:
        """End one of the daemons with all that it has started: ``slurmd`` with its jobs, ``sshd`` with its sessions."""
        self.machines.pop(name).kill()

    def start_munged(self) -> None:
        """Start the authentication that Slurm's parts use among themselves."""
        run = self.folder / "run"
        files = {"socket": run / "munge", "pid-file": run / "munged.pid", "log-file": self.folder / "log" / "munged"}
        files |= {"key-file": self.keys / "munge", "seed-file": run / "munged.seed"}
        self.start_program("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
        self.wait_for((run / "munge").exists, "munged")

    def start_slurmctld(self) -> None:
        """Start the controller."""
        self.start_program("slurmctld", "-D", "-f", str(self.slurm_configuration))
        self.wait_for(lambda: self._answers("slurmctld"), "slurmctld")

    def start_slurmd(self) -> None:
        """Start the compute node."""
        self.start_program("slurmd", "-D", "-N", "node1", "-f", str(self.slurm_configuration))
        self.wait_for(lambda: self._answers("slurmd"), "slurmd")

    def resume_node(self) -> None:
        """Take the node back if Slurm has drained it, as an operator does.

        A controller that is killed may forget its last job and give that number again, which drains the node.
        """
        state = self._control("show", "node", "node1").stdout
        if "DRAIN" in state:
            self._control("update", "nodename=node1", "state=resume")

    def start_sshd(self) -> None:
        """Start the login service."""
        self.start_program("sshd", "-D", "-e", "-f", str(self.keys / "sshd_config"))
        self.wait_for(lambda: self._answers("sshd"), "sshd")

    # --- use --------------------------------------------------------------------------------------------------------

    def install_engine(self) -> Path:
        """Install the executable for the account, without AiiDA, and return its path.

        Its dependencies are those of the running environment, links where that can be.
        """
        environment = self.folder / "engine"
        python = Path(sys.base_prefix) / "bin" / Path(os.path.realpath(sys.executable)).name
        if not _open_to_all(python):  # in somebody's home
            _link_python(Path(sys.base_prefix), self.folder / "python")
            python = self.folder / "python" / "bin" / python.name
        subprocess.run([str(python), "-m", "venv", "--without-pip", str(environment)], check=True)
        here, there = (Path(sysconfig.get_path("purelib")), next(environment.glob("lib/python*/site-packages")))
        for item in here.iterdir():
            if not re.match(r"(?i)_*(editable_+impl_+)?aiida|plumpy|kiwipy|alembic|sqlalchemy|circus", item.name):
                _link(item, there / item.name)
        shutil.copytree(PACKAGE, there / PACKAGE.name)
        program = environment / "bin" / "dosmatgen.py"
        program.write_text("import sys\nfrom aiida_dosmatgen.engine.cli import main\nsys.exit(main())\n")
        script = environment / "bin" / "dosmatgen"
        library = Path(sys.base_prefix) / "lib" if python.is_relative_to(sys.base_prefix) else self.folder / "python" / "lib"
        script.write_text(f'#!/bin/sh\nexport LD_LIBRARY_PATH={library}\nexec {environment}/bin/python {program} "$@"\n')
        script.chmod(0o755)
        subprocess.run(["chmod", "-R", "a+rX", str(environment)], check=True)
        return script

    @property
    def slurm_configuration(self) -> Path:
        """The file that every part of Slurm reads."""
        return self.folder / "slurm.conf"

    def login(self, command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command as the account, with ssh."""
        ssh = ["ssh", "-F", str(self.keys / "config"), HOST, command]
        return subprocess.run(ssh, check=check, capture_output=True, text=True)

    def states(self) -> list[str]:
        """Return the states of all jobs that Slurm knows."""
        return self.login("squeue -h -o %T").stdout.split()

    def logs(self) -> str:
        """Return the ends of all logs."""
        files = sorted((self.folder / "log").iterdir())
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in files)

    def wait_for(self, condition, what: str, seconds: float = 1200) -> None:
        """Wait for a condition; if it is not met, show the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not happen within {seconds:.0f} s\n{self.logs()}")
            time.sleep(0.5)  # most looks are a login

    # --- configuration ----------------------------------------------------------------------------------------------

    def _write_munge_key(self) -> None:
        (self.keys / "munge").write_bytes(os.urandom(128))
        (self.keys / "munge").chmod(0o400)

    def _write_slurm_configuration(self) -> None:
        name = socket.gethostname().split(".")[0]
        settings = {
            "ClusterName": "loopback",
            "SlurmctldHost": f"{name}(127.0.0.1)",
            "SlurmUser": "root",
            "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",  # 127.0.0.1 only
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/run/munge",
            "SlurmctldPort": self.ports["slurmctld"],
            "SlurmdPort": self.ports["slurmd"],
            "StateSaveLocation": f"{self.folder}/state",
            "SlurmdSpoolDir": f"{self.folder}/spool",
            "SlurmctldPidFile": f"{self.folder}/run/slurmctld.pid",
            "SlurmdPidFile": f"{self.folder}/run/slurmd.pid",
            "SlurmctldLogFile": f"{self.folder}/log/slurmctld",
            "SlurmdLogFile": f"{self.folder}/log/slurmd",
            "ProctrackType": "proctrack/pgid",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SlurmdTimeout": 30,  # a dead node is given up soon
            "KillWait": 5,
            "MinJobAge": 30,
            "SchedulerParameters": "sched_interval=2,bf_interval=2",
            "SlurmdParameters": "config_overrides",  # more CPUs than the machine may have
        }
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines += [f"NodeName=node1 NodeHostname={name} NodeAddr=127.0.0.1 CPUs=16 RealMemory=16000 State=UNKNOWN"]
        lines += ["PartitionName=main Nodes=node1 Default=YES MaxTime=120 State=UP"]
        self.slurm_configuration.write_text("\n".join(lines) + "\n")
        # without it slurmd looks for a cgroup file system, which containers lack
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _write_ssh_configuration(self) -> None:
        for name in ("host", "user"):
            (self.keys / name).unlink(missing_ok=True)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.keys / name)], check=True)
        server = {
            "Port": self.ports["sshd"],
            "ListenAddress": "127.0.0.1",
            "HostKey": self.keys / "host",
            "PidFile": self.folder / "run" / "sshd.pid",
            "AuthorizedKeysFile": self.keys / "user.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "AllowUsers": ACCOUNT,
            "MaxStartups": "100",
            "MaxSessions": "100",
            "Subsystem": "sftp internal-sftp",
            "SetEnv": f"SLURM_CONF={self.slurm_configuration}",
        }
        (self.keys / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in server.items()))
        client = {
            "HostName": "127.0.0.1",
            "Port": self.ports["sshd"],
            "User": ACCOUNT,
            "IdentityFile": self.keys / "user",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.keys / "known_hosts",
            "BatchMode": "yes",
        }
        lines = [f"Host {HOST}", *(f"    {key} {value}" for key, value in client.items())]
        (self.keys / "config").write_text("\n".join(lines) + "\n")
        host_key = " ".join((self.keys / "host.pub").read_text().split()[:2])
        (self.keys / "known_hosts").write_text(f"[127.0.0.1]:{self.ports['sshd']} {host_key}\n")

    def start_program(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Start one of the daemons; :meth:`kill` and :meth:`stop` end it."""
        variables = {**os.environ, "SLURM_CONF": str(self.slurm_configuration), **(environment or {})}
        log = self.folder / "log" / f"{name}.out"
        self.machines[name] = Machine([which(name), *arguments], self.account, log, variables)

    def _control(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "SLURM_CONF": str(self.slurm_configuration)}
        return subprocess.run([which("scontrol"), *arguments], capture_output=True, text=True, env=environment)

    def _answers(self, name: str) -> bool:
        if self.machines[name].ended is not None:
            raise RuntimeError(f"{name} ended with {self.machines[name].ended}\n{self.logs()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0


def _open_to_all(path: Path) -> bool:
    """Whether every account can read a path."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _link_python(source: Path, target: Path) -> None:
    """Copy what an environment needs of a Python: not what is installed in it, nor its tests: tens of thousands of files."""
    library = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    (target / library).mkdir(parents=True)
    _link(source / "bin", target / "bin")
    for folder in (library.parent, library):
        for item in (source / folder).iterdir():
            if item != source / library and item.name not in ("site-packages", "test"):
                _link(item, target / folder / item.name)


def _link(source: Path, target: Path) -> None:
    """Link to a file or a folder that every account can read; else copy it, as hard links where that can be."""
    if source.stat().st_mode & 0o004 and _open_to_all(source):
        target.symlink_to(source)
        return
    if subprocess.run(["cp", "-al", str(source), str(target)], check=False, capture_output=True).returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def which(name: str) -> str:
    """Return the path of a program, also of one that only root has on its path."""
    return shutil.which(name, path=_SBIN) or name
