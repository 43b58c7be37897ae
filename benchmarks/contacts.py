"""What closest contacts and short lattice vectors cost by our functions for many crystals at once, and by others one by one.

Crystals are random: 2 to 12 atoms at random places, in cells of short vectors, and in cells of long ones as a sampler may give
them. Neighbour searches need a radius beforehand; here it grows until no pair outside of it can be the closest. The last column
is the share of equal results. Reduction by pairs of vectors now and then leaves one longer than Minkowski's does.

    python benchmarks/contacts.py --count 200
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list as neighbours_of_ase
from matscipy.neighbours import neighbour_list as neighbours_of_matscipy

from aiida_dosmatgen.core.contacts import closest_contacts, covalent_radii, reduce_lattices
from aiida_dosmatgen.core.crystals import CrystalSet

_SKEW = np.array([[1, 0, 0], [3, 1, 0], [-5, 2, 1]])


def crystals(count: int) -> CrystalSet:
    """Return random crystals."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 13, count)
    lengths = rng.uniform(0.7, 1.4, (count, 3)) * np.cbrt(16.0 * sizes)[:, None]
    lattices = lengths[:, None] * np.eye(3) + rng.normal(0, 0.15, (count, 3, 3)) * lengths.mean(1)[:, None, None]
    atoms = int(sizes.sum())
    return CrystalSet(sizes, rng.choice([6, 8, 14, 31, 33], atoms), rng.random((atoms, 3)), lattices)


def contacts_by(neighbours: Callable, made: CrystalSet) -> np.ndarray:
    """Return what :func:`closest_contacts` does by a neighbour search, shape (N,)."""
    found = []
    for atoms in made.to_ase():
        radii, cutoff, closest = covalent_radii(atoms.numbers), 4.0, np.inf
        while True:
            i, j, distances = neighbours("ijd", atoms, cutoff)
            closest = (distances / (radii[i] + radii[j])).min(initial=np.inf)
            if closest * 2 * radii.max() <= cutoff:
                break
            cutoff *= 1.5
        found.append(closest)
    return np.array(found)


def lengths(lattices: np.ndarray) -> np.ndarray:
    """Return the lengths of lattice vectors, the shortest first, shape (N, 3)."""
    return np.sort(np.linalg.norm(lattices, axis=-1), axis=1)


def timed(compute: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the seconds of CPU of the faster of two runs, and the result."""
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        result = compute()
        seconds.append(time.process_time() - begin)
    return min(seconds), result


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="crystals")
    short = crystals(parser.parse_args().count)
    long = short.replace(lattices=_SKEW @ short.lattices)
    for cells, made in (("short", short), ("long", long)):
        table(f"contacts, {cells} vectors", {
            "ours": lambda made=made: closest_contacts(made),
            "matscipy": lambda made=made: contacts_by(neighbours_of_matscipy, made),
            "ASE": lambda made=made: contacts_by(neighbours_of_ase, made),
        })  # fmt: skip
        table(f"lattices, {cells} vectors", {
            "ours": lambda made=made: lengths(reduce_lattices(made.lattices)),
            "ASE": lambda made=made: lengths(np.array([minkowski_reduce(lattice)[0] for lattice in made.lattices])),
        })  # fmt: skip


def table(what: str, ways: Mapping[str, Callable[[], np.ndarray]]) -> None:
    """Print a line for each way to compute something: its time, that over the first, the share of results as by the first."""
    known, ours = None, 1.0
    for name, compute in ways.items():
        seconds, result = timed(compute)
        known, ours = (result, seconds) if known is None else (known, ours)
        equal = np.isclose(result, known, rtol=1e-6).reshape(len(known), -1).all(1).mean()
        print(f"{what:26}{name:10}{1e3 * seconds:8.1f} ms{seconds / ours:8.1f} ×{equal:8.3f}")


if __name__ == "__main__":
    main()
