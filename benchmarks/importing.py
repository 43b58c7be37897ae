"""How long it takes to import a set of others, and how much memory, by format.

Files are made here in exactly the form in which these sets come: MP-DOS (a JSON list), MatterGen-e⁻ (parquet, 512 energies),
``CompleteDos`` of pymatgen (a JSON list; 1,001 energies, nine orbitals, two spins for each site), extxyz. Crystals have 2 to 20
atoms, ten on average, as those of MP-20. Each file is imported by ``dosmatgen import`` in a process of its own.

    python benchmarks/importing.py --count 1000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from aiida_dosmatgen.core.dos import DEFAULT_GRID

SYMBOLS = ("Li", "O", "Si", "Ti", "Fe", "Ga", "Zr", "Te", "Ba", "Bi")


def crystals(count: int) -> list[Atoms]:
    """Return crystals on a simple cubic lattice, of random sizes and elements."""
    rng, made = np.random.default_rng(0), []
    sites = np.stack(np.meshgrid(np.arange(3), np.arange(3), np.arange(3), indexing="ij"), -1).reshape(-1, 3)
    for _ in range(count):
        chosen = rng.choice(sites, rng.integers(2, 19), replace=False) * 3.2
        made.append(Atoms(rng.choice(SYMBOLS, len(chosen)), positions=chosen, cell=9.6 * np.eye(3), pbc=True))
    return made


def curves(atoms: Atoms, energies: np.ndarray) -> np.ndarray:
    """Return a few bands for each atom, with a gap, shape (N, n)."""
    rng = np.random.default_rng(len(atoms))
    centres = np.concatenate([rng.uniform(-8, -1.5, (len(atoms), 4, 1)), rng.uniform(1.5, 4.5, (len(atoms), 4, 1))], axis=1)
    return np.round(np.exp(-0.5 * ((energies - centres) / 0.3) ** 2).sum(1), 4)


def mp_dos(made: list[Atoms], folder: Path) -> Path:
    """Write MP-DOS records."""
    records = [
        {
            "structure_id": f"mp-{i}",
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "atomic_numbers": atoms.numbers.tolist(),
            "y": curves(atoms, DEFAULT_GRID.points).tolist(),
        }
        for i, atoms in enumerate(made)
    ]
    path = folder / "mp_dos.json"
    path.write_text(json.dumps(records))
    return path


def mattergen(made: list[Atoms], folder: Path) -> Path:
    """Write a parquet file with 512 energies."""
    import pyarrow
    from pyarrow import parquet

    energies = np.linspace(-15, 5, 512)
    table = {
        "material_id": [f"mp-{i}" for i in range(len(made))],
        "atomic_numbers": [atoms.numbers.tolist() for atoms in made],
        "cell": [atoms.cell.array.tolist() for atoms in made],
        "pos": [atoms.get_scaled_positions().tolist() for atoms in made],
        "atomic_dos": [curves(atoms, energies).tolist() for atoms in made],
    }
    path = folder / "mp_20.parquet"
    parquet.write_table(pyarrow.table(table), path)
    return path


def complete_dos(made: list[Atoms], folder: Path) -> Path:
    """Write records of ``CompleteDos`` one after the other, as the memory of the writer is not what is measured."""
    from pymatgen.core import Structure

    energies, orbitals = np.linspace(-15, 10, 1001), ("s", "px", "py", "pz", "dxy", "dyz", "dz2", "dxz", "dx2")
    path = folder / "complete_dos.json"
    with path.open("w") as stream:
        for i, atoms in enumerate(made):
            structure = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
            half = np.round(2 * curves(atoms, energies), 4)  # enough electrons for each element
            sites = []
            for site in half:
                share = np.round(site / len(orbitals), 4).tolist()
                sites.append({o: {"densities": {"1": share, "-1": share}} for o in orbitals})
            record = {
                "@module": "pymatgen.electronic_structure.dos",
                "@class": "CompleteDos",
                "efermi": 2.5,
                "energies": (energies + 2.5).tolist(),
                "structure": structure.as_dict(),
                "densities": {spin: half.sum(0).tolist() for spin in ("1", "-1")},
                "pdos": sites,
            }
            stream.write(("[" if i == 0 else ",\n") + json.dumps(record))
        stream.write("]")
    return path


def extxyz(made: list[Atoms], folder: Path) -> Path:
    """Write frames with the array ``dos``, energies and forces."""
    path = folder / "frames.extxyz"
    with path.open("w") as stream:
        for atoms in made:
            frame = atoms.copy()
            frame.arrays["dos"] = curves(atoms, DEFAULT_GRID.points)
            frame.arrays["REF_forces"] = np.zeros((len(atoms), 3))
            frame.info["REF_energy"] = -5.0 * len(atoms)
            ase.io.write(stream, frame, format="extxyz")
    return path


PROGRAM = """
import sys, time
from pathlib import Path
from aiida_dosmatgen.engine.cli import main
status = main(["import", *sys.argv[1:2], "-o", *sys.argv[2:3]])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1], time.process_time())
sys.exit(status)
"""


def measure(path: Path, output: Path) -> dict:
    """Import a file in a process of its own, and return its seconds and memory."""
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-c", PROGRAM, path, output], stdout=subprocess.PIPE, text=True, check=True)
    said, figures = run.stdout.strip().splitlines()
    return {
        "format": path.name,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(float(figures.split()[1]), 1),
        "peak_mib": round(int(figures.split()[0]) / 1024),
        "said": said.split(" in ")[0],
    }


def main() -> None:
    """Make the files, import them, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="records of each format")
    parser.add_argument("--only", nargs="*", default=[], help="names of formats: mp_dos, mattergen, complete_dos, extxyz")
    arguments = parser.parse_args()
    made, rows = crystals(arguments.count), []
    print(f"{sum(map(len, made)) / len(made):.1f} atoms on average\n")
    print("| file | MB | seconds | CPU seconds | peak memory (MiB) | imported |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for write in (mp_dos, mattergen, complete_dos, extxyz):
            if arguments.only and write.__name__ not in arguments.only:
                continue
            path = write(made, Path(name))
            row = measure(path, Path(name) / "labelled.npz")
            path.unlink()
            rows.append(row)
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
