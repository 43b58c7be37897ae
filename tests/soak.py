"""Repeat a small campaign under random faults: ``python -m tests.soak --minutes 10``, or ``make soak MINUTES=10``.

A first campaign runs undisturbed, on a cluster of its own on this machine (Slurm and sshd on loopback, so as root). All later
ones are disturbed, at random moments and until the time is over, and must end with the same candidates and the same ranking.
The last line is JSON: the number of disturbed ``campaigns``, the ``faults`` by kind, and how many campaigns were ``lost``
(did not end well, or lack something) or ended with something ``wrong`` (other crystals, energies or scores); ``revived`` counts
how often AiiDA had to be told of lost tasks. The seed repeats the choice of faults, not their moments.

With ``--learn`` it is a loop of two rounds that learns: none may lose a round or a result, or learn one twice.

With ``--services`` AiiDA has its database in PostgreSQL and its tasks in RabbitMQ, and two workers; all are killed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .cluster.loopback import LoopbackCluster, why_not
from .services import postgres, rabbitmq

LONGEST = 1200  # seconds for one campaign, faults and all
LONGEST_LOOP = 3600
PAUSE = (0.02, 0.1)  # between two faults, of what an undisturbed campaign takes: a slow machine is not hit more often
FORGOTTEN = 120.0  # seconds after which what no worker looks at is taken for forgotten, as docs/troubleshooting.md has it
PATIENCE = 45.0  # seconds that a fault waits for something that it can happen to


class Faults:
    """What can happen to a campaign; each method does it once, and says whether there was something to do it to."""

    workers = 1  # of the daemon; with two, sqlite can answer that the database is locked

    def __init__(self, cluster: LoopbackCluster, chance: random.Random) -> None:
        self.cluster = cluster
        self.chance = chance
        self._deck: list[str] = []

    @property
    def kinds(self) -> list[str]:
        """Names of all faults."""
        methods = {name for kind in type(self).__mro__ for name, value in vars(kind).items() if callable(value)}
        return sorted(name for name in methods if not name.startswith("_") and name != "draw")

    def draw(self) -> str:
        """Return the name of the next fault: each of them once, in random order, before any comes again."""
        if not self._deck:
            self._deck = self.chance.sample(self.kinds, len(self.kinds))
        return self._deck.pop()

    def executable_killed(self, campaign) -> bool:
        """``kill -9`` of dosmatgen, pw.x or projwfc.x."""
        names = ("dosmatgen.py", "pw.x", "projwfc.x")
        found = [p for name in names for p in self.cluster.account.processes(name) if "bash" not in p.name()]
        if not found:
            return False
        with contextlib.suppress(Exception):
            self.chance.choice(found).kill()
        return True

    def job_cancelled(self, campaign) -> bool:
        """``scancel`` of a job of dosmatgen."""
        running = self.cluster.login("squeue -h -t R -o %i", check=False).stdout.split()
        if not running:
            return False
        self.cluster.login(f"scancel {self.chance.choice(running)}", check=False)
        return True

    def node_died(self, campaign) -> bool:
        """slurmd and all that runs on its node are killed; it comes back."""
        self.cluster.kill("slurmd")
        time.sleep(self.chance.uniform(0, 5))
        self.cluster.start_slurmd()
        return True

    def login_down(self, campaign) -> bool:
        """sshd and all its sessions are killed; it comes back."""
        self.cluster.kill("sshd")
        time.sleep(self.chance.uniform(1, 15))
        self.cluster.start_sshd()
        return True

    def controller_down(self, campaign) -> bool:
        """slurmctld is killed; it comes back."""
        self.cluster.kill("slurmctld")
        time.sleep(self.chance.uniform(1, 10))
        self.cluster.start_slurmctld()
        return True

    def worker_killed(self, campaign) -> bool:
        """``kill -9`` of a worker of AiiDA's daemon, which starts another one."""
        import psutil
        from aiida.engine.daemon.client import get_daemon_client

        pid = get_daemon_client().get_daemon_pid()
        children = psutil.Process(pid).children(recursive=True) if pid else []
        workers = [child for child in children if "worker" in " ".join(child.cmdline())]
        if not workers:
            return False
        self.chance.choice(workers).kill()
        return True

    def daemon_killed(self, campaign) -> bool:
        """``kill -9`` of AiiDA's daemon with its broker and workers; it is started again."""
        from .campaigns import kill_daemon, start_daemon

        kill_daemon()
        start_daemon(self.workers)
        return True

    def submitted_twice(self, campaign) -> bool:
        """A running job of dosmatgen is submitted once more, in the same folder."""
        from .campaigns import jobs

        running = [job for job in jobs(campaign) if not job.is_terminated and "dosmatgen" in job.inputs.code.label]
        folders = [job.get_remote_workdir() for job in running if job.get_job_id()]
        if not folders:
            return False
        self.cluster.login(f"cd {self.chance.choice(folders)} && sbatch _aiidasubmit.sh", check=False)
        return True

    def part_truncated(self, campaign) -> bool:
        """What a running job of dosmatgen keeps beside its output loses its second half."""
        from .campaigns import jobs

        folders = [job.get_remote_workdir() for job in jobs(campaign) if not job.is_terminated]
        parts = [path for folder in folders if folder for path in Path(folder).glob(".*.parts/**/*") if path.is_file()]
        if not parts:
            return False
        with contextlib.suppress(OSError):
            part = self.chance.choice(parts)
            os.truncate(part, part.stat().st_size // 2)
        return True


class FaultsOfServices(Faults):
    """The same with PostgreSQL and RabbitMQ, which are killed, too."""

    workers = 2

    def __init__(self, cluster: LoopbackCluster, chance: random.Random, services: Services) -> None:
        super().__init__(cluster, chance)
        self.services = services

    def broker_killed(self, campaign) -> bool:
        """``kill -9`` of RabbitMQ; it comes back."""
        self.services.rabbitmq.kill()
        time.sleep(self.chance.uniform(0, 5))
        self.services.rabbitmq.start()
        return True

    def database_killed(self, campaign) -> bool:
        """``kill -9`` of PostgreSQL; it comes back, and then what docs/services.md says is done."""
        from aiida.manage import get_manager

        from .campaigns import revive

        get_manager().reset_profile_storage()  # of this process; the workers are hit in the middle of what they do
        self.services.postgres.kill()
        time.sleep(self.chance.uniform(0, 5))
        self.services.postgres.start()
        revive(self.workers)
        return True


class Services:
    """A PostgreSQL and a RabbitMQ of the soak's own."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self.postgres = postgres.PrivatePostgres()
            stack.callback(self.postgres.close)
            self.rabbitmq = rabbitmq.PrivateRabbitMQ()
            stack.callback(self.rabbitmq.close)
            self._stack = stack.pop_all()

    def create_profile(self, name: str) -> None:
        """Make a profile of AiiDA that uses them."""
        from aiida.manage.configuration import create_profile, get_config

        storage = {**self.postgres.create_database(name), "repository_uri": (self.postgres.folder / "files").as_uri()}
        create_profile(
            get_config(create=True),
            name=name,
            email="aiida@localhost",
            storage_backend="core.psql_dos",
            storage_config=storage,
            broker_backend="core.rabbitmq",
            broker_config=self.rabbitmq.configuration,
        )
        get_config().store()

    def close(self) -> None:
        """End both, and remove what they have."""
        self._stack.close()


def compare(campaign, reference) -> tuple[str | None, str | None]:
    """Return what a campaign lost against the undisturbed one, and what is wrong with it, or None and None."""
    import numpy as np

    from .campaigns import candidates_of, rows_of, what_failed

    if not campaign.is_finished_ok:
        return f"it did not end well: {what_failed(campaign)}", None
    rows, expected = ({int(row["candidate"]): row for row in rows_of(c)} for c in (campaign, reference))
    if set(rows) != set(expected):
        return f"it ranks {sorted(rows)}, the undisturbed one {sorted(expected)}", None
    for candidate, row in expected.items():
        if row["status"] == "validated" != rows[candidate]["status"]:
            return f"candidate {candidate} is {rows[candidate]['status']}: {rows[candidate].get('reason')}", None
    ours, theirs = (candidates_of(c).outputs for c in (campaign, reference))
    if ours.sampled.crystals != theirs.sampled.crystals:
        return None, "the candidates are others"
    energies = [outputs.crystals.crystals.crystal_columns["energy"] for outputs in (ours, theirs)]
    if not np.allclose(*energies, atol=1e-3):
        return None, "the energies are others"
    for candidate, row in expected.items():
        if row["status"] == "validated" and abs(row["dft"]["mae"] - rows[candidate]["dft"]["mae"]) > 1e-3:
            return None, f"the DFT score of candidate {candidate} is {rows[candidate]['dft']['mae']}, not {row['dft']['mae']}"
    return None, None


def prepare(folder: Path, cluster: LoopbackCluster, services: Services | None, workers: int) -> None:
    """Start the cluster, and make a profile that has it as a computer."""
    from aiida.manage.configuration import get_config

    from aiida_dosmatgen import setup
    from aiida_dosmatgen.setup.cluster import set_up
    from aiida_dosmatgen.setup.settings import ComputerSettings

    from .campaigns import start_daemon
    from .cluster.campaigns import answers

    cluster.start()
    engine = cluster.install_engine()
    (folder / "home" / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(cluster.keys / "config", folder / "home" / ".ssh" / "config")
    if services is not None:
        services.create_profile("soak")
    profile = setup.ensure_profile("soak")
    config = get_config()
    config.set_option("transport.task_retry_initial_interval", 2, scope=profile.name)
    config.store()
    set_up(ComputerSettings.model_validate(answers(cluster, engine)))
    setup.ensure_pseudo_family()
    setup.ensure_models()
    start_daemon(workers)


def load(uuid: str):
    """Load a node, once more if the database was away in between."""
    from aiida import orm
    from aiida.manage import get_manager
    from sqlalchemy.exc import OperationalError

    try:
        return orm.load_node(uuid)
    except OperationalError:
        get_manager().reset_profile_storage()
        return orm.load_node(uuid)


def disturb(faults: Faults, kind: str, uuid: str) -> bool:
    """Do something to a campaign, and say whether it happened: not if our own connection to the database was cut before."""
    from aiida.manage import get_manager
    from sqlalchemy.exc import OperationalError

    try:
        return bool(getattr(faults, kind)(load(uuid)))
    except OperationalError:
        get_manager().reset_profile_storage()
        return False


def soak(minutes: float, faults: Faults, learn: bool = False) -> dict:
    """Run campaigns, or loops that learn, until the time is over."""
    from aiida_dosmatgen.setup import ensure_models
    from aiida_dosmatgen.tools import daemon

    from . import learning
    from .campaigns import revive, wait_for
    from .cluster.campaigns import start, start_loop

    if learn:
        start = start_loop
    longest = LONGEST_LOOP if learn else LONGEST

    revived = 0
    counts: Counter[str] = Counter()
    result = {"campaigns": 0, "faults": counts, "lost": 0, "wrong": 0}
    begin = time.monotonic()
    reference = start(ensure_models())
    wait_for(lambda: reference.is_terminated, "the end of the undisturbed campaign", longest)
    if not reference.is_finished_ok:
        raise RuntimeError(f"the undisturbed campaign failed: {reference.exit_message}")
    undisturbed, expected = time.monotonic() - begin, reference.uuid
    print(f"undisturbed: {undisturbed:.0f} s", flush=True)

    def pause() -> float:
        return undisturbed * faults.chance.uniform(*PAUSE)

    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        began, here = time.monotonic(), Counter()
        uuid = start(ensure_models()).uuid
        next_fault, next_look, kind = began + pause(), began, faults.draw()
        while not load(uuid).is_terminated and time.monotonic() - began < longest:
            time.sleep(0.2)
            if time.monotonic() > next_look:  # what an operator does
                faults.cluster.resume_node()
                if daemon.forgotten(FORGOTTEN) or daemon.idle(FORGOTTEN):
                    revived += 1
                    revive(faults.workers)
                if load(uuid).pk in daemon.abandoned(FORGOTTEN):
                    break
                next_look = time.monotonic() + 10
            if next_fault < time.monotonic() < deadline:
                happened = disturb(faults, kind, uuid)
                here[kind] += happened
                if happened or time.monotonic() > next_fault + PATIENCE:
                    next_fault, kind = time.monotonic() + pause(), faults.draw()
        lost, wrong = (learning.compare if learn else compare)(load(uuid), load(expected))
        result["campaigns"] += 1
        result["lost"] += lost is not None
        result["wrong"] += wrong is not None
        counts.update(+here)
        said = lost or wrong or "as undisturbed"
        print(f"campaign {result['campaigns']}: {time.monotonic() - began:.0f} s, {dict(+here)}: {said}", flush=True)
    return {**result, "faults": dict(sorted(counts.items())), "revived": revived}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--services", action="store_true", help="on PostgreSQL and RabbitMQ, which are killed, too")
    parser.add_argument("--learn", action="store_true", help="loops that learn instead of campaigns")
    given = parser.parse_args()
    reason = why_not() or (given.services and (postgres.why_not() or rabbitmq.why_not()))
    if reason:
        print(f"soak: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended all the same
    folder = Path(tempfile.mkdtemp(prefix="dosmatgen-soak-"))
    folder.chmod(0o755)
    private = folder / "private"
    os.environ |= {"AIIDA_PATH": str(private), "HOME": str(private / "home")}
    cluster = LoopbackCluster(folder / "cluster")
    chance, result, services = random.Random(given.seed), None, Services() if given.services else None
    faults = FaultsOfServices(cluster, chance, services) if services else Faults(cluster, chance)
    try:
        prepare(private, cluster, services, faults.workers)
        result = soak(given.minutes, faults, given.learn)
    finally:
        from aiida.manage import get_manager

        from .campaigns import stop_daemon

        stop_daemon()
        cluster.stop()
        if services:
            get_manager().reset_profile_storage()  # before its database goes
            services.close()
        if result is not None and not result["lost"] and not result["wrong"]:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"soak: all is kept in {folder}", file=sys.stderr)
    print(json.dumps(result))
    return int(bool(result["lost"] or result["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
