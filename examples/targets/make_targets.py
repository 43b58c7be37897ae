"""Compute the example targets with Quantum ESPRESSO: ``python make_targets.py`` (minutes on one core).

Each target is the density of states of a known crystal at its PBE lattice constant, one curve for each site, by the recipe of
the labels with denser k-points. Any other structure does as well: replace the ones below.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of, with_energies
from aiida_dosmatgen.core.dft.pseudodojo import fetch
from aiida_dosmatgen.core.dft.recipe import Recipe
from aiida_dosmatgen.core.dft.upf import read_folder
from aiida_dosmatgen.core.dos import EnergyGrid
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.engine.labelling.label import label_crystal

HALF_HEUSLER = [[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]]
CRYSTALS: dict[str, Atoms] = {
    "zincblende_SiC": bulk("SiC", "zincblende", a=4.38),
    "zincblende_GaAs": bulk("GaAs", "zincblende", a=5.75),
    "rocksalt_PbTe": bulk("PbTe", "rocksalt", a=6.55),
    "half_heusler_NbRuSb": Atoms("NbRuSb", scaled_positions=HALF_HEUSLER, cell=bulk("Cu", a=6.20).cell, pbc=True),
}
RECIPE = Recipe(scf_distance=0.3, bands_distance=0.15)
GRID = EnergyGrid(RECIPE.low, RECIPE.high, len(RECIPE.energies))


def main() -> None:
    """Write one CSV file for each crystal beside this script."""
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder))
        pseudos = read_folder(Path(folder))
        for name, atoms in CRYSTALS.items():
            labelled = label_crystal(CrystalSet.from_ase(atoms), RECIPE, pseudos, dtype=np.float64)
            curves = curves_of(with_energies(labelled, GRID, RECIPE.sigma, "partition")).summed()
            there = (curves.energies >= curves.low) & (curves.energies <= curves.high)
            columns = np.column_stack([curves.energies, *curves.values[:, 0, 0]])[there]
            sites = ",".join(f"{SYMBOLS[z]} (states/eV)" for z in labelled.numbers)
            heading = (
                f"# {name.replace('_', ' ')}: PBE density of states of each site by pw.x and projwfc.x\n"
                "# energies relative to the highest occupied level; divided among the sites, the sum is the total\n"
                f"# sigma: {RECIPE.sigma}\n# meaning: {curves.meaning}\n"
                f"energy (eV),{sites}\n"
            )
            rows = "\n".join(",".join(f"{x:.4f}" for x in row) for row in columns)
            Path(__file__).with_name(f"{name}.csv").write_text(heading + rows + "\n", encoding="utf-8")
            print(f"{name}: {len(columns)} energies from {curves.low:g} to {curves.high:.2f} eV, gap {curves.gap:.2f} eV")


if __name__ == "__main__":
    main()
