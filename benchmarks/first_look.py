"""How many of the best candidates a first look loses.

    python benchmarks/first_look.py --json --crystals relaxed.npz

Campaigns of many candidates predict in full what is nearest to the target at a first look: one network of the ensemble, and
tight binding on a coarse mesh. Here all crystals are predicted both ways, and ranked by the distances of both from the total
curves of labelled crystals, each of which is a target once. ``lost`` has for the best 5, 10 and 25 by the full prediction which
share of them is not among the nearest k times as many at the first look. The last line is JSON.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.screening.thinning import LOOKED_AT
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import in_batches

PACKAGE = Path(__file__).parents[1] / "aiida_dosmatgen"


def means(crystals: CrystalSet, column: str) -> np.ndarray:
    """Return the mean curve of each crystal's atoms, states/eV/atom."""
    sums = np.add.reduceat(crystals.atom_columns[column], crystals.offsets[:-1], axis=0)
    return sums / crystals.n_atoms[:, None]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=Path, help="the candidates; by default labelled crystals")
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(given.seed)
    labelled = CrystalSet.load(PACKAGE / "datasets" / "debian-pbe" / "labelled.npz")
    candidates = labelled if given.crystals is None else CrystalSet.load(given.crystals)
    chosen = np.sort(rng.permutation(len(candidates))[: given.candidates])
    candidates = candidates[chosen].replace(crystal_columns={}, atom_columns={})
    model, header = load_model(PACKAGE / "models" / "predictor.safetensors", torch.device("cpu"))
    rows = np.arange(len(candidates))
    curves, seconds = {}, {}
    for first_look in (True, False):
        begin, found = time.process_time(), np.zeros((len(rows), header.grid.n))
        for some, predicted in in_batches(model, header, candidates, 64, first_look)(rows):
            found[some] = means(predicted, "predicted_dos")
        curves[first_look], seconds[first_look] = found, (time.process_time() - begin) / len(rows)
    known = np.isfinite(curves[True]).all(1) & np.isfinite(curves[False]).all(1)
    look, full = curves[True][known], curves[False][known]
    lost = {top: dict.fromkeys((1, 2, LOOKED_AT, 2 * LOOKED_AT), 0.0) for top in (5, 10, 25)}
    targets = rng.permutation(len(labelled))[: given.targets]
    for target in means(labelled[targets], "dos"):
        places = np.argsort(np.argsort(np.abs(look - target).mean(1)))
        best = np.argsort(np.abs(full - target).mean(1))
        for top, shares in lost.items():
            for k in shares:
                shares[k] += float((places[best[:top]] >= k * top).mean()) / len(targets)
    result = {
        "candidates": len(look),
        "targets": len(targets),
        "cpu_s_first_look": seconds[True],
        "cpu_s_full": seconds[False],
        "mae_first_look": float(np.abs(look - full).mean()),
        "lost": lost,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
