"""What is found of candidates: whether they are crystals, how far their predicted DOS is from the target, their composition."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from aiida_dosmatgen.core.contacts import closest_contacts, valid_crystals
from aiida_dosmatgen.core.crystals import CrystalSet
from aiida_dosmatgen.core.curve_columns import curves_of
from aiida_dosmatgen.core.elements import COVALENT_RADII
from aiida_dosmatgen.core.screening import ScreenCriteria
from aiida_dosmatgen.core.target import DosTarget
from aiida_dosmatgen.engine.checkpoint import load_model
from aiida_dosmatgen.engine.prediction.predict import predict

from . import figures
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


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
    """What is found of N candidates, each array of shape (N,); ``distances`` are NaN where nothing is predicted."""

    wanted: np.ndarray
    distances: np.ndarray
    valid: np.ndarray
    strict: np.ndarray
    composition: np.ndarray

    def of_targets(self, worst: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and best distance of each target; a candidate without one has the worst."""
        values = np.where(np.isfinite(self.distances), self.distances, worst)
        groups = [values[self.wanted == i] for i in np.unique(self.wanted)]
        return np.array([g.mean() for g in groups]), np.array([g.min() for g in groups])


def composition_right(candidates: CrystalSet, wanted: np.ndarray, crystals: CrystalSet) -> np.ndarray:
    """Tell which candidates have exactly the atoms of the crystal that their target belongs to, shape (N,) bool."""
    right = crystals.compositions
    return np.array([own == right[i] for own, i in zip(candidates.compositions, wanted, strict=True)], dtype=bool)


def structure_right(candidates: CrystalSet, wanted: np.ndarray, crystals: CrystalSet) -> np.ndarray:
    """Tell which candidates are the crystal that their target belongs to but for volume and distortion, shape (N,) bool.

    By pymatgen's ``StructureMatcher`` with the tolerances that benchmarks of crystal structure prediction use (stol 0.5, angles
    10°, ltol 0.3; arXiv:2309.04475).
    """
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3, primitive_cell=False)
    found = composition_right(candidates, wanted, crystals) & valid_crystals(candidates)
    targets = {int(i): _structure(crystals[int(i)]) for i in np.unique(wanted[found])}
    for row in np.flatnonzero(found):
        found[row] = matcher.fit(_structure(candidates[int(row)]), targets[int(wanted[row])])
    return found


def _structure(crystal: CrystalSet) -> Structure:
    return Structure(crystal.lattices[0], crystal.numbers, crystal.fractional)


def evaluated(surrogate: Surrogate, candidates: CrystalSet, crystals: CrystalSet, targets: list[DosTarget]) -> Evaluated:
    """Evaluate candidates of a mode.

    :param crystals: those that the targets belong to.
    :param targets: what candidates are compared with.
    """
    wanted = candidates.crystal_columns["target"]
    return Evaluated(
        wanted,
        surrogate.distances(candidates, wanted, targets),
        valid(candidates),
        strictly_valid(candidates),
        composition_right(candidates, wanted, crystals),
    )


def row(found: Evaluated, baseline: Evaluated, worst: float, seed: int) -> dict[str, Any]:
    """Return what a table says of a mode.

    :param baseline: candidates that were not told the curves, compared with the same ones.
    """
    mean, best = found.of_targets(worst)
    their_mean, their_best = baseline.of_targets(worst)
    mean_ratio, mean_interval = figures.ratio(mean, their_mean, seed)
    best_ratio, best_interval = figures.ratio(best, their_best, seed)
    return {
        "mean": float(mean.mean()),
        "best": float(best.mean()),
        "mean_ratio": mean_ratio,
        "mean_ratio_95": mean_interval,
        "best_ratio": best_ratio,
        "best_ratio_95": best_interval,
        "valid": float(found.valid.mean()),
        "strict": float(found.strict.mean()),
        "composition": float(found.composition.mean()),
        "without_prediction": int((~np.isfinite(found.distances)).sum()),
        "candidates": len(found.wanted),
        "targets": len(mean),
        "mean_of_targets": mean.tolist(),
        "best_of_targets": best.tolist(),
    }
