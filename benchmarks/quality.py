"""What the shipped models can do, on real crystals of chemical systems that they never saw, up to DFT: the quality report.

    python benchmarks/quality.py            # all: build/quality, benchmarks/results/quality.json; hours, most of them pw.x
    python benchmarks/quality.py --quick    # two targets, four candidates, no pw.x: minutes; build/quality-quick
    python benchmarks/quality.py --page     # docs/quality.md from benchmarks/results/quality.json

Targets are the densities of states of real crystals at rest of the split ``test-final``, by which nothing was chosen.
Candidates start from pure noise. Sampling, predicting, relaxing and labelling are the jobs of ``dosmatgen``, with the
parameters of the campaign's default protocol. Targets are done one after the other; after each the result is written, and a
stopped run continues with the target, and within it with the job, where it was. The last line of the output is JSON of the
key figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from quality_report import page
from quality_report.report import Report
from quality_report.summary import KEYS
from quality_report.work import say
from sampling_report.targets import MODELS

from aiida_dosmatgen.core.errors import ContentError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few targets without pw.x: minutes, to check the installation")
    parser.add_argument("--page", action="store_true", help="only make docs/quality.md from the results")
    parser.add_argument("--dataset", type=Path, default=ROOT / "datasets/pseudodojo-pbe", help="shards, or an npz with splits")
    parser.add_argument("--denoiser", type=Path, default=MODELS / "denoiser.safetensors")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--force-field", default="chgnet", help="a calculator, a file, or mace:NAME")
    parser.add_argument("--split", default="test-final", help="where the targets come from")
    parser.add_argument("--phases", type=Path, help="npz of further known phases for the hull, besides those of the data set")
    parser.add_argument("--allotropes", type=Path, help="npz of labelled crystals of one composition, to tell apart")
    parser.add_argument("--relaxed-by-dft", type=Path, help="JSON of what pw.x made of some of the best: n, distance, …")
    parser.add_argument("--targets", type=int, help="default 40")
    parser.add_argument("--candidates", type=int, help="of each target in each way; default 20")
    parser.add_argument("--max-atoms", type=int, help="of a target; default 20")
    parser.add_argument("--steps", type=int, help="of the sampler; default those of the protocol")
    parser.add_argument("--relax-steps", type=int, help="of the relaxation at most; default those of the protocol")
    parser.add_argument("--dft", action=argparse.BooleanOptionalAction, help="whether pw.x computes the first of the rankings")
    parser.add_argument("--pseudos", type=Path, help="folder of pseudopotentials; default: fetched into --work")
    parser.add_argument("--seconds", type=float, default=1800, help="after which a run of pw.x is given up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of pw.x")
    parser.add_argument("--threads", type=int, help="of torch; default torch's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the networks")
    parser.add_argument("--work", type=Path, help="default build/quality")
    parser.add_argument("-o", "--output", type=Path, help="default benchmarks/results/quality.json, with --quick in --work")
    given = parser.parse_args(argv)
    given.command = " ".join(["python benchmarks/quality.py", *(sys.argv[1:] if argv is None else argv)])
    if given.page and given.quick:
        parser.error("the page is made from a full run; leave --quick or --page out")
    for name, (quick, full) in {
        "targets": (2, 40), "candidates": (4, 20), "max_atoms": (4, 20), "dft": (False, True),
        "work": (ROOT / "build/quality-quick", ROOT / "build/quality"),
    }.items():  # fmt: skip
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else full)
    for name, least in (("targets", 1), ("candidates", 1), ("max_atoms", 2), ("workers", 1)):
        if getattr(given, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    if given.output is None:
        given.output = given.work / "quality.json" if given.quick else RESULTS
    return given


def main() -> None:
    """Run the report, or make its page."""
    given = arguments()
    try:
        if given.page:
            page.write(given.output, ROOT / "docs")
            return
        result = Report(given).run()
    except ContentError as exception:
        sys.exit(f"{exception}")
    say(f"written to {given.output}")
    print(json.dumps({key: result[key] for key in KEYS}))


if __name__ == "__main__":
    main()
