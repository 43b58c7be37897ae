"""How often are the compositions that a denoiser proposes the right ones?

The crystals are those that the checkpoint's training held out to validate on, whole chemical systems of the split ``train``:
the splits that are kept for tests are not looked at. Each is asked for in several ways, with its number of atoms given.

    python benchmarks/proposals.py --denoiser denoiser.safetensors --dataset datasets/pseudodojo-pbe
"""

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job.sample import Compositions
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import split_by_system, without_test
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.proposals import propose

AMONG = (1, 5, 20, 50)


def total_of(curves: Curves) -> DosTarget:
    """Return the target of the mean over the atoms."""
    cell = curves.summed(sites=True)
    return DosTarget(dataclasses.replace(cell, values=cell.values / len(curves)), "total", len(curves))


ASKED: dict[str, tuple[Callable[[Curves], DosTarget], bool]] = {
    "sites and channels": (DosTarget, True),
    "sites": (lambda curves: DosTarget(curves.summed()), True),
    "sites and channels, -10 to 6 eV": (lambda curves: DosTarget(curves.cut(-10, 6)), True),
    "total": (total_of, True),
    "sites and channels, without electrons": (DosTarget, False),
    "total, without electrons": (total_of, False),
}


def main() -> None:
    """Print a table, and as the last line JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoiser", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="the folder of shards that it was trained on")
    parser.add_argument("--targets", type=int, default=1000, help="crystals at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, header = load_model(given.denoiser, kind="denoiser")
    crystals, _ = without_test(load_shards(given.dataset))
    fraction, seed = header.training.parameters["validation_fraction"], header.training.seed
    held_out = split_by_system(crystals, fraction, seed)[1]
    known = [i for i in held_out if {SYMBOLS[z] for z in crystals[int(i)].numbers} <= set(model.elements)]
    chosen = np.random.default_rng(0).permutation(known)[: given.targets]
    result: dict[str, dict[str, float]] = {}
    for name, (ask, electrons) in ASKED.items():
        wanted = Compositions(count=max(AMONG), electrons=electrons)
        places, shared = [], []
        for i in chosen:
            crystal, curves = crystals[int(i)], curves_of(crystals, int(i))
            right = Counter(model.elements.index(SYMBOLS[z]) for z in crystal.numbers)
            found = [Counter(one.elements.tolist()) for one in propose(model, ask(curves), len(curves), wanted)]
            places.append(found.index(right) if right in found else max(AMONG))
            shared.append((found[0] & right).total() / len(curves))
        row = {f"among_{n}": float(np.mean(np.array(places) < n)) for n in AMONG}
        result[name] = {**row, "atoms": float(np.mean(shared)), "n": len(chosen)}
        print(f"{name:40s}", *(f"{key} {value:.3f}" for key, value in result[name].items()), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
