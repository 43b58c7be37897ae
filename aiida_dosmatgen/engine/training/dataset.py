"""Labelled crystals as a torch_geometric data set, and from files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from torch_geometric.data import Data, InMemoryDataset

from ...core.crystals import CrystalSet
from ...core.curve_columns import has_channels, on_energies, with_energies
from ...core.curves import Meaning
from ...core.dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ...core.elements import SYMBOLS
from ...core.errors import ContentError
from ...core.job import sha256_of
from ...core.labelled.importing.mpdos import read_records
from ...core.labelled.shards import MANIFEST, folder_of_shards, load_shards
from ...core.thermo import elemental_references, formation_energy
from ..batch import type_indices
from ..niggli import niggli


class LabelledDataset(InMemoryDataset):
    """Crystals with their labels, one :class:`torch_geometric.data.Data` each.

    A crystal has ``types`` (N,), ``fractional`` (N, 3), ``lattice`` (1, 3, 3; Å), ``dos`` (N, n; states/eV),
    ``complete_below`` (1,; eV, at most the end of the grid), ``low`` (1,; eV, −∞ where nothing is cut off),
    ``formation_energy`` (1,; eV/atom, NaN where unknown), ``tight_binding`` (N, n; states/eV, zero where there is none), and
    ``channels`` (N, 4, m; states/eV) if the crystals have them.

    :param crystals: with the columns ``dos`` and ``complete_below``, and perhaps ``formation_energy``, ``tight_binding`` and
        ``channels``.
    :param elements: symbols in the order of the type index.
    :param grid: energies of the curves.
    :raises ContentError: if a column is missing or not finite, or an element is not among ``elements``.
    """

    def __init__(self, crystals: CrystalSet, elements: Sequence[str], grid: EnergyGrid = DEFAULT_GRID) -> None:
        super().__init__(root=None)
        check_labels(crystals, grid)
        types = type_indices(crystals.numbers, elements)
        if (types < 0).any():
            unknown = sorted({SYMBOLS[z] for z in crystals.numbers[types < 0]})
            raise ContentError(f"the crystals contain {' '.join(unknown)}; the model knows only {' '.join(elements)}")
        dos = crystals.atom_columns["dos"]
        limit = np.minimum(crystals.crystal_columns["complete_below"], grid.emax)
        low = crystals.crystal_columns.get("low", np.full(len(crystals), -np.inf))
        low = np.where(low > grid.emin, low, -np.inf)
        energies = crystals.crystal_columns.get("formation_energy", np.full(len(crystals), np.nan))
        model = crystals.atom_columns.get("tight_binding", np.zeros_like(dos))
        channels = crystals.atom_columns.get("channels")
        offsets = crystals.offsets
        self.data, self.slices = self.collate(
            [
                Data(
                    types=torch.from_numpy(types[a:b]),
                    fractional=_tensor(crystals.fractional[a:b]),
                    lattice=_tensor(crystals.lattices[i : i + 1]),
                    dos=_tensor(dos[a:b]),
                    complete_below=_tensor(limit[i : i + 1]),
                    low=_tensor(low[i : i + 1]),
                    formation_energy=_tensor(energies[i : i + 1]),
                    tight_binding=_tensor(model[a:b]),
                    num_nodes=int(b - a),
                    **({} if channels is None else {"channels": _tensor(channels[a:b])}),
                )
                for i, (a, b) in enumerate(itertools.pairwise(offsets))
            ]
        )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.get_default_dtype())


class SizeBuckets(Sampler[list[int]]):
    """Batches of crystals of about the same size, so that little is padded; another division in every epoch.

    Crystals are ordered by size, those of one size at random, and cut into batches; the batches come in random order.
    Epoch e depends on (seed, e) alone, so that a resumed training sees the same batches.

    :param sizes: atoms of each crystal, shape (N,).
    """

    def __init__(self, sizes: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        self.sizes, self.batch_size, self.seed, self.epoch = np.asarray(sizes), batch_size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self.sizes) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = np.lexsort([rng.random(len(self.sizes)), self.sizes])
        order = np.roll(order, rng.integers(self.batch_size))  # so that the cuts fall elsewhere each time
        batches = [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        return iter([batches[i] for i in rng.permutation(len(batches))])


# --- from files -------------------------------------------------------------------------------------------------------------


def load_labelled(
    path: str | Path,
    grid: EnergyGrid = DEFAULT_GRID,
    sigma: float = DEFAULT_SIGMA,
    meaning: Meaning | None = None,
    resolved: bool = False,
) -> CrystalSet:
    """Read labelled crystals: an ``npz`` of a :class:`CrystalSet`, MP-DOS json records, or a folder of shards.

    Crystals whose ``status`` is not ``ok`` are left out. Cells are Niggli-reduced. Curves are put on the energies of a model,
    spins and channels summed and sharper ones broadened. Of shards the column ``split`` says what is kept for tests.

    :param grid: of the model.
    :param sigma: of the model, in eV.
    :param meaning: of the model's curves: sums of projections are taken from the column ``projections``, if there is one.
    :param resolved: whether to keep spins and channels besides, where the labels have them, in the column ``resolved``.
    :raises ContentError: if nothing with a ``dos`` is there, or it cannot be brought to the model's energies and broadening.
    """
    path = Path(path)
    folder = folder_of_shards(path)
    if folder is not None or path.is_dir():
        crystals = load_shards(folder or path)
    elif path.suffix == ".json":
        crystals = read_records(path)
    else:
        crystals, header = CrystalSet.load_with_header(path)
        if header.get("grid"):
            crystals = with_energies(crystals, _grid_of(header["grid"], path))
    if "status" in crystals.crystal_columns:
        crystals = crystals[np.flatnonzero(crystals.crystal_columns["status"] == "ok")]
    if not len(crystals):
        raise ContentError(f"{path} has no labelled crystals")
    if meaning == "projections" and "projections" in crystals.atom_columns:
        crystals = crystals.with_columns(
            crystal={"meaning": np.full(len(crystals), meaning)}, atom={"dos": crystals.atom_columns["projections"]}
        )
    if "dos" in crystals.atom_columns:
        crystals = on_energies(crystals, grid, sigma, resolved and has_channels(crystals))
    return niggli(check_labels(crystals, grid).check())


def _grid_of(record: Any, path: Path) -> EnergyGrid:
    try:
        return EnergyGrid(**record)
    except TypeError:
        raise ContentError(f"{path}: its grid must have emin, emax and n, not {record}") from None


def check_labels(crystals: CrystalSet, grid: EnergyGrid = DEFAULT_GRID) -> CrystalSet:
    """Return the crystals if they have densities of states to train on.

    :param grid: the energies that the curves should have.
    :raises ContentError: naming the column, and the crystal if there is one to name.
    """
    for name, columns in (("dos", crystals.atom_columns), ("complete_below", crystals.crystal_columns)):
        if name not in columns:
            raise ContentError(f"the crystals have no column {name!r}; label them first (`dosmatgen label`)")
    dos = crystals.atom_columns["dos"]
    if dos.shape[1:] != (grid.n,):
        raise ContentError(f"the column 'dos' has shape {dos.shape}, expected (atoms, {grid.n})")
    bad = ~np.isfinite(dos).all(-1)
    if bad.any():
        raise ContentError(f"crystal {int(crystals.crystal_of_atom[bad.argmax()])}: the dos has NaN or infinite values")
    limit = crystals.crystal_columns["complete_below"]
    bad = ~(limit > grid.emin)
    if bad.any():
        i = int(bad.argmax())
        raise ContentError(f"crystal {i}: its bands are complete below {limit[i]:g} eV only, so there is no curve to learn")
    return crystals


def with_formation_energies(crystals: CrystalSet) -> CrystalSet:
    """Add the column ``formation_energy`` (eV/atom) from the energies of the set itself; NaN where they do not suffice."""
    if "energy" not in crystals.crystal_columns:
        return crystals
    energies = crystals.crystal_columns["energy"]
    values = formation_energy(energies, crystals, elemental_references(crystals))
    return crystals.with_columns(crystal={"formation_energy": values})


def with_channels(crystals: CrystalSet, stride: int) -> CrystalSet:
    """Return crystals with the column ``channels`` in the place of ``resolved``: spins summed, every so many energies.

    :param stride: 0 leaves channels out.
    """
    columns = dict(crystals.atom_columns)
    resolved = columns.pop("resolved", None)
    if stride and resolved is not None:
        columns["channels"] = resolved.sum(1)[..., ::stride]
    return crystals.replace(atom_columns=columns)


def vocabulary(*sets: CrystalSet) -> list[str]:
    """Return the symbols of the elements of some sets, by atomic number."""
    return [SYMBOLS[z] for z in sorted({z for crystals in sets for z in crystals.numbers.tolist()})]


def hash_of(path: Path, what: str) -> str:
    """Return the SHA-256 of a file; of a folder of shards that of its manifest, which lists those of the shards.

    :param what: what the message calls it.
    :raises ContentError: if it cannot be read.
    """
    folder = folder_of_shards(path)
    try:
        return sha256_of(path if folder is None else folder / MANIFEST)
    except OSError:
        raise ContentError(f"the {what} {path} does not exist or cannot be read") from None
