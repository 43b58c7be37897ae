"""What everything before DFT costs for each candidate, and how it grows with their number.

    python benchmarks/scale.py --json --candidates 4096

Candidates of eight atoms of all elements of the shipped models are sampled without a target, so that hardly two have one
composition, relaxed as campaigns do by default, predicted and screened for a target; each stage is a process of its own, with
one thread. With ``--formula`` (for example Ga4As4) all have one composition, so that each may equal each.

Each stage runs with a sixteenth, a fourth and all of the candidates. Where t = a + b·nᵖ, with a for the start of the process,
the exponent is p = ln((t₃ − t₂)/(t₂ − t₁)) / ln 4. The last line is one JSON object: ``cpu_s_per_candidate``, user and system
time of all stages with all candidates; ``exponent``, the worst of the stages; ``peak_GiB``, the largest resident memory of a
process; and the same by stage. Energies of the elements are computed once before, and not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import yaml

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import parse_formula
from aiida_dosmatgen.core.files.checkpoint_header import read_header
from aiida_dosmatgen.core.screening import ScreenCriteria, screen
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.core.target.files import read_target
from aiida_dosmatgen.core.thermo import elemental_references

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiida_dosmatgen"
MODELS = ("denoiser.safetensors", "predictor.safetensors")
FORCE_FIELD = {"calculator": "chgnet"}
TARGET = ROOT / "examples" / "targets" / "zincblende_GaAs.csv"
STAGES = ("sample", "relax", "predict", "screen")
GIB = 2**20  # in KiB, which is what the kernel counts in
N_ATOMS = 8


def run(command: list[str]) -> tuple[float, float]:
    """Run a process, and return its seconds of CPU and its peak of memory in GiB."""
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"failed with status {status}: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / GIB


def job(folder: Path, kind: str, **content: Any) -> tuple[float, float]:
    """Run a job of the executable on the CPU, with one thread."""
    (folder / "results.json").unlink(missing_ok=True)
    (folder / f"{kind}.json").write_text(json.dumps({"kind": kind, **content}), encoding="utf-8")
    main = "import sys; from aiida_dosmatgen.engine.cli import main; sys.exit(main())"
    options = ["--device", "cpu", "--threads", "1"]
    return run([sys.executable, "-W", "ignore", "-c", main, kind, str(folder / f"{kind}.json"), *options])


def stages(folder: Path, n: int, seed: int, formula: str | None, criteria: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Run all stages for n candidates; those of a smaller number are among those of a larger one."""
    protocol = yaml.safe_load((PACKAGE / "workflows" / "protocols" / "candidates.yaml").read_text(encoding="utf-8"))
    parameters: dict[str, Any] = {"n_atoms": N_ATOMS, "guidance": "none"}
    if formula is not None:
        parameters = {"guidance": "none", "constraints": {"composition": {**parse_formula(formula)}}}
    references = json.loads((folder / "energies.json").read_text(encoding="utf-8"))
    given = {"criteria": criteria, "references": references, "target": "target.npz"}
    relaxation = protocol["default_inputs"]["relax"]["parameters"]
    return {
        "sample": job(folder, "sample", checkpoint="denoiser.safetensors", seed=seed, stop=n, parameters=parameters),
        "relax": job(folder, "relax", crystals="candidates.npz", force_field=FORCE_FIELD, parameters=relaxation),
        "predict": job(folder, "predict", crystals="relaxed.npz", checkpoint="predictor.safetensors", **given),
        "screen": run([sys.executable, __file__, "--screen", str(folder)]),
    }


def screen_folder(folder: Path) -> None:
    """Rank what the job in a folder predicted, as the calcfunction of a campaign does."""
    prediction = json.loads((folder / "predict.json").read_text(encoding="utf-8"))
    left_out = folder / "left_out.npz"
    screened = screen(
        CrystalSet.load(folder / "predicted.npz"),
        prediction["references"],
        DosTarget.load(folder / "target.npz"),
        ScreenCriteria.model_validate(prediction["criteria"]),
        left_out=CrystalSet.load(left_out) if left_out.exists() else None,
    )
    found = {"ranked": len(screened.ranking), "funnel": screened.funnel}
    (folder / "screened.json").write_text(json.dumps(found), encoding="utf-8")


def prepare(folder: Path) -> None:
    """Put models, target and energies of the elements into a folder."""
    for name in MODELS:
        shutil.copy(PACKAGE / "models" / name, folder / name)
    read_target(TARGET).target.save(folder / "target.npz")
    elements = list(read_header(folder / "denoiser.safetensors").elements)
    job(folder, "references", elements=elements, force_field=FORCE_FIELD)
    energies = elemental_references(CrystalSet.load(folder / "references.npz"))
    (folder / "energies.json").write_text(json.dumps(energies), encoding="utf-8")


def measure(n: int, seed: int, formula: str | None, max_ranked: int) -> dict[str, Any]:
    """Return the result for n candidates."""
    sizes = [n // 16, n // 4, n]
    criteria = {"geometries": ["relaxed"], "max_ranked": max_ranked}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        rows = []
        for size in sizes:
            rows.append(stages(folder, size, seed, formula, criteria))
            print(size, {name: [round(x, 2) for x in row] for name, row in rows[-1].items()}, file=sys.stderr, flush=True)
        screened = json.loads((folder / "screened.json").read_text(encoding="utf-8"))
        formulas = len(set(CrystalSet.load(folder / "relaxed.npz").formulas))
    seconds = {name: [row[name][0] for row in rows] for name in STAGES}
    exponents = {name: exponent(*of) for name, of in seconds.items()}
    return {
        "candidates": n,
        "n_atoms": N_ATOMS,
        "formulas": formulas,
        "cpu_s_per_candidate": sum(of[-1] for of in seconds.values()) / n,
        "exponent": max((p for p in exponents.values() if p is not None), default=None),
        "peak_GiB": max(peak for row in rows for _, peak in row.values()),
        "stages": {
            name: {
                "cpu_s": dict(zip(map(str, sizes), np.round(of, 2).tolist(), strict=True)),
                "cpu_s_per_candidate": of[-1] / n,
                "exponent": exponents[name],
                "peak_GiB": max(row[name][1] for row in rows),
            }
            for name, of in seconds.items()
        },
        **screened,
    }


def exponent(first: float, second: float, third: float) -> float | None:
    """Return p of t = a + b·nᵖ at n, 4n and 16n; None if t does not grow."""
    return math.log((third - second) / (second - first), 4) if third > second > first else None


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--formula", help="of all candidates, e.g. Ga4As4; by default they are of all elements")
    parser.add_argument("--max-ranked", type=int, default=ScreenCriteria().max_ranked)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print nothing but the result")
    parser.add_argument("-o", "--output", type=Path, help="write the result there, too")
    parser.add_argument("--screen", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.screen is not None:
        screen_folder(given.screen)
        return
    result = measure(given.candidates, given.seed, given.formula, given.max_ranked)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
