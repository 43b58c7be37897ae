"""Candidates per core-second and their distance from the target: our sampler against the reference scheme, in one run.

    python benchmarks/sampling.py --json [--quick]

Both branches generate candidates, from pure noise, for the same held-out crystals: the target is the crystal's calculated
density of states, site by site, and neither of the denoisers nor the predictor has seen a crystal of its formula. Ours is the
shipped denoiser with the few-step solver, both branches of guidance in one stacked batch; the reference is the preset of
``benchmarks/reference.py``. Batches are the same for both: all candidates with one number of atoms. Both run on one thread in
this process, and take turns: the reference is interrupted several times, each time for a whole run of ours. Seconds are CPU
time, medians over the turns; both are warm.

``ratio`` is our number of candidates per core-second over the reference's. ``dos_distance`` is the mean absolute error, in
states/eV/atom, of the DOS that the shipped predictor gives a candidate from that of the target, averaged over candidates and
targets; nothing is relaxed or selected before. A candidate without a prediction (defective) counts with the largest distance
that any candidate has; ``failed`` says how many these are.

The reference has to be trained once (``python benchmarks/reference.py train``; the full run does it where it is missing, which
takes hours). Without it ``--quick`` and ``--untrained-reference`` measure the speed alone; ``dos_distance_reference`` is then
null and the time of a reference step is taken from the first 20 of its 1,000 steps (``reference_extrapolated``).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import reference
import torch
from sampling_report.result import run
from sampling_report.tables import report, rounded
from sampling_report.targets import MODELS

from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.job import SampleParameters

SWEEP = (10, 20, 30, 50, 100)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the result (progress goes to stderr)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller targets, one candidate each; at most 3 minutes")
    parser.add_argument("--reference", type=Path, default=reference.CHECKPOINT)
    parser.add_argument("--untrained-reference", action="store_true", help="measure the speed alone")
    parser.add_argument("--checkpoint", type=Path, default=MODELS / "denoiser.safetensors")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=reference.DATASET)
    parser.add_argument("--targets", type=int, help="held-out crystals")
    parser.add_argument("--max-atoms", type=int, help="of the held-out crystals")
    parser.add_argument("--candidates", type=int, help="ours for each target, over all turns")
    parser.add_argument("--reference-candidates", type=int, help="of both for each target, in each turn")
    parser.add_argument("--steps", type=int, default=SampleParameters().steps, help="of ours")
    parser.add_argument("--guidance-scale", type=float, default=SampleParameters().guidance_scale, help="of ours")
    parser.add_argument("--sweep", type=int, nargs="*", default=SWEEP, help="numbers of steps")
    parser.add_argument("--no-table", action="store_true", help="leave out the table of candidates at a time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of that table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="also write the result here")
    given = parser.parse_args()
    for name, (quick, full) in {
        "targets": (8, 16),
        "max_atoms": (2, 8),
        "candidates": (4, 8),
        "reference_candidates": (1, 2),
    }.items():
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else full)
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    try:
        result = rounded(run(given))
    except ContentError as exception:
        sys.exit(f"{exception}")
    if not given.json:
        report(result)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
