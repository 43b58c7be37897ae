"""Labels of crystals that are hard to get right: simple metals, magnets, and fields that hardly converge.

For each crystal: whether it is labelled and by which fallback, its gap, its magnetization and moments, what its sites hold, and
with ``dense`` how far the zero of energy is from that on a mesh twice as dense. Records are kept, so that a run that is stopped
continues.

    dosmatgen pseudopotentials build/pseudopotentials
    python benchmarks/label_checks.py --pseudos build/pseudopotentials --records build/label-checks
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.build import bcc100, bulk
from ase.spacegroup import crystal

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.engine.labelling.records import Records

SECONDS = 7200.0


class Case(NamedTuple):
    """A crystal, and whether its zero of energy is compared with that of a denser mesh."""

    name: str
    atoms: Atoms
    dense: bool = False


def _delafossite(metal: str, a: float, c: float, z: float) -> Atoms:
    sites = [(0, 0, 0), (0, 0, 0.5), (0, 0, z)]
    return crystal(["Cu", metal, "O"], sites, spacegroup=166, cellpar=[a, a, c, 90, 90, 120], primitive_cell=True)


def _heusler(a: float) -> Atoms:
    return crystal(
        ["Mn", "Si", "Co"],
        [(0, 0, 0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)],
        spacegroup=225,
        cellpar=[a, a, a, 90, 90, 90],
        primitive_cell=True,
    )


def cases() -> list[Case]:
    """Return the crystals, at lattice constants from experiment."""
    gallium = crystal(
        "Ga", [(0, 0.1539, 0.081)], spacegroup=64, cellpar=[4.5192, 7.6586, 4.5258, 90, 90, 90], primitive_cell=True
    )
    nitrogen = crystal("N", [(0.054, 0.054, 0.054)], spacegroup=205, cellpar=[5.66, 5.66, 5.66, 90, 90, 90])
    oxygen = Atoms("O2", [(3, 3, 3), (3, 3, 4.21)], cell=[6, 6, 7.2], pbc=True)
    slab = bcc100("Fe", (1, 1, 3), a=2.87, vacuum=5.0)
    slab.pbc = True
    return [
        *(Case(symbol, bulk(symbol), dense=True) for symbol in ("Na", "K", "Ca", "Al", "Li")),
        Case("Fe", bulk("Fe", "bcc", a=2.87)),
        Case("NiO", bulk("NiO", "rocksalt", a=4.17)),
        Case("MnO", bulk("MnO", "rocksalt", a=4.44)),
        Case("Co2MnSi", _heusler(5.65)),
        Case("O2 molecule", oxygen),
        Case("alpha-Ga", gallium),
        Case("CuGaO2", _delafossite("Ga", 2.977, 17.171, 0.108)),
        Case("CuRhO2", _delafossite("Rh", 3.076, 17.094, 0.108)),
        Case("N2 crystal", nitrogen),
        Case("Fe slab", slab),
    ]


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pseudos", type=Path, required=True, help="a folder with one UPF file for each element")
    parser.add_argument("--records", type=Path, default=Path("build/label-checks"), help="where labels are kept")
    parser.add_argument("--only", nargs="*", help="names of crystals")
    arguments = parser.parse_args()
    pseudos, recipe = read_folder(arguments.pseudos), Recipe()
    dense = recipe.model_copy(
        update={"bands_distance": recipe.bands_distance / 2, "points_per_atom": 8 * recipe.points_per_atom}
    )
    print("| crystal | status | fallback | gap (eV) | magnetization (μB) | moments (μB) | projected | zero off by (eV) | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases():
        if arguments.only and case.name not in arguments.only:
            continue
        one, start, labels = CrystalSet.from_ase([case.atoms]), time.monotonic(), []
        for settings in (recipe, dense) if case.dense else (recipe,):
            records = Records(arguments.records, settings, pseudos)
            status = records.compute(one, SECONDS, ["pw.x"], ["projwfc.x"])
            labels.append((records.gather(one)[0], status))
        label, status = labels[0]
        if status != "ok":
            print(f"| {case.name} | {status} | | | | | | | {time.monotonic() - start:.0f} |", flush=True)
            continue
        columns = {name: column[0] for name, column in label.crystal_columns.items()}
        moments = " ".join(
            f"{symbol} {float(np.mean([m for _, m in group])):.2f}"
            for symbol, group in itertools.groupby(
                sorted(zip(label.to_ase()[0].symbols, label.atom_columns["moment"], strict=True)), key=lambda pair: pair[0]
            )
        )
        off = ""
        if case.dense and labels[1][1] == "ok":
            off = f"{float(labels[1][0].crystal_columns['zero'][0] - columns['zero']):+.3f}"
        magnetic = recipe.magnetic(list(label.to_ase()[0].symbols))
        print(
            f"| {case.name} | ok | {int(columns['fallback'])} | {columns['gap']:.2f} "
            f"| {columns['magnetization'][0]:.2f} | {moments if magnetic else ''} | {columns['projected']:.3f} | {off} "
            f"| {columns['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
