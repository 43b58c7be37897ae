"""How often a denoiser finds the composition behind curves of chemical systems that it was not trained on; minutes, no DFT.

    python benchmarks/composition.py                                  # the shipped denoiser
    python benchmarks/composition.py --denoiser other.safetensors

Targets are crystals of the split ``train`` whose systems every training of the shipped jobs holds out, so that models can be
compared and settings chosen without looking at the test splits. The last line is JSON: the share of exact compositions
and of atoms whose element is right, and the DOS distance by the surrogate of the candidates, mean and best, in states/eV/atom.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from quality_report.candidates import STRIDE, Models, batch
from quality_report.modes import Mode, Wish
from quality_report.surrogate import composition_right, distances
from sampling_report.targets import MODELS, targets_of

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import Composition
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.labelled.splits import split_by_system, without_test
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.candidates import batches
from aiida_dosmatgen.engine.prediction.predict import predict
from aiida_dosmatgen.engine.training.dataset import load_labelled

ROOT = Path(__file__).parents[1]


def held_out(dataset: Path, fraction: float, seed: int, count: int, max_atoms: int) -> CrystalSet:
    """Return compounds of the systems that trainings hold out, one of a composition in a prototype."""
    crystals, _ = without_test(load_labelled(dataset))
    crystals = crystals[split_by_system(crystals, fraction, seed)[1]]
    chosen: dict[tuple[Composition, str], int] = {}
    for index in np.random.default_rng(0).permutation(len(crystals)):
        if 2 <= crystals.n_atoms[index] <= max_atoms:
            chosen.setdefault((crystals.compositions[index], str(crystals.crystal_columns["prototype"][index])), int(index))
    return crystals[sorted(chosen.values())[:count]]


def atoms_right(candidate: CrystalSet, target: CrystalSet) -> float:
    """Return the share of the atoms that both have, whatever their order."""
    common = Counter(candidate.numbers.tolist()) & Counter(target.numbers.tolist())
    return common.total() / len(target.numbers)


def main() -> None:
    """Sample, evaluate, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--denoiser", type=Path, default=MODELS / "denoiser.safetensors")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=ROOT / "aiida_dosmatgen/datasets/debian-pbe/labelled.npz")
    parser.add_argument("--fraction", type=float, default=0.05, help="validation_fraction of the training")
    parser.add_argument("--training-seed", type=int, default=1)
    parser.add_argument("--targets", type=int, default=48)
    parser.add_argument("--max-atoms", type=int, default=6)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--scale", type=float, default=0.5, help="of classifier-free guidance")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    crystals = held_out(given.dataset, given.fraction, given.training_seed, given.targets, given.max_atoms)
    targets = targets_of(crystals)
    denoiser, _ = load_model(given.denoiser, dtype=torch.float32, kind="denoiser")
    predictor, header = load_model(given.predictor, kind="predictor")
    wishes = [Wish(int(n), t, t) for n, t in zip(crystals.n_atoms, targets, strict=True)]
    mode = Mode("sites", "", "", SampleParameters(guidance_scale=given.scale, precision="float32"), wishes)
    numbers = [STRIDE * i + k for i in range(len(crystals)) for k in range(given.candidates)]
    sizes = [wishes[i // STRIDE].n_atoms for i in numbers]
    models = Models(denoiser, None, ("", ""))
    parts = [batch(models, mode, n, members, given.seed) for n, members in batches(numbers, sizes, None, denoiser.device)]
    found = CrystalSet.concatenate(parts)
    found = found[np.argsort(found.crystal_columns["candidate"])]
    wanted = found.crystal_columns["target"]
    predicted = predict(predictor, header, found.replace(crystal_columns={}, atom_columns={}))
    distance = distances(predicted, wanted, targets)
    distance = np.where(np.isfinite(distance), distance, np.nanmax(distance)).reshape(len(crystals), -1)
    result = {
        "composition": float(composition_right(found, wanted, crystals).mean()),
        "atoms": float(np.mean([atoms_right(c, crystals[int(i)]) for c, i in zip(found, wanted, strict=True)])),
        "mean_distance": float(distance.mean()),
        "best_distance": float(distance.min(1).mean()),
        "targets": len(crystals),
        "candidates": given.candidates,
        "scale": given.scale,
    }
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}))


if __name__ == "__main__":
    main()
