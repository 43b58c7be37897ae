"""Many validations at once: is any process lost, how much memory does the daemon take, what does AiiDA cost?

    python benchmarks/concurrency.py --json

Silicon at as many volumes as there are validations, each with pw.x (twice) and projwfc.x, through a daemon of an AiiDA
profile made for the purpose, which is removed afterwards: on PostgreSQL and RabbitMQ, or, with ``--sqlite``, on sqlite and the
ZeroMQ broker, where more than one worker is too many (sqlite answers "database is locked", and the worker is lost). All
validations are in AiiDA's hands at once; on this machine two of the executables run at a time, and the others wait as they
would in a queue. The last line is JSON.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from labelling import stop_daemon

sys.path.insert(0, str(Path(__file__).parents[1]))  # of the private services that the tests start

PROCESSES_OF_A_VALIDATION = 4  # under way together: ValidateWorkChain, DosWorkChain, PwBaseWorkChain, PwCalculation


class Watch:
    """Memory and processor time of a daemon and of all its children."""

    def __init__(self, pid: int) -> None:
        self.daemon = psutil.Process(pid)
        self.peak = 0
        self.peak_of_a_worker = 0
        self.seconds: dict[int, float] = {}

    def look(self) -> None:
        """Take notice of what there is now."""
        sizes = []
        for process in [self.daemon, *self.daemon.children(recursive=True)]:
            try:
                if "verdi" not in " ".join(process.cmdline()):  # jobs of core.direct are children of a worker
                    continue
                sizes.append(process.memory_info().rss)
                times = process.cpu_times()
                self.seconds[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        self.peak = max(self.peak, sum(sizes))
        self.peak_of_a_worker = max(self.peak_of_a_worker, *sizes, 0)


def queue_in_front_of(folder: Path, slots: int) -> str:
    """Return what a job has to run first, so that few run at a time: a lock for each of the slots, held until it ends."""
    return f"exec 9> {folder}/slot-$(( RANDOM % {slots} )) && flock 9"


@contextlib.contextmanager
def services(sqlite: bool):
    """Start what the profile needs, and give the arguments of AiiDA's ``create_profile`` for it."""
    if sqlite:
        yield {"storage_backend": "core.sqlite_dos", "storage_config": {}, "broker_backend": "core.zeromq", "broker_config": {}}
        return
    from tests.services.postgres import PrivatePostgres
    from tests.services.rabbitmq import PrivateRabbitMQ

    with contextlib.closing(PrivatePostgres()) as postgres, contextlib.closing(PrivateRabbitMQ()) as rabbitmq:
        yield {
            "storage_backend": "core.psql_dos",
            "storage_config": {
                **postgres.create_database("concurrency"),
                "repository_uri": (postgres.folder / "files").as_uri(),
            },
            "broker_backend": "core.rabbitmq",
            "broker_config": rabbitmq.configuration,
        }


def build(count: int, max_concurrent: int, folder: Path, slots: int, workers: int, profile_settings: dict) -> tuple:
    """Make the profile, start its daemon, and return a work chain and its inputs."""
    os.environ["AIIDA_PATH"] = str(folder)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    from aiida import orm
    from aiida.manage.configuration import create_profile, get_config
    from concurrency_chain import ValidateAllWorkChain

    from aiida_dosmatgen import setup
    from aiida_dosmatgen.core.dos import DEFAULT_GRID
    from aiida_dosmatgen.core.target import DosTarget
    from aiida_dosmatgen.data.target import DosTargetData
    from aiida_dosmatgen.workflows.protocols.utils import inputs_of
    from aiida_dosmatgen.workflows.validate import ValidateWorkChain

    config = get_config(create=True)
    create_profile(config, name="concurrency", email="aiida@localhost", **profile_settings)
    config.store()
    profile = setup.ensure_profile("concurrency")
    # parents keep their slot while they wait for their children: with fewer slots than processes nothing would ever end
    needed = PROCESSES_OF_A_VALIDATION * max_concurrent + 1
    get_config().set_option("daemon.worker_process_slots", needed + 50, scope=profile.name)
    get_config().store()
    codes = setup.ensure_codes(setup.ensure_computer(folder / "jobs"))
    family = setup.ensure_debian_family().label
    setup.ensure_daemon(workers)
    target = DosTarget(np.exp(-0.5 * (DEFAULT_GRID.points + 3) ** 2)[None])
    validate = ValidateWorkChain.get_builder_from_protocol(
        codes["pw"],
        codes["projwfc"],
        target=DosTargetData(target),
        protocol="fast",
        elements=["Si"],
        options={"withmpi": False, "max_wallclock_seconds": 7200, "prepend_text": queue_in_front_of(folder, slots)},
        overrides={
            "pseudo_family": family,
            "recipe": {"cutoff": 18, "scf_distance": 1.0, "bands_distance": 1.0, "points_per_atom": 0},
        },
    )
    inputs = {
        "validate": inputs_of(validate),
        "lattice_constants": orm.List([round(float(a), 6) for a in np.linspace(5.3, 5.6, count)]),
        "max_concurrent": max_concurrent,
    }
    return ValidateAllWorkChain, inputs


def figures(node, count: int, watch: Watch, seconds: float) -> dict:
    """Return what is known by now."""
    from aiida import __version__ as aiida_version
    from aiida import orm

    query = orm.QueryBuilder().append(
        orm.ProcessNode,
        project=["attributes.process_label", "attributes.process_state", "attributes.exit_status", "id"],
    )
    rows = query.all()
    validations = [row for row in rows if row[0] == "ValidateWorkChain"]
    ended = [row for row in validations if row[1] == "finished"]
    succeeded = sum(row[2] == 0 for row in ended)
    lost = [row for row in rows if row[1] not in ("finished",) and row[3] != node.pk]
    jobs = sum(row[0] in ("PwCalculation", "DosCalculation", "ProjwfcCalculation") for row in rows)
    gib = 1024**3
    return {
        "validations": count,
        "begun": len(validations),
        "finished": len(ended),
        "finished_ok": succeeded,
        "failed": dict(Counter(str(row[2]) for row in ended if row[2])),
        "lost": (count - len(ended)) + sum(row[0] != "ValidateWorkChain" for row in lost) if node.is_terminated else None,
        "twice": len(validations) - count if node.is_terminated else None,
        "processes": len(rows),
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "seconds_per_validation": round(seconds / max(1, len(ended)), 2),
        "daemon_peak_GiB": round(watch.peak / gib, 3),
        "largest_process_peak_GiB": round(watch.peak_of_a_worker / gib, 3),
        "daemon_cpu_seconds": round(sum(watch.seconds.values()), 1),
        "daemon_cpu_seconds_per_validation": round(sum(watch.seconds.values()) / max(1, len(ended)), 2),
        "daemon_cpu_seconds_per_job": round(sum(watch.seconds.values()) / max(1, jobs), 2),
        "machine": {"cores": os.cpu_count(), "aiida": aiida_version},
    }


def main() -> None:
    """Run the validations and watch the daemon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--max-concurrent", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2, help="executables that run at a time")
    parser.add_argument("--workers", type=int, default=2, help="workers of the daemon")
    parser.add_argument("--sqlite", action="store_true", help="without PostgreSQL and RabbitMQ; one worker")
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    parser.add_argument("-o", "--output", type=Path, help="write the figures there as they come, and the result")
    given = parser.parse_args()
    workers = 1 if given.sqlite else given.workers
    with (
        tempfile.TemporaryDirectory(prefix="concurrency-", ignore_cleanup_errors=True) as name,
        services(given.sqlite) as profile_settings,
    ):
        chain, inputs = build(given.count, given.max_concurrent, Path(name), given.slots, workers, profile_settings)
        from aiida.engine import submit
        from aiida.engine.daemon.client import get_daemon_client
        from aiida.manage import get_manager

        try:
            watch = Watch(int(get_daemon_client().get_daemon_pid() or 0))
            node, start, reported = submit(chain, **inputs), time.perf_counter(), 0.0
            while not node.is_terminated:
                watch.look()
                time.sleep(2)
                if time.perf_counter() - reported > 30:
                    reported = time.perf_counter()
                    result = {**figures(node, given.count, watch, reported - start), "max_concurrent": given.max_concurrent}
                    if given.output:
                        given.output.write_text(json.dumps({**result, "under_way": True}, indent=1) + "\n")
                    if not given.json:
                        print(json.dumps(result), flush=True)
            seconds = time.perf_counter() - start
            watch.look()
            result = figures(node, given.count, watch, seconds)
            result |= {"max_concurrent": given.max_concurrent, "executables_at_a_time": given.slots, "workers": workers}
            result |= {"storage": "sqlite" if given.sqlite else "PostgreSQL, RabbitMQ"}
            result |= {"work_chain": f"{node.process_state.value} [{node.exit_status}]"}
            if given.output:
                given.output.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(result))
        finally:
            stop_daemon()
            get_manager().reset_profile_storage()  # before its database goes


if __name__ == "__main__":
    main()
