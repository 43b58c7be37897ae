"""What is asked for: crystals of chemical systems that no model has seen, near to equilibrium, each of another kind."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from ase.units import GPa

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import SYMBOLS, Composition
from aiida_dosmatgen.core.errors import ContentError
from aiida_dosmatgen.core.files.checkpoint_header import CheckpointHeader
from aiida_dosmatgen.engine.training.dataset import load_labelled, with_formation_energies


@dataclasses.dataclass(frozen=True)
class Data:
    """A labelled set, divided.

    :param train: what the models may have seen, with ``formation_energy`` of the whole set's elements.
    :param held_out: by the name of the split; the chemical systems of ``test-system`` are not in ``train``.
    :param by_column: whether the set says itself how it is divided; if not, the denoiser's header does.
    """

    train: CrystalSet
    held_out: dict[str, CrystalSet]
    by_column: bool


def divided(path: Path, headers: dict[str, CheckpointHeader]) -> Data:
    """Read a labelled set with its splits.

    :param headers: of the models; without a column ``split`` they say which crystals none of them has seen.
    """
    crystals = with_formation_energies(load_labelled(path))
    if "split" in crystals.crystal_columns:
        split = crystals.crystal_columns["split"]
        names = sorted(set(split.tolist()) - {"train"})
        return Data(
            crystals[np.flatnonzero(split == "train")], {name: crystals[np.flatnonzero(split == name)] for name in names}, True
        )
    from sampling_report.targets import held_out

    unseen = {_fingerprint(crystal) for crystal in held_out(path, headers)}
    out = np.array([_fingerprint(crystal) in unseen for crystal in crystals])
    systems = {system for system, held in zip(chemical_systems(crystals), out, strict=True) if not held}
    new = np.array([system not in systems for system in chemical_systems(crystals)])
    parts = {"test-system": crystals[np.flatnonzero(out & new)], "held-out": crystals[np.flatnonzero(out & ~new)]}
    return Data(crystals[np.flatnonzero(~out)], {name: part for name, part in parts.items() if len(part)}, False)


def _fingerprint(crystal: CrystalSet) -> bytes:
    return b"".join(a.tobytes() for a in (crystal.numbers, crystal.fractional, crystal.lattices))


def chemical_systems(crystals: CrystalSet) -> list[str]:
    """Return the elements of each crystal, ``B-N``."""
    offsets = crystals.offsets
    return ["-".join(sorted({SYMBOLS[z] for z in crystals.numbers[a:b]})) for a, b in itertools.pairwise(offsets)]


def near_equilibrium(crystals: CrystalSet, largest_force: float = 1.0, largest_pressure: float = 10 * GPa) -> np.ndarray:
    """Tell which labelled crystals have forces and a pressure below these limits by their labels, shape (N,) bool.

    :param largest_force: in eV/Å; ``largest_pressure`` in eV/Å³.
    """
    force = np.zeros(len(crystals))
    np.maximum.at(force, crystals.crystal_of_atom, np.linalg.norm(crystals.atom_columns["forces"], axis=1))
    pressure = np.abs(np.trace(crystals.crystal_columns["stress"], axis1=1, axis2=2)) / 3
    return (force < largest_force) & (pressure < largest_pressure)


def choose(crystals: CrystalSet, count: int, seed: int, elements: list[str], max_atoms: int) -> np.ndarray:
    """Return the rows of so many targets, fewer if there are not as many.

    Each (chemical system, composition, prototype) is represented by its crystal of lowest energy per atom. The systems take
    turns in an order drawn with the seed, each giving its representative of lowest formation energy first: as many systems
    as possible, and of each what could be made. Elements alone are no targets.

    :param elements: symbols that the models know; crystals with others are left out.
    """
    systems, energies = chemical_systems(crystals), crystals.crystal_columns["energy"] / crystals.n_atoms
    prototypes = crystals.crystal_columns.get("prototype", np.full(len(crystals), ""))
    formation = crystals.crystal_columns["formation_energy"]
    best: dict[tuple[str, Composition, str], int] = {}
    for i, composition in enumerate(crystals.compositions):
        own = systems[i].split("-")
        if len(own) < 2 or not set(own) <= set(elements) or crystals.n_atoms[i] > max_atoms:
            continue
        kind = (systems[i], composition, str(prototypes[i]))
        if kind not in best or energies[i] < energies[best[kind]]:
            best[kind] = i
    of_system: dict[str, list[int]] = {}
    for i in sorted(best.values(), key=lambda i: (np.nan_to_num(formation[i], nan=np.inf), i)):
        of_system.setdefault(systems[i], []).append(i)
    if not of_system:
        raise ContentError(f"there is no held-out compound of {' '.join(elements)} with up to {max_atoms} atoms to aim at")
    names = np.random.default_rng(seed).permutation(sorted(of_system))
    longest = max(map(len, of_system.values()))
    turns = [of_system[str(name)][k] for k in range(longest) for name in names if k < len(of_system[str(name)])]
    return np.array(turns[:count])
