"""Labels drawn at random from the shards, computed again on denser meshes with a higher cutoff: how far off the labels are.

Errors are mean absolute differences of site curves in states/eV/atom (``core.curves.compare``). A stopped run continues.

    dosmatgen pseudopotentials build/pseudopotentials
    python benchmarks/label_repeat.py --pseudos build/pseudopotentials --records build/label-repeat
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.curves import compare
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.labelled.shards import load_shards, names_of, read_manifest
from aiida_dosmatgen.engine.labelling.records import Records

SHARDS = Path(__file__).parents[1] / "datasets" / "pseudodojo-pbe"
DENSER = {"cutoff": 90.0, "scf_distance": 0.35, "bands_distance": 0.17, "points_per_atom": 2400.0}
SECONDS = 7200.0


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pseudos", type=Path, required=True, help="a folder with one UPF file for each element")
    parser.add_argument("--records", type=Path, default=Path("build/label-repeat"), help="where labels are kept")
    parser.add_argument("--shards", type=Path, default=SHARDS, help="the folder of the shards")
    parser.add_argument("-n", type=int, default=10, help="how many labels")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    arguments = parser.parse_args()
    crystals = load_shards(arguments.shards)
    recipe = Recipe.model_validate(read_manifest(arguments.shards)["settings"]["recipe"])
    records = Records(arguments.records, recipe.model_copy(update=DENSER), read_folder(arguments.pseudos))
    names = names_of(crystals)
    errors, zeros = [], []
    print("| crystal | formula | atoms | error | zero off by (eV) | gap (eV) | gap, denser (eV) | moment off by (μB) |")
    print("|---|---|---|---|---|---|---|---|")
    for i in np.random.default_rng(arguments.seed).permutation(len(crystals))[: arguments.n].tolist():
        given = crystals[i]
        bare = given.replace(crystal_columns={}, atom_columns={})
        status = records.compute(bare, SECONDS, ["pw.x"], ["projwfc.x"])
        title = f"| {names[i]} | {given.formulas[0]} | {given.n_atoms[0]}"
        if status != "ok":
            print(f"{title} | {status} |", flush=True)
            continue
        again = records.gather(bare)[0]
        error = compare(curves_of(again), curves_of(given)).mae
        before, after = ({name: column[0] for name, column in one.crystal_columns.items()} for one in (given, again))
        zero, moment = (float(np.ravel(before[name])[-1] - np.ravel(after[name])[-1]) for name in ("zero", "magnetization"))
        errors.append(error)
        zeros.append(abs(zero))
        print(f"{title} | {error:.4f} | {zero:+.3f} | {before['gap']:.2f} | {after['gap']:.2f} | {moment:+.3f} |", flush=True)
    if errors:
        print(f"\n{len(errors)} labels: error {np.mean(errors):.4f} on average, {max(errors):.4f} at most;", end=" ")
        print(f"zero of energy {np.mean(zeros):.3f} eV on average, {max(zeros):.3f} at most")


if __name__ == "__main__":
    main()
