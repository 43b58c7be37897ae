"""What the export of a large campaign costs: seconds of the processor and memory, by the number of its validations.

    python benchmarks/exporting.py                   # 500, 1,000, 2,000 and 5,000 validations: about 15 minutes of one core
    python benchmarks/exporting.py --sizes 100 300   # a minute
    python benchmarks/exporting.py -o benchmarks/results/exporting.json

The campaigns are those of ``synthetic_campaigns.py`` in a temporary AiiDA profile (sqlite), without the files that jobs leave;
each has two candidates for each validation. Each file is written by the command that a user types, in a process of its own,
whose seconds (user and system) and largest resident memory count. The last line is JSON: for each kind of file ``cpu_s``,
``memory_mb`` and ``size_mb`` by size, and ``ms_per_validation`` from each size to the next, which are equal where the cost is
linear, as are the ``mb_per_validation`` of memory. With ``-o`` it is also written to a file.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("aiida-dosmatgen")
KINDS = {
    "archive": ("export", "campaign.aiida"),
    "optimade": ("export", "campaign.json"),
    "extxyz": ("export", "campaign.extxyz"),
    "page": ("report", "campaign.html"),
}


def main() -> None:
    """Make campaigns of growing size, and write each in every form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the last line to a file, too")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000], help="numbers of validations")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    sizes, rows = sorted(given.sizes), {kind: [] for kind in given.kinds}
    sys.path.insert(0, str(HERE))
    # not in this process: Linux counts the memory of the one that starts a program as the program's own, if it is larger
    with (
        tempfile.TemporaryDirectory(prefix="exporting-aiida-", ignore_cleanup_errors=True) as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as maker,
    ):
        os.environ["AIIDA_PATH"] = folder  # before AiiDA is imported
        for size in sizes:
            pk = maker.submit(made, size, Path(folder)).result()
            for kind in given.kinds:
                row = written(kind, pk, Path(folder))
                rows[kind].append(row)
                if not given.json:
                    cost = f"{row['cpu_s']:8.1f} s {row['memory_mb']:7.0f} MB"
                    print(f"{kind:9s} {size:6d} {cost}, {row['size_mb']:8.1f} MB written", flush=True)
    result = {"validations": sizes, **{kind: summary(sizes, found) for kind, found in rows.items()}}
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def made(size: int, folder: Path) -> int:
    """Store a campaign, and return its pk."""
    from aiida import orm
    from synthetic_campaigns import Graph, campaign, target

    graph = Graph(shared(folder), seed=size)
    uuid = campaign(graph, target(graph, sites=4), n_candidates=2 * size, n_validated=size)
    graph.store()
    return orm.load_node(uuid).pk


@functools.cache
def shared(folder: Path) -> dict[str, Any]:
    """Store what all campaigns have in common, once."""
    from synthetic_campaigns import shared_nodes

    from aiida_dosmatgen import setup

    setup.ensure_profile("exporting")
    return shared_nodes(folder)


def written(kind: str, pk: int, folder: Path) -> dict[str, float]:
    """Write one file of a campaign, and return what it took: processor seconds, largest memory and size in 10⁶ bytes."""
    command, name = KINDS[kind]
    path = folder / name
    path.unlink(missing_ok=True)
    arguments = [str(PROGRAM), "-p", "exporting", command, str(pk), "-o", str(path)]
    process = os.posix_spawn(
        arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )  # the last line is JSON alone
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with exit status {os.waitstatus_to_exitcode(status)}")
    size = path.stat().st_size
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "memory_mb": usage.ru_maxrss * 1024 / 1e6, "size_mb": size / 1e6}


def summary(sizes: list[int], rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return the figures of one kind of file as lists by size."""
    columns = {name: [round(row[name], 1) for row in rows] for name in ("cpu_s", "memory_mb", "size_mb")}
    milliseconds, megabytes = ([row[name] * factor for row in rows] for name, factor in (("cpu_s", 1000), ("memory_mb", 1)))
    return {
        **columns,
        "ms_per_validation": [round(step, 2) for step in steps(sizes, milliseconds)],
        "mb_per_validation": [round(step, 4) for step in steps(sizes, megabytes)],
    }


def steps(sizes: list[int], values: list[float]) -> list[float]:
    """Return by how much values grow for each further validation, from each size to the next."""
    return [(b - a) / (n - m) for (m, a), (n, b) in itertools.pairwise(zip(sizes, values, strict=True))]


if __name__ == "__main__":
    main()
