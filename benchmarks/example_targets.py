"""How often the shipped denoiser gives back the crystals behind the example targets: ``python benchmarks/example_targets.py``.

For each target, 100 candidates from pure noise: how many have the composition of the crystal that the target was computed
from, how many its structure (pymatgen's StructureMatcher, before any relaxation), and the median volume over its volume.
All three formulas are in the training set, at other volumes: this tells whether the chain works, not how well it generalises.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import SampleParameters
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.diffusion.sampler import sample

TARGETS = Path(__file__).parents[1] / "examples" / "targets"
CRYSTALS = {"zincblende_SiC": ("Si", "C", 4.38), "zincblende_GaAs": ("Ga", "As", 5.75), "diamond_Ge": ("Ge", "Ge", 5.76)}


def main() -> None:
    """Print one row for each target and guidance scale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=str(files("aiida_dosmatgen") / "models" / "denoiser.safetensors"))
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = load_model(options.checkpoint, dtype=torch.float64)
    matcher = StructureMatcher()
    print("| target | curves | guidance scale | composition | structure | volume ratio |\n|---|---|---|---|---|---|")
    for name, (first, second, a) in CRYSTALS.items():
        crystal = Structure.from_spacegroup(216, Lattice.cubic(a), [first, second], [[0, 0, 0], [0.25] * 3])
        crystal = crystal.get_primitive_structure()
        sites = DosTarget.from_text((TARGETS / f"{name}.csv").read_text(encoding="utf-8"), name)
        for target in (sites, DosTarget(sites.total, "total", 2, sites.complete_below)):
            for scale in (0.0, 0.5, 1.0):
                parameters = SampleParameters(guidance_scale=scale)
                candidates = CrystalSet.concatenate(sample(model, target, parameters, options.seed, range(100)))
                right = [s for s in candidates.to_pymatgen() if s.composition == crystal.composition]
                matches = sum(matcher.fit(s, crystal) for s in right)
                ratio = float(np.median(candidates.volumes) / crystal.volume)
                print(f"| {name} | {target.kind} | {scale:g} | {len(right)} % | {matches} % | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
