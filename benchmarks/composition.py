"""Elements by the diffusion, or proposed first: which candidates come nearer to chemistry that a denoiser has not seen?

    python benchmarks/composition.py                                  # the shipped denoiser
    python benchmarks/composition.py --denoiser other.safetensors

Targets are the crystals of the split ``train`` whose chemical systems the denoiser's training held out to validate on, so that
settings are chosen without looking at the test splits. All their curves are given. No DFT: distances are those of the
predicted curves of unrelaxed candidates, in states/eV/atom. Minutes; the last line is JSON.

- ``exact``: share of the candidates with the composition of the target's crystal; ``any``: of targets with such a candidate;
  ``first``: of targets whose nearest candidate is one; ``first_three``: of targets with one among the nearest three.
- ``mean`` and ``best``: distance of the candidates, over targets.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sampling_report.targets import MODELS

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.labelled.splits import split_by_system, without_test
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.training.dataset import hash_of

ROOT = Path(__file__).parents[1]
WAYS: dict[str, dict[str, Any]] = {
    "by the diffusion, w = 0.5": {"guidance_scale": 0.5},
    "16 compositions": {"guidance_scale": 0.5, "compositions": {"count": 16}},
    "64 compositions": {"guidance_scale": 0.5, "compositions": {"count": 64}},
    "64 compositions, made alike (T = 2)": {"guidance_scale": 0.5, "compositions": {"count": 64, "temperature": 2.0}},
}


def held_out(crystals: CrystalSet, header: CheckpointHeader, count: int) -> CrystalSet:
    """Return crystals that a training validated on, of the elements that its model knows."""
    crystals, _ = without_test(crystals)
    rows = split_by_system(crystals, header.training.parameters["validation_fraction"], header.training.seed)[1]
    known = [int(i) for i in rows if {SYMBOLS[z] for z in crystals[int(i)].numbers} <= set(header.elements)]
    return crystals[np.random.default_rng(0).permutation(known)[:count]]


def figures(distances: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Return the figures of a way.

    :param distances: of the candidates from their targets, NaN without a prediction, shape (targets, candidates).
    :param right: whether they have the composition, of the same shape.
    """
    distances = np.where(np.isfinite(distances), distances, np.nanmax(distances))
    nearest = np.take_along_axis(right, np.argsort(distances, 1, kind="stable"), 1)
    return {
        "exact": float(right.mean()),
        "any": float(right.any(1).mean()),
        "first": float(nearest[:, 0].mean()),
        "first_three": float(nearest[:, :3].any(1).mean()),
        "mean": float(distances.mean()),
        "best": float(distances.min(1).mean()),
    }


def main() -> None:
    """Sample, predict, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoiser", type=Path, default=MODELS / "denoiser.safetensors")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=ROOT / "datasets/pseudodojo-pbe", help="the shards it was trained on")
    parser.add_argument("--targets", type=int, default=1000, help="at most")
    parser.add_argument("--candidates", type=int, default=20, help="of each target in each way")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    denoiser, header = load_model(given.denoiser, dtype=torch.float32, kind="denoiser")
    predictor, of_predictor = load_model(given.predictor, kind="predictor")
    if header.training.dataset_sha256 != hash_of(given.dataset, "data set"):
        print(
            "the data set has changed since the denoiser was trained; some of the targets may have been learnt", file=sys.stderr
        )
    crystals = held_out(load_shards(given.dataset), header, given.targets)
    found: dict[str, Any] = {}
    print(f"{len(crystals)} targets, {given.candidates} candidates each\n")
    print("| elements | exact | any | first | of the first three | mean | best |\n|---|---|---|---|---|---|---|")
    for name, changes in WAYS.items():
        shape = (len(crystals), given.candidates)
        distances, right = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        parameters = SampleParameters(precision="float32", **changes)
        for i in range(len(crystals)):
            curves = curves_of(crystals, i)
            wanted = DosTarget(curves.summed())
            drawn = sample(denoiser, DosTarget(curves), parameters, given.seed, range(given.candidates))
            candidates = CrystalSet.concatenate(list(drawn)).replace(crystal_columns={}, atom_columns={})
            predicted = predict(predictor.eval(), of_predictor, candidates)
            for k in range(len(predicted)):
                own = predicted[k]
                right[i, k] = own.compositions[0] == crystals.compositions[i]
                if np.isfinite(own.atom_columns["predicted_dos"]).all():
                    distances[i, k] = wanted.distances(curves_of(own, 0, "predicted_dos"))["mae"]
        row = found[name] = figures(distances, right)
        shares = " | ".join(f"{row[key]:.0%}".replace("%", " %") for key in ("exact", "any", "first", "first_three"))
        print(f"| {name} | {shares} | {row['mean']:.3f} | {row['best']:.3f} |", flush=True)
    print(json.dumps({"targets": len(crystals), "candidates": given.candidates, "ways": found}))


if __name__ == "__main__":
    main()
