"""Relax crystals with torch-sim: ``python relax_with_torch_sim.py JOB.json``, in an environment that has torch-sim and MACE.

``benchmarks/relaxation.py --peers`` makes that environment and the job. Batches come one after the other, and what
has converged leaves its batch; the criterion is ours. The last line is JSON, one row for each optimiser.
"""

import json
import sys
import time
from pathlib import Path

import ase.io
import torch
import torch_sim as ts
from ase.units import GPa
from torch_sim import neighbors
from torch_sim.models.mace import MaceModel


def main() -> None:
    """Run the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    dtype, device = getattr(torch, job["precision"]), torch.device(job["device"])
    atoms = ase.io.read(job["crystals"], index=":")
    loaded = torch.load(job["force_field"], map_location=device, weights_only=False).to(dtype)
    # the default of torch-sim 0.6.2 allows so few neighbours that compressed crystals exceed them
    model = MaceModel(model=loaded, device=device, dtype=dtype, neighbor_list_fn=getattr(neighbors, job["neighbours"]))

    def done(state, _):
        largest = torch.zeros(state.n_systems, dtype=dtype, device=device)
        largest.scatter_reduce_(0, state.system_idx, state.forces.norm(dim=-1), "amax")
        return (largest < job["fmax"]) & (state.stress.abs().amax((1, 2)) / GPa < job["smax"])

    def relaxed(name, crystals):
        return ts.optimize(
            system=ts.initialize_state(crystals, device=device, dtype=dtype),
            model=model,
            optimizer=ts.Optimizer(name),
            convergence_fn=done,
            max_steps=job["max_steps"],
            steps_between_swaps=1,
            init_kwargs={"cell_filter": ts.CellFilter.frechet},
        )

    rows = {}
    for name in job["optimizers"]:
        relaxed(name, atoms[:2])  # the first calls compile
        wall, cpu = time.perf_counter(), time.process_time()
        states = [relaxed(name, atoms[start : start + job["batch_size"]]) for start in range(0, len(atoms), job["batch_size"])]
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        ends = [end for state in states for end in state.to_atoms()]
        energies = torch.cat([state.energy for state in states]).tolist()
        rows[name] = {
            "seconds": seconds,
            "converged": torch.cat([done(state, None) for state in states]).tolist(),
            "energies": energies,
            "positions": [end.positions.tolist() for end in ends],
            "cells": [end.cell.tolist() for end in ends],
        }
        print(name, seconds, sum(rows[name]["converged"]), file=sys.stderr, flush=True)
    print(json.dumps({"version": ts.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
