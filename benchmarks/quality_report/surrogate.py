"""What is found of candidates: whether they are crystals, how far their predicted DOS is from the target, their composition."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from aiida_dosmatgen.core.contacts import closest_contacts, valid_crystals
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.elements import COVALENT_RADII
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import predict

from .work import kept, key_of

SHORTEST_DISTANCE = 0.5  # Å, and
SMALLEST_VOLUME = 0.1  # Å³ of the cell: the usual test of generated crystals (arXiv:2110.06197)
STRICT = ScreenCriteria()
"""The stricter test is that of the screening: contacts over the sums of covalent radii, and volumes of an atom."""
_CHUNK = 256


def shortest_distances(crystals: CrystalSet) -> np.ndarray:
    """Return the smallest distance between atoms of each crystal, images included, in Å, shape (N,); NaN if it is none."""
    hydrogen = crystals.replace(numbers=np.ones_like(crystals.numbers), crystal_columns={}, atom_columns={})
    return closest_contacts(hydrogen) * 2 * COVALENT_RADII[1]


def valid(crystals: CrystalSet) -> np.ndarray:
    """Tell which crystals have no two atoms nearer than 0.5 Å and a volume above 0.1 Å³, shape (N,) bool."""
    with np.errstate(invalid="ignore"):
        return (
            valid_crystals(crystals) & (shortest_distances(crystals) > SHORTEST_DISTANCE) & (crystals.volumes > SMALLEST_VOLUME)
        )


def strictly_valid(crystals: CrystalSet) -> np.ndarray:
    """Tell which crystals pass the screening's limits of contacts and volumes, shape (N,) bool."""
    per_atom = crystals.volumes / crystals.n_atoms
    with np.errstate(invalid="ignore"):
        inside = (per_atom >= STRICT.min_volume_per_atom) & (per_atom <= STRICT.max_volume_per_atom)
        return valid_crystals(crystals) & (closest_contacts(crystals) >= STRICT.min_contact) & inside


class Surrogate:
    """The predictor, on several processes.

    :param path: its checkpoint.
    :param folder: where its predictions are kept, by the crystals that they are of.
    """

    def __init__(self, path: Path, sha256: str, folder: Path, workers: int) -> None:
        self.path, self.sha256, self.folder, self.workers = path, sha256, folder, workers

    def predicted(self, crystals: CrystalSet) -> CrystalSet:
        """Return the crystals with what is predicted of them as columns."""
        bare = crystals.replace(crystal_columns={}, atom_columns={})
        path = self.folder / f"{key_of(self.sha256, bare)}.npz"
        found = kept(path, lambda: self._predict(bare))
        return crystals.with_columns(found.crystal_columns, found.atom_columns)

    def _predict(self, crystals: CrystalSet) -> CrystalSet:
        chunks = [crystals[k : k + _CHUNK] for k in range(0, len(crystals), _CHUNK)]
        if self.workers < 2 or len(chunks) < 2:
            return CrystalSet.concatenate(_predict_chunk(self.path, chunk) for chunk in chunks)
        with ProcessPoolExecutor(self.workers, get_context("spawn")) as pool:
            return CrystalSet.concatenate(pool.map(_predict_chunk, [self.path] * len(chunks), chunks))

    def distances(self, crystals: CrystalSet, wanted: np.ndarray, targets: list[DosTarget]) -> np.ndarray:
        """Return the mean absolute error of each crystal's predicted DOS from its target, shape (N,); NaN without a prediction.

        :param wanted: the number of the target of each crystal.
        """
        predicted = self.predicted(crystals)
        return distances(predicted, wanted, targets)


def _predict_chunk(path: Path, crystals: CrystalSet) -> CrystalSet:
    torch.set_num_threads(1)
    model, header = load_model(path, kind="predictor")
    return predict(model, header, crystals)


def distances(crystals: CrystalSet, wanted: np.ndarray, targets: list[DosTarget]) -> np.ndarray:
    """Return how far each crystal's predicted curves are from its target, in states/eV/atom, shape (N,); NaN without any."""
    found, offsets, dos = np.full(len(crystals), np.nan), crystals.offsets, crystals.atom_columns["predicted_dos"]
    for i, target in enumerate(wanted):
        if np.isfinite(dos[offsets[i] : offsets[i + 1]]).all():
            found[i] = targets[target].distances(curves_of(crystals, i, "predicted_dos"))["mae"]
    return found


def composition_right(candidates: CrystalSet, wanted: np.ndarray, crystals: CrystalSet) -> np.ndarray:
    """Tell which candidates have exactly the atoms of the crystal that their target belongs to, shape (N,) bool."""
    right = crystals.compositions
    return np.array([own == right[i] for own, i in zip(candidates.compositions, wanted, strict=True)], dtype=bool)
