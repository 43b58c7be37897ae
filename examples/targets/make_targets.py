"""Compute the example targets with Quantum ESPRESSO: ``python make_targets.py`` (a minute on one core).

Each target is the per-site DOS of a known crystal at its PBE lattice constant, with cutoffs and k-points finer than the
training labels have. Any other structure does as well: replace the ones below.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase.build import bulk

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.dft.pseudopotentials import collect
from aiida_dosmatgen.core.dos import DEFAULT_GRID
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.core.job import LabelSettings
from aiida_dosmatgen.engine.labelling.pwscf import label_one

CRYSTALS = {
    "zincblende_SiC": bulk("SiC", "zincblende", a=4.38),
    "zincblende_GaAs": bulk("GaAs", "zincblende", a=5.75),
    "diamond_Ge": bulk("Ge", "diamond", a=5.76),
}
SETTINGS = LabelSettings(stringency="normal", kpoints_distance=0.2)


def main() -> None:
    """Write one CSV file for each crystal beside this script."""
    with tempfile.TemporaryDirectory() as folder:
        pseudos = {symbol: path.resolve() for symbol, path in collect(Path(folder)).items()}
        for name, atoms in CRYSTALS.items():
            crystal = label_one(CrystalSet.from_ase(atoms), SETTINGS, pseudos)
            complete = float(crystal.crystal_columns["complete_below"][0])
            energies = DEFAULT_GRID.points
            trusted = energies <= complete
            columns = np.column_stack([energies, *crystal.atom_columns["dos"].astype(float)])[trusted]
            sites = ",".join(f"{SYMBOLS[z]} (states/eV)" for z in crystal.numbers)
            heading = (
                f"# {name.replace('_', ' ')}: PBE per-site DOS by pw.x and projwfc.x, Gaussian broadening {SETTINGS.sigma} eV\n"
                f"# energies relative to the highest occupied level; bands complete below {complete:.2f} eV\n"
                f"# sigma: {SETTINGS.sigma}\n# meaning: projections\n"
                f"energy (eV),{sites}\n"
            )
            rows = "\n".join(",".join(f"{x:.5f}" for x in row) for row in columns)
            Path(__file__).with_name(f"{name}.csv").write_text(heading + rows + "\n", encoding="utf-8")
            print(f"{name}: {len(columns)} energies, complete below {complete:.2f} eV")


if __name__ == "__main__":
    main()
