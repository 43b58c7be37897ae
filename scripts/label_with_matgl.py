"""Label crystals by a universal potential of matgl, for the pretraining of a force field.

    pip install matgl==4.1.2
    python scripts/label_with_matgl.py TensorNet-MatPES-PBE-v2025.1-PES -o universal.npz

Crystals of the prototypes are relaxed for a few steps; a share of what is met on the way is kept. The potential's energies get
the zero of the data set's: one constant for each element, fitted robustly to training crystals near to equilibrium. Crystals
far from it are left out. All chemical systems of the elements may be among the crystals, those too whose DFT labels are kept
for tests: DFT labels are used for the constants only. A card is written beside the file.

matgl 4.1.2 gives the network each pair as (centre, neighbour); these weights were trained with (neighbour, centre). Loaded as
they are, elements come out right and compounds wrong by electronvolts (MgO: -2.27 instead of -5.9 eV/atom), so the pair is
put right.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ["MATGL_BACKEND"] = "PYG"

import matgl
import numpy as np
import torch
from matgl.ext.ase import Atoms2Graph
from matgl.layers import _embedding
from scipy.optimize import least_squares
from torch_geometric.data import Batch

from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.elements import ATOMIC_NUMBERS, SYMBOLS
from aiida_dosmatgen.core.job import RelaxParameters, sha256_of
from aiida_dosmatgen.core.labels import GPA
from aiida_dosmatgen.core.thermo import elemental_references, formation_energy
from aiida_dosmatgen.engine.dataset import load_labelled, vocabulary, with_formation_energies
from aiida_dosmatgen.engine.forcefields import Evaluation
from aiida_dosmatgen.engine.prototypes import generate
from aiida_dosmatgen.engine.relaxation import relax
from aiida_dosmatgen.engine.splits import systems_of, without_test

DATASET = Path(__file__).parents[1] / "aiida_dosmatgen" / "datasets" / "debian-pbe" / "labelled.npz"
CHUNK = 60
HIGHEST = {"formation_energy": 3.0, "force": 15.0, "pressure": 100.0}  # eV/atom, eV/Å, GPa: what is kept
NEAR = {"formation_energy": 1.0, "force": 3.0, "pressure": 20.0}  # what the constants are fitted to


def swap_pairs() -> None:
    """Give the embedding each pair in the order that its weights know."""
    message = _embedding.TensorEmbedding.message
    _embedding.TensorEmbedding.message = lambda self, x_i, x_j, **others: message(self, x_j, x_i, **others)


class Universal:
    """The potential as an evaluator of batches, which keeps a share of what it evaluates."""

    def __init__(self, name: str, elements: list[str], share: float, seed: int) -> None:
        self.potential = matgl.load_model(name)
        self.convert = Atoms2Graph(self.potential.model.element_types, 5.0)
        self.elements, self.share, self.draws = elements, share, np.random.default_rng(seed)
        self.kept: list[CrystalSet] = []
        self.description, self.sha256, self.device = name, None, torch.device("cpu")

    def knows(self, numbers: np.ndarray) -> np.ndarray:
        """Tell which elements are asked for."""
        return np.isin(numbers, [ATOMIC_NUMBERS[symbol] for symbol in self.elements])

    def evaluate(self, crystals: CrystalSet) -> Evaluation:
        """Return energies (eV), forces (eV/Å) and stresses (eV/Å³)."""
        graphs, lattices = zip(*(self.convert.get_graph(atoms)[:2] for atoms in crystals.to_ase()), strict=True)
        found = self.potential(Batch.from_data_list(list(graphs)), torch.stack([each.reshape(3, 3) for each in lattices]))
        energy, forces, stress = (part.detach().double().numpy() for part in found[:3])
        evaluation = Evaluation(energy.reshape(-1), forces, stress.reshape(-1, 3, 3) / GPA)
        rows = np.flatnonzero(self.draws.random(len(crystals)) < self.share)
        if len(rows):
            columns = {"energy": evaluation.energies, "stress": evaluation.stresses}
            self.kept.append(crystals.replace(crystal_columns=columns, atom_columns={"forces": evaluation.forces})[rows])
        return evaluation


def within(crystals: CrystalSet, limits: dict[str, float]) -> np.ndarray:
    """Return the rows of the crystals near enough to equilibrium."""
    height = formation_energy(crystals.crystal_columns["energy"], crystals, elemental_references(crystals))
    force = np.zeros(len(crystals))
    np.maximum.at(force, crystals.crystal_of_atom, np.linalg.norm(crystals.atom_columns["forces"], axis=-1))
    pressure = np.abs(np.trace(crystals.crystal_columns["stress"], axis1=1, axis2=2)) / 3 * GPA
    return np.flatnonzero((height < limits["formation_energy"]) & (force < limits["force"]) & (pressure < limits["pressure"]))


def shares(crystals: CrystalSet, numbers: list[int]) -> np.ndarray:
    """Return how many atoms of each element each crystal has, shape (N, n_elements)."""
    return np.stack([np.bincount(crystals.crystal_of_atom, crystals.numbers == z, len(crystals)) for z in numbers], 1)


def main() -> None:
    """Label, shift, filter, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("potential", help="name or folder of a matgl potential")
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--crystals", type=int, default=4000, help="that are relaxed")
    parser.add_argument("--steps", type=int, default=4, help="of each relaxation")
    parser.add_argument("--share", type=float, default=0.35, help="of what is met that is kept")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path, default=Path("universal.npz"))
    given = parser.parse_args()
    swap_pairs()
    training = with_formation_energies(without_test(load_labelled(given.dataset))[0])
    elements = vocabulary(training)
    near = training[within(training, NEAR)]
    potential = Universal(given.potential, elements, 0.0, given.seed)
    theirs = np.concatenate([potential.evaluate(near[k : k + CHUNK]).energies for k in range(0, len(near), CHUNK)])
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in elements]
    composition = shares(near, numbers) / near.n_atoms[:, None]
    difference = (near.crystal_columns["energy"] - theirs) / near.n_atoms
    first = np.linalg.lstsq(composition, difference, rcond=None)[0]
    constants = least_squares(lambda x: composition @ x - difference, first, loss="soft_l1", f_scale=0.03).x
    left = np.abs(difference - composition @ constants)
    print(f"{len(near)} training crystals: {1000 * left.mean():.0f} meV/atom from DFT after one constant for each element")

    potential.share = given.share
    crystals = generate(elements, given.crystals, given.seed, 10).replace(crystal_columns={})
    for start in range(0, len(crystals), CHUNK):
        for _ in relax(crystals[start : start + CHUNK], potential, RelaxParameters(max_steps=given.steps), batch_size=20):
            pass
        print(f"{min(start + CHUNK, len(crystals))} crystals relaxed, {sum(map(len, potential.kept))} labels", flush=True)
    found = CrystalSet.concatenate(potential.kept)
    found = found.with_columns(crystal={"energy": found.crystal_columns["energy"] + shares(found, numbers) @ constants})
    found = found[within(found, HIGHEST)]
    found.with_columns(
        crystal={"stress": found.crystal_columns["stress"].astype(np.float32)},
        atom={"forces": found.atom_columns["forces"].astype(np.float32)},
    ).save(given.output)
    card = {
        "file": given.output.name,
        "sha256": sha256_of(given.output),
        "n_crystals": len(found),
        "n_systems": len(set(systems_of(found))),
        "elements": {SYMBOLS[z]: int((found.numbers == z).sum()) for z in numbers},
        "potential": Path(given.potential).name,
        "dataset_sha256": sha256_of(given.dataset),
        "constants_eV": dict(zip(elements, constants.round(4).tolist(), strict=True)),
        "from_dft_meV_per_atom": round(1000 * float(left.mean()), 1),
        "n_fitted": len(near),
        "kept": HIGHEST,
        "settings": {key: getattr(given, key) for key in ("crystals", "steps", "share", "seed")},
        "units": "eV, Å, eV/Å, eV/Å³ (positive in tension)",
    }
    given.output.with_name(f"{given.output.stem}_card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    print(f"{len(found)} crystals written to {given.output}")


if __name__ == "__main__":
    main()
