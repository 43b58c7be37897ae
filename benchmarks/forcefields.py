"""How well does a force field hold real crystals, and how fast? Minutes, no DFT.

    python benchmarks/forcefields.py                                           # the shipped force field
    python benchmarks/forcefields.py --force-field other.model --split test-system
    python benchmarks/forcefields.py --force-field chgnet --count 150 --json --output results.json

``--force-field`` is a MACE file, the name of a MACE foundation model (``medium-mpa-0``), or that of an ASE calculator
(``chgnet``, ``sevennet``, ``ase.calculators.emt:EMT``), with ``--arguments`` in JSON. Four things are measured on a set of
labelled crystals:

``volume``
    Crystals that others relaxed with PBE (kind ``real``) are relaxed as a campaign relaxes its candidates. ``within_5_percent``
    is the share of those that were tried which converge with a volume within 5 % of where they began; ``known`` the share whose
    elements the force field knows.
``energy``
    MAE in meV/atom to the labels of real crystals, after one constant for each element was fitted (least absolute deviations).
    The constants are fitted to the labels of the split ``train`` and evaluated on the crystals that are asked for.
``forces``
    MAE of the components in eV/Å to the labels of crystals whose largest force exceeds 0.1 eV/Å: real ones that were displaced
    or scaled, and prototypes with other elements. ``median_of_crystals`` is the median of the MAE of each crystal.
``speed``
    Crystals a minute of CPU in the relaxations of ``volume``, with one thread unless OMP_NUM_THREADS says otherwise.
    ``equal_work`` compares force fields that know different elements: milliseconds of CPU to evaluate a crystal of the same
    geometries, with elements that the force field knows, 64 at a time.
``garbage``
    Whether each kind of impossible crystal ends with a status, and good ones beside it as if it were not there.

By default force fields are evaluated on crystals of the split ``train``: one of others has learnt none of them, and what is
chosen by the figures is not chosen by crystals that are kept for tests. Evaluate one that was trained on them with
``--split test-system``.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import Counter
from pathlib import Path

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from force_field_report.errors import energies_after_constants, forces_out_of_equilibrium  # noqa: E402
from force_field_report.garbage import survived  # noqa: E402

from aiida_dosmatgen.core.crystals import CrystalSet  # noqa: E402
from aiida_dosmatgen.core.job import ForceField, RelaxParameters, sha256_of  # noqa: E402
from aiida_dosmatgen.core.labelled.shards import load_shards  # noqa: E402
from aiida_dosmatgen.core.labelled.splits import SPLIT_NAMES  # noqa: E402
from aiida_dosmatgen.engine.relaxation import gather, relax  # noqa: E402
from aiida_dosmatgen.engine.relaxation.forcefields import Evaluator, load  # noqa: E402

ROOT = Path(__file__).parents[1]
PARTS = ("volume", "energy", "forces", "garbage")
RELAX = RelaxParameters(fmax=0.02, smax=0.1, max_steps=300)
"""Of the protocol ``balanced``."""


def force_field_named(name: str, arguments: dict) -> ForceField:
    """Return what a job would say: a file, a foundation model of MACE, or a calculator."""
    path = Path(name).expanduser()
    if path.is_file():
        return ForceField(file=str(path.resolve()), sha256=sha256_of(path), arguments=arguments)
    if "-" in name and ":" not in name:
        return ForceField(foundation=name, arguments=arguments)
    return ForceField(calculator=name, arguments=arguments)


def volumes(crystals: CrystalSet, evaluator: Evaluator) -> tuple[dict, dict]:
    """Relax crystals at rest.

    :return: how far they went, and how fast.
    """
    bare = crystals.replace(crystal_columns={}, atom_columns={})
    wall, cpu = time.perf_counter(), time.process_time()
    relaxed = gather(bare, list(relax(bare, evaluator, RELAX)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    status = relaxed.crystal_columns["status"]
    tried, converged = status != "unknown element", status == "converged"
    change, source = relaxed.volumes / crystals.volumes - 1, crystals.crystal_columns["source"]
    count = max(1, int(tried.sum()))
    steps = int((relaxed.crystal_columns["steps"][tried] + 1).sum())
    found = {
        "n": len(crystals),
        "known": float(tried.mean()),
        "within_5_percent": float((converged & (np.abs(change) <= 0.05)).sum() / count),
        "median_change": float(np.median(np.abs(change[tried]))) if tried.any() else None,
        "mean_signed_change": float(np.mean(change[converged])) if converged.any() else None,
        "within_5_percent_by_source": {
            str(name): float((converged & (np.abs(change) <= 0.05) & (source == name)).sum() / (tried & (source == name)).sum())
            for name in np.unique(source[tried])
        },
        "statuses": dict(sorted(Counter(status.tolist()).items())),
        "worst": [
            {"formula": crystals.formulas[i], "volume_change": float(change[i]), "status": str(status[i])}
            for i in np.argsort(-np.where(tried, np.abs(change), -1))[:10]
        ],
    }
    speed = {
        "crystals_per_cpu_minute": 60 * count / cpu,
        "cpu_seconds_per_crystal": cpu / count,
        "wall_seconds_per_crystal": wall / count,
        "calls_per_crystal": steps / count,
        "calls_per_cpu_second": steps / cpu,
        "mean_atoms": float(crystals.n_atoms[tried].mean()) if tried.any() else None,
        "threads": torch.get_num_threads(),
    }
    return found, speed


def equal_work(crystals: CrystalSet, evaluator: Evaluator, repeats: int = 3) -> float:
    """Return the milliseconds of CPU that a crystal takes, whatever its elements are: others are put in their places."""
    known = np.flatnonzero(evaluator.knows(np.arange(1, 84))) + 1
    bare = crystals.replace(numbers=known[crystals.numbers % len(known)], crystal_columns={}, atom_columns={})
    evaluator.evaluate(bare)
    start = time.process_time()
    for _ in range(repeats):
        evaluator.evaluate(bare)
    return 1000 * (time.process_time() - start) / (repeats * len(bare))


def main() -> None:
    """Measure one force field."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force-field", default=str(ROOT / "aiida_dosmatgen/models/forcefield.model"))
    parser.add_argument("--arguments", type=json.loads, default={}, help="of the force field, in JSON")
    parser.add_argument("--dataset", type=Path, default=ROOT / "datasets/pseudodojo-pbe", help="a folder of shards")
    parser.add_argument("--split", nargs="+", choices=SPLIT_NAMES, default=["train"], help="crystals to evaluate on")
    parser.add_argument("--most-atoms", type=int, default=12)
    parser.add_argument("--count", type=int, help="of real crystals, chosen by --seed; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, help="a JSON file of results by name, in which this one is put as well")
    parser.add_argument("--name", help="in that file; default what the force field is called")
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    given = parser.parse_args()
    warnings.simplefilter("ignore")

    evaluator = load(
        force_field_named(given.force_field, given.arguments), Path(), given.device, getattr(torch, given.precision)
    )
    labelled = load_shards(given.dataset)
    evaluated = np.isin(labelled.crystal_columns["split"], given.split) & (labelled.n_atoms <= given.most_atoms)
    real = np.flatnonzero(evaluated & (labelled.crystal_columns["kind"] == "real"))
    if given.count is not None and given.count < len(real):
        real = np.sort(np.random.default_rng(given.seed).permutation(real)[: given.count])
    result: dict = {
        "force_field": evaluator.description,
        "sha256": evaluator.sha256,
        "splits": given.split,
        "precision": given.precision,
        "fmax": RELAX.fmax,
        "smax": RELAX.smax,
    }
    if "volume" in given.parts:
        few = labelled[real[:4]].replace(crystal_columns={}, atom_columns={})
        list(relax(few, evaluator, RELAX.model_copy(update={"max_steps": 2})))  # the first calls compile
        result["volume"], result["speed"] = volumes(labelled[real], evaluator)
        result["speed"]["equal_work"] = equal_work(labelled[np.flatnonzero(evaluated)[:64]], evaluator)
    if "energy" in given.parts:
        result["energy"] = energies_after_constants(labelled, evaluated, evaluator)
    if "forces" in given.parts:
        result["forces"] = forces_out_of_equilibrium(labelled[np.flatnonzero(evaluated)], evaluator)
    if "garbage" in given.parts:
        result["garbage"] = survived(evaluator)
    result = rounded(result)
    if given.output is not None:
        keep(given.output, given.name or evaluator.description, result)
    if not given.json:
        for key, value in result.items():
            print(f"{key:12} {value}")
    print(json.dumps(result))


def keep(path: Path, name: str, result: dict) -> None:
    """Put a result into a file of results; parts that were measured before stay."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[name] = known.get(name, {}) | result
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def rounded(value):
    """Round all numbers to four digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
