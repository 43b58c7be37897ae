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
import os
import tempfile
from pathlib import Path

import numpy as np
from quality_report.equilibrium import at_rest, compare
from quality_report.ranking import protocol
from quality_report.surrogate import Surrogate
from sampling_report.tables import rounded
from sampling_report.targets import MODELS

from aiida_dosmatgen.core.job import ForceField, sha256_of
from aiida_dosmatgen.engine.training.dataset import load_labelled

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Relax the held-out crystals, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force-field", type=Path, default=MODELS / "forcefield.model")
    parser.add_argument("--predictor", type=Path, default=MODELS / "predictor.safetensors")
    parser.add_argument("--dataset", type=Path, default=ROOT / "aiida_dosmatgen/datasets/debian-pbe/labelled.npz")
    parser.add_argument("--threads", type=int, help="of torch; default torch's own")
    given = parser.parse_args()
    crystals = load_labelled(given.dataset)
    crystals = crystals[at_rest(crystals)]
    force_field = ForceField(file=str(given.force_field.resolve()), sha256=sha256_of(given.force_field))
    split, found = crystals.crystal_columns["split"], {}
    with tempfile.TemporaryDirectory() as folder:
        surrogate = Surrogate(given.predictor, sha256_of(given.predictor), Path(folder), os.cpu_count() or 1)
        for name in np.unique(split):
            some = crystals[np.flatnonzero(split == name)]
            found[str(name)] = compare(some, force_field, protocol().relax, surrogate, Path(folder), given.threads)
    print(json.dumps(rounded(found)))


if __name__ == "__main__":
    main()
