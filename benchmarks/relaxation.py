"""Crystals a minute: batched relaxation against ASE's optimisers one by one, with the same force field, in one run.

    python benchmarks/relaxation.py --json --force-field FILE.model

All relax positions and cell of the same displaced prototype crystals until no force exceeds ``--fmax`` eV/Å and no stress
``--smax`` GPa. The last line is JSON; ``ratio`` is ours over the best of ASE's.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from mace.calculators import MACECalculator

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, RelaxParameters
from aiida_dosmatgen.engine.forcefields import load
from aiida_dosmatgen.engine.prototypes import elemental, generate
from aiida_dosmatgen.engine.relaxation import gather, relax

GPA = 160.21766208
PACKAGE = Path(__file__).parents[1] / "aiida_dosmatgen"


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
            return bool(np.linalg.norm(forces, axis=1).max() < parameters.fmax and np.abs(stress).max() * GPA < parameters.smax)

        def log(self, *_) -> None:
            pass

    energies, converged, calls = [], 0, 0
    start = time.perf_counter()
    for atoms in crystals.to_ase():
        atoms.calc = calculator
        run = SameCriterion(FrechetCellFilter(atoms), logfile=None)
        converged += bool(run.run(fmax=parameters.fmax, steps=parameters.max_steps))
        calls += run.nsteps + 1
        energies.append(atoms.get_potential_energy() / len(atoms))
    return summary(len(crystals), time.perf_counter() - start, converged, energies, calls)


def batched(crystals: CrystalSet, evaluator, parameters: RelaxParameters, batch_size: int | None) -> dict:
    """Relax with the engine."""
    start = time.perf_counter()
    relaxed = gather(crystals, list(relax(crystals, evaluator, parameters, batch_size=batch_size)))
    seconds = time.perf_counter() - start
    columns = relaxed.crystal_columns
    converged = int((columns["status"] == "converged").sum())
    return summary(len(crystals), seconds, converged, columns["energy"] / crystals.n_atoms, int((columns["steps"] + 1).sum()))


def summary(count: int, seconds: float, converged: int, energies, calls: int) -> dict:
    """One line of the result."""
    return {
        "crystals_per_minute": round(60 * count / seconds, 1),
        "seconds": round(seconds, 2),
        "converged": converged,
        "mean_energy": round(float(np.nanmean(energies)), 5),
        "median_energy": round(float(np.nanmedian(energies)), 5),
        "force_calls": calls,
    }


def main() -> None:
    """Run the comparison."""
    shipped = sorted(PACKAGE.glob("**/*.model"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force-field", type=Path, default=shipped[0] if shipped else None, help="a MACE file")
    parser.add_argument("--elements", default="B C N Si Ga As")
    parser.add_argument("--crystals", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--smax", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    given = parser.parse_args()
    if given.force_field is None:
        parser.error("no force field is shipped; give --force-field")
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")

    crystals = displaced_crystals(given.elements.split(), given.crystals, given.seed)
    parameters = RelaxParameters(fmax=given.fmax, smax=given.smax, precision=given.precision)
    file = ForceField(file=str(given.force_field.resolve()))
    evaluator = load(file, Path(), given.device, getattr(torch, given.precision))
    calculator = MACECalculator(model_paths=str(given.force_field), device=given.device, default_dtype=given.precision)
    for _ in range(3):  # the first calls compile
        evaluator.evaluate(crystals[:4])
        atoms = crystals[0].to_ase()[0]
        atoms.calc = calculator
        atoms.get_stress()

    rows = {}
    for name, run in {
        "ours": lambda: batched(crystals, evaluator, parameters, given.batch_size),
        "ASE FIRE": lambda: one_by_one(FIRE, crystals, calculator, parameters),
        "ASE BFGS": lambda: one_by_one(BFGS, crystals, calculator, parameters),
    }.items():
        rows[name] = run()
        if not given.json:
            print(f"{name:9} {rows[name]}", flush=True)
    best = max(rows["ASE FIRE"]["crystals_per_minute"], rows["ASE BFGS"]["crystals_per_minute"])
    result = {
        "ratio": round(rows["ours"]["crystals_per_minute"] / best, 2),
        "crystals": len(crystals),
        "device": given.device,
        "threads": torch.get_num_threads(),
        "precision": given.precision,
        "fmax": given.fmax,
        "smax": given.smax,
        "rows": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
