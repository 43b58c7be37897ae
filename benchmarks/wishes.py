"""What wishes are worth: ``python benchmarks/wishes.py``, five minutes on one core.

First, the gap as it is read from curves (``core/target/wishes.py``, ``empty_above_zero``) against that of the calculation, for
all labels of ``datasets/pseudodojo-pbe``. Second, for some wishes, candidates from pure noise: without a target, conditioned on
the curve that is made of the wish, and guided by the classifier. Of their predicted curves, unrelaxed: how many meet the wish,
and by how many tolerances it is missed in the median.
"""

from __future__ import annotations

import argparse
import itertools
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curves import Curves
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.labelled.shards import load_shards
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.distances import measured_wishes
from aiida_dosmatgen.core.target.measuring import empty_above_zero
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.sampler import sample
from aiida_dosmatgen.engine.prediction.predict import predict

LABELS = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"
WISHES = (
    "gap >= 2",
    "gap = 0",
    "nothing from 1 to 4",
    "states from -2 to 0: 3 +- 0.3",
    "states from -4 to 0: <= 1",
    "peak at -3 +- 0.2",
    "band centre -2 from -8 to 0",
)
WAYS = {
    "free": {},
    "conditioned": {"guidance_scale": 0.5},
    "by the classifier": {"guidance": "classifier", "guidance_scale": 10.0},
}


def gaps() -> None:
    """Print how far the gap of curves is from that of the calculation."""
    labels = load_shards(LABELS)
    known, found = [], []
    for row in range(len(labels)):
        curves = curves_of(labels, row)
        if curves.gap is not None:
            known.append(curves.gap)
            found.append(empty_above_zero(curves)[0])
    gap, read = np.array(known), np.array(found)
    off = np.abs(read - gap)
    kinds = {"metals": gap == 0, "gap up to 0.6 eV": (gap > 0) & (gap <= 0.6), "gap above 0.6 eV": gap > 0.6}
    print("| labels | number | mean off (eV) | median off (eV) | read as metals |\n|---|---|---|---|---|")
    for kind, these in kinds.items():
        metals = int(np.sum(read[these] < 0.1))
        print(f"| {kind} | {these.sum()} | {off[these].mean():.2f} | {np.median(off[these]):.2f} | {metals} |", flush=True)


def sampling(count: int, seed: int, wishes: list[str]) -> None:
    """Print what becomes of wishes by each way to sample."""
    models = files("aiida_dosmatgen") / "models"
    denoiser, _ = load_model(str(models / "denoiser.safetensors"), dtype=torch.float32, kind="denoiser")
    classifier, _ = load_model(str(models / "classifier.safetensors"), dtype=torch.float32, kind="classifier")
    predictor, header = load_model(str(models / "predictor.safetensors"), kind="predictor")
    predictor.eval()
    print("| wish | way | met | missed by, median (tolerances) |\n|---|---|---|---|")
    for wish in wishes:
        target = DosTarget.from_wishes([wish])
        for way, changes in WAYS.items():
            parameters = SampleParameters(precision="float32", n_atoms=[2, 4], **changes)
            guides = {"classifier": classifier} if parameters.guidance == "classifier" else {}
            made = sample(denoiser, target if changes else None, parameters, seed, range(count), **guides)
            crystals = predict(predictor, header, CrystalSet.concatenate(list(made)))
            found = [measured_wishes(target.wishes, one) for one in _predicted(crystals)]
            misses = np.median([one["missed"] for one in found])
            met = sum(one["wishes"][0]["met"] is True for one in found)
            print(f"| {wish} | {way} | {met} of {len(found)} | {misses:.1f} |", flush=True)


def _predicted(crystals: CrystalSet) -> list[Curves]:
    offsets = crystals.offsets
    there = [np.isfinite(crystals.atom_columns["predicted_dos"][a:b]).all() for a, b in itertools.pairwise(offsets)]
    return [curves_of(crystals, row, "predicted_dos") for row in np.flatnonzero(there)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=48, help="candidates for each wish and way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wish", action="append", help="instead of the usual ones")
    options = parser.parse_args()
    torch.set_num_threads(1)
    gaps()
    sampling(options.count, options.seed, options.wish or list(WISHES))


if __name__ == "__main__":
    main()
