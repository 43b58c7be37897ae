"""What the settings of a label cost, and how far off they leave the curve: meshes, cutoffs, and interpolation.

For each crystal, against the densest mesh and the highest cutoff that are tried:

- the mesh of the bands, on one density, with states counted at its points and on the interpolated mesh;
- the mesh of the self-consistent run behind it, with the same mesh of the bands;
- the cutoff, with the same two coarse meshes.

Errors are mean absolute differences of site curves in states/eV/atom (``core.curves.compare``) from −10 to 10 eV;
costs are CPU seconds of pw.x and projwfc.x. Each crystal's figures are kept as soon as they are there, and not computed again.

    python benchmarks/label_settings.py --crystals crystals.npz --pseudos FOLDER --records build/label-settings
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curves import Curves, compare
from aiida_dosmatgen.core.dft.bands import Bands, density_of_states
from aiida_dosmatgen.core.dft.recipe import Recipe, bands_namelists, n_bands, scf_namelists
from aiida_dosmatgen.core.dft.settings import kpoints_mesh
from aiida_dosmatgen.core.dft.upf import Upf, read_folder
from aiida_dosmatgen.core.elements import SYMBOLS
from aiida_dosmatgen.engine.labelling.espresso import RunFailure, project, pw_text, read_pw, run
from aiida_dosmatgen.engine.labelling.label import symmetrised

DENSEST, FINEST = 0.14, 0.07
BANDS = (0.35, 0.3, 0.25, 0.2)
DENSITIES = (0.6, 0.5, 0.4, 0.3)
CUTOFFS = (60.0, 66.0, 72.0, 80.0, 90.0)
HIGHEST = 110.0
ENERGIES = np.arange(-10, 10.001, 0.05)
SECONDS = 36000.0


class Crystal:
    """Runs on one crystal in a folder of its own."""

    def __init__(self, crystal: CrystalSet, pseudos: dict[str, Upf], cutoff: float) -> None:
        self.crystal, self.pseudos, self.recipe = crystal, pseudos, Recipe(cutoff=cutoff)
        self.symbols = [SYMBOLS[z] for z in crystal.numbers]
        self.valences = {s: pseudos[s].valence for s in set(self.symbols)}
        self.electrons = sum(self.valences[s] for s in self.symbols)
        self.lattice = crystal.lattices[0]
        self.folder = Path(tempfile.mkdtemp(prefix="label-settings-"))

    def density(self, distance: float) -> float:
        """Run the self-consistent field, and return its CPU seconds."""
        namelists = scf_namelists(self.recipe, self.symbols, self.valences)
        return self._seconds(lambda: self._pw(namelists, kpoints_mesh(self.lattice, distance)))

    def bands(self, distance: float) -> tuple[Bands, float]:
        """Compute the bands from the present density, and return them and their CPU seconds."""
        mesh = kpoints_mesh(self.lattice, distance)
        count = n_bands(self.electrons, len(self.symbols))
        found: list[Bands] = []

        def work() -> None:
            namelists = bands_namelists(self.recipe, self.symbols, self.valences, count)
            try:
                self._pw(namelists, mesh)
            except RunFailure:
                namelists["ELECTRONS"]["diago_david_ndim"] = 2  # pw.x 6.7 has a rare crash in larger spaces
                self._pw(namelists, mesh)
            pw = read_pw(self.folder, self.lattice)
            projections = project(["projwfc.x"], self.folder, len(self.symbols), pw.eigenvalues.shape, SECONDS)
            found.append(Bands(pw.eigenvalues, projections.values, pw.weights, self.electrons, pw.kpoints, mesh))

        seconds = self._seconds(work)
        return found[0], seconds

    def curves(self, bands: Bands, distance: float | None) -> tuple[Curves, float]:
        """Return the curves and the zero of energy in eV."""
        cell = (self.lattice, self.crystal.fractional, self.crystal.numbers)
        return density_of_states(bands, cell, ENERGIES, 0.3, distance)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pw(self, namelists: dict[str, dict], mesh: tuple[int, int, int]) -> None:
        text = pw_text(namelists, self.symbols, self.lattice, self.crystal.fractional, mesh, self.pseudos, self.folder)
        run(["pw.x"], text, self.folder, SECONDS)

    @staticmethod
    def _seconds(work: Callable[[], None]) -> float:
        def used() -> float:
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            return children.ru_utime + children.ru_stime

        start = used()
        work()
        return used() - start


def figures(crystal: CrystalSet, pseudos: dict[str, Upf]) -> dict[str, dict[str, float]]:
    """Return the error (states/eV/atom), the error of the zero (eV) and the cost (CPU s) of each setting of one crystal."""
    found: dict[str, dict[str, float]] = {}

    def note(name: str, curves: tuple[Curves, float], reference: tuple[Curves, float], cost: float) -> None:
        error, zero = compare(curves[0], reference[0]).mae, abs(curves[1] - reference[1])
        found[name] = {"error": round(error, 5), "zero": round(zero, 4), "cost": round(cost, 2)}

    one = Crystal(crystal, pseudos, 60.0)
    try:
        densities = {}
        for distance in DENSITIES:
            cost = one.density(distance)
            densities[distance] = one.curves(one.bands(0.3)[0], 0.08), cost
        for distance in DENSITIES:
            note(f"density {distance}", densities[distance][0], densities[min(DENSITIES)][0], densities[distance][1])
        bands, cost = one.bands(DENSEST)
        dense = one.curves(bands, FINEST)
        for distance in (DENSEST, *BANDS):
            if distance != DENSEST:
                bands, cost = one.bands(distance)
            note(f"bands {distance} counted", one.curves(bands, None), dense, cost)
            note(f"bands {distance} interpolated", one.curves(bands, 0.08), dense, cost)
    finally:
        one.close()
    high: tuple[Curves, float] | None = None
    for cutoff in (HIGHEST, *CUTOFFS):
        one = Crystal(crystal, pseudos, cutoff)
        try:
            cost = one.density(0.5)
            bands, more = one.bands(0.4)
            curves = one.curves(bands, 0.08)
        finally:
            one.close()
        high = high or curves
        note(f"cutoff {cutoff:g}", curves, high, cost + more)
    return found


def table(records: Path) -> str:
    """Return the figures of all crystals as a table in Markdown."""
    parts = [json.loads(path.read_text()) for path in sorted(records.glob("*.json"))]
    good = [part["figures"] for part in parts if "figures" in part]
    lines = [
        f"{len(good)} crystals: " + ", ".join(part["formula"] for part in parts if "figures" in part),
        "",
        "| setting | error, mean | largest | zero of energy, mean (eV) | CPU s, mean |",
        "|---|---|---|---|---|",
    ]
    for name in good[0] if good else ():
        column = {key: np.array([figure[name][key] for figure in good]) for key in ("error", "zero", "cost")}
        lines.append(
            f"| {name} | {column['error'].mean():.4f} | {column['error'].max():.4f} | {column['zero'].mean():.3f} "
            f"| {column['cost'].mean():.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Compute what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, required=True, help="an npz of crystals")
    parser.add_argument(
        "--pseudos", type=Path, required=True, help="a folder with one norm-conserving UPF file for each element"
    )
    parser.add_argument("--records", type=Path, default=Path("build/label-settings"), help="where figures are kept")
    arguments = parser.parse_args()
    pseudos = read_folder(arguments.pseudos)
    arguments.records.mkdir(parents=True, exist_ok=True)
    for crystal in CrystalSet.load(arguments.crystals):
        formula = crystal.formulas[0]
        path = arguments.records / f"{formula}-{crystal.volumes[0]:.3f}.json"
        if path.exists():
            continue
        try:
            result: dict = {"formula": formula, "figures": figures(symmetrised(crystal), pseudos)}
        except RunFailure as exception:
            result = {"formula": formula, "failed": str(exception)}
        path.write_text(json.dumps(result, indent=1))
        print(formula, result.get("failed", "done"), flush=True)
    print(table(arguments.records))


if __name__ == "__main__":
    main()
