"""Crystals a minute: batched relaxation against ASE's optimisers one by one, with the same force field, in one run.

    python benchmarks/relaxation.py --json --output benchmarks/results/relaxation.json

All relax positions and cell of the same displaced prototype crystals until no force exceeds ``--fmax`` eV/Å and no stress
``--smax`` GPa, with one thread unless OMP_NUM_THREADS and its like say otherwise. The load of a machine changes while this
runs, so ours runs once beside each of ASE's optimisers, and the median counts; seconds of CPU are stated as well. Crystals that
we relaxed are then displaced by less than 0.1 Å and relaxed by both, and the energies compared.

Different optimisers end in different minima, so mean and median energies are compared, over the crystals that all of them leave
as crystals: a force field has spurious minima where atoms overlap, and one that falls into such a minimum, as ``in_holes``
counts, gains energies that mean nothing. Other minima are atoms that no longer touch; such crystals, which the engine ends as
``exploded``, meet the criterion all the same: ``converged`` counts them in all rows, and ``isolated`` says how many they are.
Force calls of ASE's are its steps: a line search makes several calls in each. The last line is JSON; ``ratio`` is ours over the
best of ASE's, in crystals a minute, and ``ratio_cpu`` the same in seconds of CPU.

With ``--peers`` the same crystals are relaxed by torch-sim, too, with the same criterion, in an environment of its own below
``build/peers``, which this makes with a Python of 3.12 or later; ``ratio_peers`` and ``ratio_peers_cpu`` are to the best of its
optimisers. It counts no force calls.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

# Threads that wait for each other in the small matrix functions of ASE's filters make ASE several times slower
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import ase.io  # noqa: E402
import mace  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.filters import FrechetCellFilter  # noqa: E402
from ase.optimize import BFGS, FIRE, LBFGS, BFGSLineSearch  # noqa: E402
from ase.units import GPa  # noqa: E402
from mace.calculators import MACECalculator  # noqa: E402

from aiida_dosmatgen.core.contacts import closest_contacts  # noqa: E402
from aiida_dosmatgen.core.crystals import CrystalSet  # noqa: E402
from aiida_dosmatgen.core.job import ForceField, RelaxParameters, sha256_of  # noqa: E402
from aiida_dosmatgen.engine.labelling.prototypes import elemental, generate  # noqa: E402
from aiida_dosmatgen.engine.relaxation import gather, relax  # noqa: E402
from aiida_dosmatgen.engine.relaxation.forcefields import load  # noqa: E402

HOLE = 0.3  # distance over the sum of covalent radii, below which atoms lie on each other
ISOLATED = 1.8  # the same, above which they do not touch
OPTIMIZERS = {"BFGSLineSearch": BFGSLineSearch, "BFGS": BFGS, "FIRE": FIRE, "LBFGS": LBFGS}
PACKAGE = Path(__file__).parents[1] / "aiida_dosmatgen"
PEERS = Path(__file__).parents[1] / "build" / "peers"
TORCH_SIM = "torch-sim-atomistic==0.6.2"
PEER_OPTIMIZERS = ("lbfgs", "fire", "bfgs")


def displaced_crystals(elements: list[str], count: int, seed: int) -> CrystalSet:
    """Strained and displaced prototypes; the unstrained elemental ones, which come first, are left out."""
    unstrained = sum(len(elemental(symbol)) for symbol in elements)
    return generate(elements, unstrained + count, seed)[unstrained:]


def one_by_one(optimizer, crystals: CrystalSet, calculator, parameters: RelaxParameters) -> dict:
    """Relax with an ASE optimiser; its criterion is replaced by ours, so that all stop at the same point."""

    class SameCriterion(optimizer):
        def converged(self, gradient=None) -> bool:
            atoms = self.optimizable.atoms.atoms if hasattr(self, "optimizable") else self.atoms.atoms
            forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
            return bool(np.linalg.norm(forces, axis=1).max() < parameters.fmax and np.abs(stress).max() / GPa < parameters.smax)

        def log(self, *_) -> None:
            pass

    energies, converged, calls, isolated = [], 0, 0, 0
    start, cpu = time.perf_counter(), time.process_time()
    for atoms in crystals.to_ase():
        atoms.calc = calculator
        run = SameCriterion(FrechetCellFilter(atoms), logfile=None)
        try:
            done = run.run(fmax=parameters.fmax, steps=parameters.max_steps)
        except RuntimeError as exception:  # a line search that finds nothing
            print(f"{optimizer.__name__}: {exception}", file=sys.stderr)
            done = False
        converged += bool(done)
        calls += run.nsteps + 1
        contact = closest_contacts(CrystalSet.from_ase(atoms))[0]
        isolated += bool(done and contact > ISOLATED)
        energies.append(np.nan if contact < HOLE else atoms.get_potential_energy() / len(atoms))
    seconds = (time.perf_counter() - start, time.process_time() - cpu)
    return summary(len(crystals), seconds, converged, calls, isolated) | {"energies": np.array(energies)}


def batched(crystals: CrystalSet, evaluator, parameters: RelaxParameters, batch_size: int | None) -> tuple[dict, CrystalSet]:
    """Relax with the engine."""
    start, cpu = time.perf_counter(), time.process_time()
    relaxed = gather(crystals, list(relax(crystals, evaluator, parameters, batch_size=batch_size)))
    seconds = (time.perf_counter() - start, time.process_time() - cpu)
    columns = relaxed.crystal_columns
    contacts = closest_contacts(relaxed)
    criterion = (columns["fmax"] < parameters.fmax) & (np.abs(columns["stress"]).max((1, 2)) / GPa < parameters.smax)
    isolated = criterion & (columns["status"] == "exploded") & (contacts > ISOLATED)
    converged = isolated | (columns["status"] == "converged")
    row = summary(len(crystals), seconds, int(converged.sum()), int((columns["steps"] + 1).sum()), int(isolated.sum()))
    energies = np.where(contacts < HOLE, np.nan, columns["energy"] / crystals.n_atoms)
    return row | {"energies": energies}, relaxed


def environment(python: str | None) -> Path:
    """Make the environment of the peers if it is not there, and return its Python.

    :param python: to make it with; by default the first of python3.12 … python3.14 that is found.
    """
    made = PEERS / "bin" / "python"
    if not made.exists():
        python = python or next(filter(None, (shutil.which(f"python3.{minor}") for minor in (12, 13, 14))), None)
        if python is None:
            raise SystemExit("--peers: torch-sim needs Python 3.12 or later; name one with --python")
        subprocess.run([python, "-m", "venv", str(PEERS)], check=True)
        pip = [str(made), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"torch=={torch.__version__.partition('+')[0]}"], check=True, stdout=sys.stderr)
        subprocess.run([*pip, TORCH_SIM, f"mace-torch=={mace.__version__}"], check=True, stdout=sys.stderr)
    return made


def peers(crystals: CrystalSet, given: argparse.Namespace, parameters: RelaxParameters) -> dict[str, dict]:
    """Relax with each optimiser of torch-sim."""
    script = Path(__file__).parent / "peers" / "relax_with_torch_sim.py"
    with tempfile.TemporaryDirectory() as place:
        ase.io.write(f"{place}/crystals.extxyz", crystals.to_ase())
        job = {
            "crystals": f"{place}/crystals.extxyz",
            "force_field": str(given.force_field.resolve()),
            "optimizers": PEER_OPTIMIZERS,
            "batch_size": given.batch_size or 64,
            "max_steps": parameters.max_steps,
            "neighbours": "torch_nl_linked_cell",
            **{name: getattr(given, name) for name in ("precision", "device", "fmax", "smax")},
        }
        Path(place, "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [str(environment(given.python)), "-W", "ignore", str(script), f"{place}/job.json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows = {}
    for name, row in json.loads(done.stdout.splitlines()[-1])["rows"].items():
        ends = CrystalSet.from_ase(
            [
                Atoms(atoms.numbers, positions=positions, cell=cell, pbc=True)
                for atoms, positions, cell in zip(crystals.to_ase(), row["positions"], row["cells"], strict=True)
            ]
        )
        contacts, converged = closest_contacts(ends), np.array(row["converged"])
        isolated = int((converged & (contacts > ISOLATED)).sum())
        energies = np.where(contacts < HOLE, np.nan, np.array(row["energies"]) / crystals.n_atoms)
        line = summary(len(crystals), row["seconds"], int(converged.sum()), None, isolated)
        rows[f"torch-sim {name}"] = line | {"energies": energies}
    return rows


def summary(count: int, seconds: tuple[float, float], converged: int, calls: int | None, isolated: int) -> dict:
    """One line of the result."""
    wall, cpu = seconds
    return {
        "crystals_per_minute": round(60 * count / wall, 1),
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "converged": converged,
        "isolated": isolated,
        "force_calls": calls,
    }


def settle(rows: dict[str, dict]) -> dict[str, dict]:
    """Replace the energies of all lines, in eV/atom, by mean and median over the crystals that have one in each line."""
    common = np.isfinite([row["energies"] for row in rows.values()]).all(0)
    settled = {}
    for name, row in rows.items():
        energies = row["energies"]
        settled[name] = {key: value for key, value in row.items() if key != "energies"} | {
            "in_holes": int((~np.isfinite(energies)).sum()),
            "mean_energy": round(float(energies[common].mean()), 5),
            "median_energy": round(float(np.median(energies[common])), 5),
        }
    return settled


def near_minima(relaxed: CrystalSet, count: int, evaluator, calculator, parameters: RelaxParameters, seed: int) -> dict:
    """Compare energies of ours and of ASE's BFGS from starts within 0.1 Å of minima.

    Prototypes often relax to saddle points, where their symmetry holds them. So they are displaced and relaxed by ours first,
    and those ends, which have no symmetry to keep, are the minima.
    """
    rng = np.random.default_rng(seed)
    tight = parameters.model_copy(update={"fmax": 0.02, "smax": 0.2})
    ends = relaxed[np.flatnonzero(relaxed.crystal_columns["status"] == "converged")[:count]]
    _, minima = batched(_displaced(ends, rng), evaluator, tight, None)
    starts = _displaced(minima, rng)
    ours, _ = batched(starts, evaluator, tight, None)
    theirs = one_by_one(BFGS, starts, calculator, tight)
    difference = 1000 * np.abs(ours["energies"] - theirs["energies"])
    return {
        "crystals": len(starts),
        "fmax": tight.fmax,
        "within_1_mev_per_atom": int((difference < 1).sum()),
        "median_difference_mev_per_atom": round(float(np.median(difference)), 4),
        "largest_difference_mev_per_atom": round(float(difference.max()), 3),
        "converged": [ours["converged"], theirs["converged"]],
    }


def _displaced(crystals: CrystalSet, rng: np.random.Generator) -> CrystalSet:
    """Move each atom by less than 0.1 Å."""
    moves = rng.normal(size=crystals.fractional.shape)
    moves *= rng.uniform(0, 0.1, (len(moves), 1)) / np.linalg.norm(moves, axis=1, keepdims=True)
    inverse = np.linalg.inv(crystals.lattices)[crystals.crystal_of_atom]
    fractional = crystals.fractional + np.einsum("ni,nij->nj", moves, inverse)
    return CrystalSet(crystals.n_atoms, crystals.numbers, fractional, crystals.lattices)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force-field", type=Path, default=PACKAGE / "models" / "forcefield.model", help="a MACE file")
    parser.add_argument("--elements", default="B C N Si Ga As")
    parser.add_argument("--crystals", type=int, default=256)
    parser.add_argument("--near-minima", type=int, default=32, help="crystals that start within 0.1 Å of a minimum")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--smax", type=float, default=0.5)
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--peers", action="store_true", help="compare with torch-sim, too")
    parser.add_argument("--python", help="of 3.12 or later, to make the environment of the peers with")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="write the result here as well, after each optimiser")
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    given = parser.parse_args()
    warnings.simplefilter("ignore")

    crystals = displaced_crystals(given.elements.split(), given.crystals, given.seed)
    parameters = RelaxParameters(fmax=given.fmax, smax=given.smax, precision=given.precision)
    file = ForceField(file=str(given.force_field.resolve()), sha256=sha256_of(given.force_field))
    evaluator = load(file, Path(), given.device, getattr(torch, given.precision))
    calculator = MACECalculator(model_paths=str(given.force_field), device=given.device, default_dtype=given.precision)
    for _ in range(3):  # the first calls compile
        evaluator.evaluate(crystals[:4])
        atoms = crystals[0].to_ase()[0]
        atoms.calc = calculator
        atoms.get_stress()

    result = {
        "ratio": None,
        "ratio_cpu": None,
        "crystals": len(crystals),
        "mean_atoms": round(float(crystals.n_atoms.mean()), 2),
        "device": given.device,
        "threads": torch.get_num_threads(),
        "precision": given.precision,
        "fmax": given.fmax,
        "smax": given.smax,
        "rows": {},
    }

    others = peers(crystals, given, parameters) if given.peers else {}
    rows: dict[str, dict] = {}
    ours: list[dict] = []
    for name in given.optimizers:
        row, relaxed = batched(crystals, evaluator, parameters, given.batch_size)
        ours.append(row)
        rows["ours"] = sorted(ours, key=lambda r: r["seconds"])[len(ours) // 2]
        if "near_minima" not in result:
            result["near_minima"] = near_minima(relaxed, given.near_minima, evaluator, calculator, parameters, given.seed)
        rows[f"ASE {name}"] = one_by_one(OPTIMIZERS[name], crystals, calculator, parameters)
        theirs = [row for n, row in rows.items() if n != "ours"]
        for key, quantity in {"ratio": "seconds", "ratio_cpu": "cpu_seconds"}.items():
            result[key] = round(min(r[quantity] for r in theirs) / rows["ours"][quantity], 2)
            if others:
                result[f"{key.replace('ratio', 'ratio_peers')}"] = round(
                    min(r[quantity] for r in others.values()) / rows["ours"][quantity], 2
                )
        result["rows"] = settle(rows | others)
        if not given.json:
            print(f"{name:18} {result['rows'][f'ASE {name}']}\n{'ours':18} {result['rows']['ours']}", flush=True)
        if given.output is not None:
            given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
