"""What half precision does to a label: crystals of the shards computed again in double precision, and rounded.

    dosmatgen pseudopotentials build/pseudopotentials
    python benchmarks/half_precision.py --pseudos build/pseudopotentials --count 3

The crystals are those whose labels took the least time. ``rounding`` is the difference of a site's curve, spins and channels
summed, in double and in half precision, and ``electrons`` that of the states of the crystal; ``single`` is the same for single
precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.labelled.shards import load_shards, read_manifest
from aiida_dosmatgen.engine.labelling.label import label_crystal

FOLDER = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"


def main() -> None:
    """Compute, round, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pseudos", type=Path, required=True, help="a folder with one UPF file for each element")
    parser.add_argument("--count", type=int, default=3)
    given = parser.parse_args()
    crystals, pseudos = load_shards(FOLDER), read_folder(given.pseudos)
    recipe = Recipe.model_validate(read_manifest(FOLDER)["settings"]["recipe"]).fitted(pseudos.values())
    results = []
    for row in np.argsort(crystals.crystal_columns["seconds"], kind="stable")[: given.count]:
        bare = crystals[int(row)].replace(crystal_columns={}, atom_columns={})
        exact = label_crystal(bare, recipe, pseudos, 3600, dtype=np.float64).atom_columns["dos"]
        one = {"formula": bare.formulas[0], "atoms": len(bare.numbers), "largest_value": float(exact.max())}
        for name, dtype in (("rounding", np.float16), ("single", np.float32)):
            lost = (exact.astype(dtype).astype(np.float64) - exact).sum((1, 2))
            one[name] = {"mean": float(np.abs(lost).mean()), "largest": float(np.abs(lost).max())}
            one[name]["electrons"] = abs(float(lost.sum()) * recipe.spacing)
        stored = crystals[int(row)].atom_columns["dos"].astype(np.float64)
        one["stored_differs_by"] = float(np.abs((stored - exact).sum((1, 2))).max())
        print(json.dumps(one), flush=True)
        results.append(one)
    print(json.dumps({"crystals": results}))


if __name__ == "__main__":
    main()
