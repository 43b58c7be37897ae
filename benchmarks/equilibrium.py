"""Does a force field leave crystals where pw.x finds them at rest? A minute, no DFT.

    python benchmarks/equilibrium.py                               # the shipped force field
    python benchmarks/equilibrium.py --force-field other.model

Crystals whose pressure by pw.x is below 3 GPa and whose forces are below 0.3 eV/Å are relaxed as a campaign relaxes its
candidates. A force field as good as pw.x moves them little: their volumes stay within some per cent. The last line is JSON, for
each split: ``median_change`` of the volume, the shares ``within_10_percent`` and ``swollen`` (by more than 30 %), and how far
the predicted DOS is from that of pw.x before and after, in states/eV/atom.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sampling
from quality_report.judging import distances
from quality_report.ranking import displacements, protocol, relaxed
from quality_report.targets import GPA, near_equilibrium

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.dataset import load_labelled
from aiida_dosmatgen.engine.predictors import predict

ROOT = Path(__file__).parents[1]
LARGEST_PRESSURE, LARGEST_FORCE = 3.0, 0.3  # GPa, eV/Å


def compare(crystals: CrystalSet, force_field: ForceField, predictor: Path, threads: int | None) -> dict[str, Any]:
    """Relax labelled crystals, and say how far they went."""
    bare = crystals.replace(crystal_columns={}, atom_columns={})
    with tempfile.TemporaryDirectory() as folder:
        after, _ = relaxed(bare, force_field, protocol().relax, Path(folder), threads)
    model, header = load_model(predictor, kind="predictor")
    targets, wanted = sampling.targets_of(crystals), np.arange(len(crystals))
    before_and_after = [
        np.nanmean(distances(these, predict(model, header, these).atom_columns["predicted_dos"], wanted, targets))
        for these in (bare, after.replace(crystal_columns={}, atom_columns={}))
    ]
    ratio = after.volumes / crystals.volumes
    return {
        "n": len(crystals),
        "median_change": float(np.median(np.abs(ratio - 1))),
        "within_10_percent": float((np.abs(ratio - 1) <= 0.1).mean()),
        "swollen": float((ratio > 1.3).mean()),
        "displacement_median": float(np.median(displacements(bare, after))),
        "dos_distance_before": float(before_and_after[0]),
        "dos_distance_after": float(before_and_after[1]),
    }


def main() -> None:
    """Relax the held-out crystals, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force-field", type=Path, default=sampling.MODELS / "forcefield.model")
    parser.add_argument("--predictor", type=Path, default=sampling.MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=ROOT / "aiida_dosmatgen/datasets/debian-pbe/labelled.npz")
    parser.add_argument("--threads", type=int, help="of torch; default torch's own")
    given = parser.parse_args()
    crystals = load_labelled(given.dataset)
    rest = near_equilibrium(crystals, LARGEST_FORCE, LARGEST_PRESSURE * GPA)
    force_field = ForceField(file=str(given.force_field.resolve()), sha256=sha256_of(given.force_field))
    split = crystals.crystal_columns["split"]
    found = {
        str(name): compare(crystals[np.flatnonzero(rest & (split == name))], force_field, given.predictor, given.threads)
        for name in np.unique(split)
    }
    print(json.dumps(sampling.rounded(found)))


if __name__ == "__main__":
    main()
