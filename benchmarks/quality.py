"""What the shipped models can do, on crystals of chemical systems that they have never seen, up to DFT: the quality report.

    python benchmarks/quality.py            # all: build/quality, benchmarks/results/quality.json; hours, most of them pw.x
    python benchmarks/quality.py --quick    # a few targets, a few candidates, two pw.x runs: minutes; build/quality-quick
    python benchmarks/quality.py --page     # docs/quality.md and its plots from benchmarks/results/quality.json

A stopped run continues when it is started again: candidates, predictions, relaxations and pw.x records are cached under
``--work``, named by all that they depend on. ``--dft 0`` leaves pw.x out, and a later run adds it.

Targets are the calculated densities of states of held-out crystals (split ``test-system``), near to equilibrium; candidates
start from pure noise and have the target's number of atoms. The default mode asks for site curves with the sampling
parameters of the campaign's default protocol; relaxation and ranking are those of that protocol, too. The last line of the
output is JSON of the key figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from quality_report import page
from quality_report.modes import CLASSIFIER_SCALES, SCALES
from quality_report.report import KEYS, Report
from quality_report.work import dumps, say
from sampling_report.targets import MODELS

from aiida_dosmatgen.core.errors import ContentError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few targets: minutes, to see that all works")
    parser.add_argument("--page", action="store_true", help="only make docs/quality.md and its plots from the results")
    parser.add_argument("--dataset", type=Path, default=ROOT / "aiida_dosmatgen/datasets/debian-pbe/labelled.npz")
    for name, file in (("denoiser", "denoiser.safetensors"), ("classifier", "classifier.safetensors"),
                       ("predictor", "predictor.safetensors"), ("force-field", "forcefield.model")):  # fmt: skip
        parser.add_argument(f"--{name}", type=Path, default=MODELS / file)
    parser.add_argument("--split", default="test-system", help="where the targets come from")
    parser.add_argument("--targets", type=int, help="default 40")
    parser.add_argument("--candidates", type=int, help="of each target in each mode; default 20")
    parser.add_argument("--max-atoms", type=int, help="of a target; default 12")
    parser.add_argument("--steps", type=int, help="of the sampler; default those of the protocol")
    parser.add_argument("--scales", type=float, nargs="*", help="of classifier-free guidance")
    parser.add_argument("--classifier-scales", type=float, nargs="*")
    parser.add_argument("--dft", type=int, help="targets whose best candidates go to pw.x, two runs each; default 40")
    parser.add_argument(
        "--route", choices=("campaign", "all"), default="campaign",
        help="what goes to pw.x: the best as a campaign ranks them, or also the best relaxed and the best unrelaxed ones",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1200, help="after which a run of pw.x is given up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of pw.x, and of the surrogate")
    parser.add_argument("--threads", type=int, help="of torch; default torch's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the sampler")
    parser.add_argument("--work", type=Path, help="default build/quality")
    parser.add_argument("-o", "--output", type=Path, help="default benchmarks/results/quality.json, with --quick in --work")
    given = parser.parse_args(argv)
    given.command = " ".join(["python benchmarks/quality.py", *(sys.argv[1:] if argv is None else argv)])
    if given.page and given.quick:
        parser.error("the page is made from a full run; leave --quick or --page out")
    for name, (quick, full) in {
        "targets": (4, 40), "candidates": (4, 20), "max_atoms": (2, 12), "dft": (1, 40), "scales": ((0.0, 2.0), SCALES),
        "classifier_scales": ((1.0,), CLASSIFIER_SCALES), "work": (ROOT / "build/quality-quick", ROOT / "build/quality"),
    }.items():  # fmt: skip
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else full)
    for name, least in (("targets", 1), ("candidates", 1), ("max_atoms", 2), ("dft", 0), ("workers", 1)):
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
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(dumps(result), encoding="utf-8")
    say(f"written to {given.output}")
    print(json.dumps({key: result[key] for key in KEYS}))


if __name__ == "__main__":
    main()
