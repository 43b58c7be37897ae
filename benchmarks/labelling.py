"""Labels with provenance and without: the ``label`` work chain against ``dosmatgen label``, on the same crystals in one run.

    python benchmarks/labelling.py --json

Both compute the same crystals of the shipped data set, by one recipe and with the same number of pw.x at a time: the engine
directly, the work chain in an AiiDA profile made for the purpose (sqlite, ZeroMQ broker, a daemon of one worker, as
``make campaign`` sets it up), which is removed afterwards. The last line is JSON: the largest ``differences`` of the labels,
the rates of both, and what AiiDA costs for each structure.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.pseudopotentials import collect
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.job import LabelSettings, sha256_of
from aiida_dosmatgen.engine.labelling.label import symmetrised
from aiida_dosmatgen.engine.labelling.pwscf import estimated_cost
from aiida_dosmatgen.engine.labelling.records import Records, compute_all

DATASET = Path(__file__).parents[1] / "aiida_dosmatgen" / "datasets" / "debian-pbe" / "labelled.npz"
SECONDS = 3600  # for a crystal


def choose(crystals: CrystalSet, settings: LabelSettings, count: int, max_cost: float, seed: int) -> CrystalSet:
    """Return crystals of many sizes and elements, none of them expensive, with their number in the set as ``row``.

    Each is the one, in random order, that has the most elements, or a size, that few of those before have.
    """
    order = np.random.default_rng(seed).permutation(len(crystals))
    features: dict[int, list[Any]] = {}
    for row in order:
        if len(features) == 20 * count:
            break
        crystal = crystals[int(row)]
        if estimated_cost(crystal, settings) <= max_cost:
            features[int(row)] = [("size", int(crystal.n_atoms[0])), *set(crystal.numbers.tolist())]
    seen: dict[Any, int] = {}
    chosen: list[int] = []
    while len(chosen) < count:
        left = [row for row in features if row not in chosen]
        if not left:
            raise SystemExit(f"only {len(chosen)} crystals cost less than {max_cost:g}; raise --max-cost or ask for fewer")
        best = min(left, key=lambda row: float(np.mean([seen.get(f, 0) for f in features[row]])))
        chosen.append(best)
        for feature in features[best]:
            seen[feature] = seen.get(feature, 0) + 1
    found = CrystalSet.concatenate([symmetrised(crystals[row]) for row in chosen])  # as the engine does before it computes
    return found.with_columns(crystal={"row": np.array(chosen)})


def by_engine(crystals: CrystalSet, recipe: Recipe, workers: int) -> tuple[CrystalSet, dict]:
    """Label without AiiDA; return the labelled crystals, and the rate."""
    with tempfile.TemporaryDirectory(prefix="labelling-") as name:
        collect(Path(name) / "pseudopotentials")
        records = Records(Path(name), recipe, read_folder(Path(name) / "pseudopotentials"))
        start = time.perf_counter()
        for _ in compute_all(records, crystals, workers, SECONDS):
            pass
        seconds = time.perf_counter() - start
        labelled, statuses = records.gather(crystals)
    return labelled, {**rate(len(crystals), seconds), "workers": workers, "statuses": statuses}


def rate(count: int, seconds: float) -> dict:
    """Return the figures that both have."""
    return {"structures": count, "wall_seconds": round(seconds, 2), "structures_per_hour": round(3600 * count / seconds, 1)}


@contextlib.contextmanager
def temporary_profile(pseudodojo: bool = False) -> Iterator[dict]:
    """Make an AiiDA profile with a running daemon, yield what a work chain needs of it, and remove it all.

    :param pseudodojo: whether the pseudopotentials are those of PseudoDojo, or the ones of Debian.
    """
    with tempfile.TemporaryDirectory(prefix="labelling-aiida-", ignore_cleanup_errors=True) as name:
        os.environ["AIIDA_PATH"] = name  # before AiiDA is imported
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        from aiida_dosmatgen import setup

        setup.ensure_profile("labelling")
        codes = setup.ensure_codes(setup.ensure_computer(Path(name) / "jobs"))
        family = setup.ensure_pseudo_family() if pseudodojo else setup.ensure_debian_family()
        try:
            setup.ensure_daemon()
            yield {"codes": codes, "family": family.label}
        finally:
            stop_daemon()


def stop_daemon() -> None:
    """Stop the daemon of the loaded profile, and kill what does not stop within a minute."""
    import psutil
    from aiida.engine.daemon.client import DaemonException, get_daemon_client

    client = get_daemon_client()
    pid = client.get_daemon_pid()
    if pid is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon = psutil.Process(pid)
        processes = [daemon, *daemon.children(recursive=True)]
        with contextlib.suppress(DaemonException):
            client.stop_daemon(wait=True, timeout=60)
        for process in psutil.wait_procs(processes, timeout=10)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def by_work_chain(crystals: CrystalSet, recipe: Recipe, workers: int, codes: dict, family: str) -> tuple[CrystalSet, dict]:
    """Label through AiiDA's daemon; return the labelled crystals, and the rate from submission to the end of the work chain."""
    from aiida.engine import submit

    from aiida_dosmatgen.data.crystals import CrystalSetData
    from aiida_dosmatgen.workflows.label import LabelWorkChain
    from aiida_dosmatgen.workflows.timing import rate_of

    builder = LabelWorkChain.get_builder_from_protocol(
        codes["pw"],
        codes["projwfc"],
        CrystalSetData(crystals),
        protocol="fast",
        overrides={"pseudo_family": family, "recipe": recipe.model_dump()},
        options={"withmpi": False, "max_wallclock_seconds": SECONDS},
        max_concurrent=workers,
    )
    start = time.perf_counter()
    node = submit(builder)
    while not node.is_terminated:
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    if not node.is_finished_ok:
        raise SystemExit(f"the work chain failed ({node.exit_status}): {node.exit_message or node.process_state}")
    report = node.outputs.report.get_dict()
    labelled = node.outputs.crystals.crystals
    return labelled, {**rate(len(crystals), seconds), "workers": workers, "failed": report["failed"],
                      "computed_in_this_run": rate_of(node, workers)}  # fmt: skip


def differences(one: CrystalSet, other: CrystalSet) -> dict:
    """Return the largest differences of the labels of those crystals that both have; curves are kept in half precision."""
    rows = [s.crystal_columns["row"].tolist() for s in (one, other)]
    common = [row for row in rows[0] if row in rows[1]]
    largest = dict.fromkeys(("energy_meV_per_atom", "forces_eV_per_A", "dos_states_per_eV_per_atom"), 0.0)
    for row in common:
        a, b = one[rows[0].index(row)], other[rows[1].index(row)]
        curves = [s.atom_columns["dos"].astype(float) for s in (a, b)]
        found = {
            "energy_meV_per_atom": 1000 * (a.crystal_columns["energy"] - b.crystal_columns["energy"]) / a.n_atoms,
            "forces_eV_per_A": a.atom_columns["forces"] - b.atom_columns["forces"],
            "dos_states_per_eV_per_atom": curves[0] - curves[1],
        }
        largest = {name: max(value, float(np.abs(found[name]).max())) for name, value in largest.items()}
    return {"compared": len(common), "largest": {name: float(f"{value:.3g}") for name, value in largest.items()}}


def overhead(engine: dict, chain: dict) -> dict:
    """Return what the work chain adds, in seconds for each structure.

    ``wall``: its wall time less the engine's. ``beyond_programs``: its wall time less what the executables say they took,
    shared by the workers. ``jobs``: how much longer the jobs of a structure are under way than their executables run.
    """
    count, computed = chain["structures"], chain["computed_in_this_run"]
    programs = computed["program_seconds_per_structure"]
    return {
        "wall": round((chain["wall_seconds"] - engine["wall_seconds"]) / count, 2),
        "beyond_programs": round(chain["wall_seconds"] / count - programs / chain["workers"], 2),
        "jobs": round(computed["job_seconds_per_structure"] - programs, 2),
    }


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=DATASET, help="labelled crystals to choose from")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--max-cost", type=float, default=10, help="estimated seconds of a core; dearer crystals are left out")
    parser.add_argument("--workers", type=int, default=2, help="pw.x at a time, one core each")
    parser.add_argument("--cutoff", type=float, default=30, help="Ry, for the ultrasoft pseudopotentials of Debian")
    parser.add_argument("--bands-distance", type=float, default=Recipe().bands_distance, help="1/Å, 2π included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    parser.add_argument("-o", "--output", type=Path, help="write the result there, too")
    given = parser.parse_args()
    recipe = Recipe(cutoff=given.cutoff, density_factor=10, bands_distance=given.bands_distance, points_per_atom=0)
    crystals = choose(CrystalSet.load(given.dataset), LabelSettings(), given.count, given.max_cost, given.seed)

    def say(line: str) -> None:
        if not given.json:
            print(line, flush=True)

    say(" ".join(crystals.formulas))
    load = os.getloadavg()[0]  # of others: this run has not begun yet
    ours, engine = by_engine(crystals, recipe, given.workers)
    say(f"engine      {engine}")
    with temporary_profile() as there:
        theirs, chain = by_work_chain(crystals, recipe, given.workers, there["codes"], there["family"])
        say(f"work chain  {chain}")
        from aiida import __version__ as aiida_version
    result = {
        **differences(ours, theirs),
        "engine": engine,
        "work_chain": chain,
        "ratio": round(engine["structures_per_hour"] / chain["structures_per_hour"], 2),
        "overhead_seconds_per_structure": overhead(engine, chain),
        "crystals": {"formulas": crystals.formulas, "rows": crystals.crystal_columns["row"].tolist(),
                     "dataset_sha256": sha256_of(given.dataset), "seed": given.seed, "max_cost": given.max_cost},
        "recipe": json.loads(recipe.text()),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "load_before": round(load, 2),
                    "aiida": aiida_version, "pw": shutil.which("pw.x")},
    }  # fmt: skip
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
