"""What the choice of candidates for DFT should weigh, on crystals of unseen chemical systems whose DFT DOS is known.

    python benchmarks/selection.py          # a minute

The DOS of one held-out crystal near equilibrium is the target, others are the candidates: ``--pool`` of them, drawn by chance.
The score is the distance of their predicted DOS (mean of a crystal's atoms); ``k`` are taken by
``core.screening.selection.select``, and the distance of the best one by DFT is averaged over targets and draws. The
last line is JSON: for each pool, k and pair of weights that distance in states/eV/atom.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from ase.units import GPa

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.screening.selection import SelectionWeights, select
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import predict

PACKAGE = Path(__file__).parents[1] / "aiida_dosmatgen"
UNCERTAINTY = (-0.25, 0.0, 0.1, 0.15, 0.25, 0.5)
DIVERSITY = (0.0, 0.1, 0.25, 0.5)


def main() -> None:
    """Run all pairs of weights on the same draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=PACKAGE / "datasets/debian-pbe/labelled.npz")
    parser.add_argument("--predictor", type=Path, default=PACKAGE / "models/predictor.safetensors")
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--draws", type=int, default=3, help="of the candidates of each target")
    parser.add_argument("--pool", type=int, nargs="*", default=[20, 200])
    parser.add_argument("--k", type=int, nargs="*", default=[1, 3, 10])
    parser.add_argument("--compared-below", type=float, default=5.0, help="eV; where all bands are complete")
    parser.add_argument("--largest-stress", type=float, default=40.0, help="of a target, in GPa")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    crystals = CrystalSet.load(given.dataset)
    crystals = crystals[np.flatnonzero(crystals.crystal_columns["split"] == "test-system")]
    model, header = load_model(given.predictor, torch.device("cpu"))
    predicted = predict(model, header, crystals, 64, lambda *_: None)
    compared = given.compared_below >= DEFAULT_GRID.points

    def mean_curves(values: np.ndarray) -> np.ndarray:
        sums = np.add.reduceat(values.astype(np.float64), crystals.offsets[:-1], axis=0)
        return (sums / crystals.n_atoms[:, None])[:, compared]

    by_dft, by_predictor = (mean_curves(c.atom_columns[n]) for c, n in ((crystals, "dos"), (predicted, "predicted_dos")))
    uncertainties = predicted.crystal_columns["predicted_dos_uncertainty"]
    stress = np.abs(crystals.crystal_columns["stress"]).max((1, 2)) / GPa
    rng = np.random.default_rng(given.seed)
    near = np.flatnonzero(stress < given.largest_stress)
    targets = np.repeat(rng.choice(near, min(given.targets, len(near)), replace=False), given.draws)
    rows = []
    for pool in given.pool:
        draws = [rng.choice(np.delete(np.arange(len(crystals)), t), pool, replace=False) for t in targets]
        scores = [np.abs(by_predictor[d] - by_dft[t]).mean(-1) for t, d in zip(targets, draws, strict=True)]
        distances = [np.abs(by_dft[d] - by_dft[t]).mean(-1) for t, d in zip(targets, draws, strict=True)]
        for uncertainty in UNCERTAINTY:
            for diversity in DIVERSITY:
                weights = SelectionWeights(uncertainty=uncertainty, diversity=diversity)
                best = {k: [] for k in given.k}
                for drawn, score, distance in zip(draws, scores, distances, strict=True):
                    taken = select(score, uncertainties[drawn], by_predictor[drawn], max(given.k), weights)
                    for k in given.k:
                        best[k].append(min(distance[one.place] for one in taken[:k]))
                rows += [
                    {"pool": pool, "k": k, **weights.model_dump(), "distance": round(float(np.mean(values)), 4)}
                    for k, values in best.items()
                ]
        for k in given.k:
            here = [row for row in rows if row["pool"] == pool and row["k"] == k]
            first = next(r["distance"] for r in here if r["uncertainty"] == r["diversity"] == 0)
            line = ", ".join(f"{r['uncertainty']:g}/{r['diversity']:g}: {r['distance'] / first:.3f}" for r in here)
            print(f"best of {k} out of {pool}, over that of the first {k} ({first:.4f}): {line}", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
