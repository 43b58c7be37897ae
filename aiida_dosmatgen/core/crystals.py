"""Many crystals in flat arrays. All parts of the package exchange crystals in this form."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .elements import SYMBOLS, Composition, composition, formula_of
from .errors import ContentError
from .files.archive import load_arrays, save_arrays
from .former_names import current_columns

if TYPE_CHECKING:
    import ase
    import pymatgen.core

_FORMAT = "dosmatgen-crystals"
_VERSION = 1
_SMALLEST_VOLUME = 1e-3  # Å³; anything below is a degenerate cell, not a crystal
MOST_ATOMS = 1000
"""Atoms of a crystal above which nothing is computed for it: time and memory of all that follows grow with their square."""


@dataclasses.dataclass(frozen=True, eq=False)
class CrystalSet:
    """N crystals with ΣN_i atoms in all.

    :param n_atoms: atoms of each crystal, shape (N,).
    :param numbers: atomic numbers, shape (ΣN_i,).
    :param fractional: fractional coordinates, shape (ΣN_i, 3).
    :param lattices: lattice vectors as rows, in Å, shape (N, 3, 3).
    :param crystal_columns: named values for each crystal, each of shape (N, …).
    :param atom_columns: named values for each atom, each of shape (ΣN_i, …).
    :raises ContentError: if shapes disagree or values are not those of crystals.

    Columns in use: ``energy`` (eV), ``stress`` (N, 3, 3; eV/Å³, ASE sign), ``complete_below`` (eV), ``status`` (text) for each
    crystal; ``forces`` (ΣN_i, 3; eV/Å) and ``dos`` (ΣN_i, n; states/eV, relative to the highest occupied level) for each atom.
    """

    n_atoms: np.ndarray
    numbers: np.ndarray
    fractional: np.ndarray
    lattices: np.ndarray
    crystal_columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    atom_columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        def set_array(name: str, dtype: type) -> None:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))

        set_array("n_atoms", np.int64)
        set_array("numbers", np.int64)
        set_array("fractional", np.float64)
        set_array("lattices", np.float64)
        object.__setattr__(self, "crystal_columns", {k: np.asarray(v) for k, v in self.crystal_columns.items()})
        object.__setattr__(self, "atom_columns", {k: np.asarray(v) for k, v in self.atom_columns.items()})
        self._check_shapes()

    def _check_shapes(self) -> None:
        n, total = self.n_atoms.shape[0] if self.n_atoms.ndim == 1 else -1, int(self.n_atoms.sum())
        expected = {"n_atoms": (n,), "numbers": (total,), "fractional": (total, 3), "lattices": (n, 3, 3)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ContentError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if n and self.n_atoms.min() < 1:
            raise ContentError(f"crystal {int(self.n_atoms.argmin())} has no atoms")
        for columns, length, what in (
            (self.crystal_columns, n, "crystals"),
            (self.atom_columns, total, "atoms"),
        ):
            for name, column in columns.items():
                if column.ndim == 0 or column.shape[0] != length:
                    raise ContentError(
                        f"column {name!r} has shape {column.shape}, expected {length} rows, one for each of the {what}"
                    )
                if column.dtype.hasobject:
                    raise ContentError(f"column {name!r} holds Python objects; only numbers and text can be stored")

    def check(self) -> CrystalSet:
        """Return self if every crystal has finite coordinates, known elements, a volume, and not too many atoms.

        :raises ContentError: naming the first crystal that does not.
        """
        for i, crystal in enumerate(self):
            reason = crystal.defect()
            if reason is not None:
                raise ContentError(f"crystal {i}: {reason}")
        return self

    def defect(self) -> str | None:
        """Say what is wrong with the one crystal in this set, or None."""
        if len(self.numbers) > MOST_ATOMS:
            return f"it has {len(self.numbers)} atoms; crystals of up to {MOST_ATOMS} are dealt with"
        if not np.isfinite(self.lattices).all():
            return "the lattice has NaN or infinite entries"
        if not np.isfinite(self.fractional).all():
            return "the coordinates have NaN or infinite entries"
        bad = self.numbers[(self.numbers < 1) | (self.numbers >= len(SYMBOLS))]
        if len(bad):
            return f"atomic number {int(bad[0])} is not an element"
        volume = abs(float(np.linalg.det(self.lattices[0])))
        if volume < _SMALLEST_VOLUME:
            return f"the cell has volume {volume:.3g} Å^3; its lattice vectors lie in a plane"
        return None

    # --- access ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.n_atoms)

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """First atom of each crystal, and the end, shape (N+1,); not to be written to."""
        offsets = np.concatenate([[0], np.cumsum(self.n_atoms)])
        offsets.flags.writeable = False
        return offsets

    @property
    def crystal_of_atom(self) -> np.ndarray:
        """Crystal index of each atom, shape (ΣN_i,)."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def volumes(self) -> np.ndarray:
        """Cell volumes in Å³, shape (N,)."""
        return np.abs(np.linalg.det(self.lattices))

    @property
    def positions(self) -> np.ndarray:
        """Cartesian positions in Å, shape (ΣN_i, 3)."""
        return np.einsum("ni,nij->nj", self.fractional, self.lattices[self.crystal_of_atom])

    @property
    def compositions(self) -> list[Composition]:
        """How many atoms of each element each crystal has; supercells differ."""
        return [composition(self.numbers[a:b]) for a, b in itertools.pairwise(self.offsets)]

    @property
    def formulas(self) -> list[str]:
        """Reduced formula of each crystal, as pymatgen writes it."""
        return [formula_of(counts) for counts in self.compositions]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> CrystalSet:
        """Return the selected crystals, in the order asked for; an integer gives a set of one, at no cost of the others."""
        offsets = self.offsets
        if isinstance(index, int | np.integer):
            place = range(len(self))[index]
            chosen, atoms = np.array([place]), np.arange(offsets[place], offsets[place + 1])
        else:
            chosen = np.arange(len(self))[index]
            counts = self.n_atoms[chosen]
            first = np.cumsum(counts) - counts
            atoms = np.repeat(offsets[chosen] - first, counts) + np.arange(counts.sum())
        return CrystalSet(
            self.n_atoms[chosen],
            self.numbers[atoms],
            self.fractional[atoms],
            self.lattices[chosen],
            {k: v[chosen] for k, v in self.crystal_columns.items()},
            {k: v[atoms] for k, v in self.atom_columns.items()},
        )

    def __iter__(self) -> Iterator[CrystalSet]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CrystalSet):
            return NotImplemented
        mine, theirs = self._arrays(), other._arrays()
        return mine.keys() == theirs.keys() and all(_same(mine[k], theirs[k]) for k in mine)

    __hash__ = None  # type: ignore[assignment]

    # --- making new sets --------------------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> CrystalSet:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)

    def with_columns(self, crystal: Mapping[str, Any] | None = None, atom: Mapping[str, Any] | None = None) -> CrystalSet:
        """Return a copy with columns added or replaced."""
        return self.replace(
            crystal_columns={**self.crystal_columns, **(crystal or {})},
            atom_columns={**self.atom_columns, **(atom or {})},
        )

    @classmethod
    def concatenate(cls, sets: Iterable[CrystalSet]) -> CrystalSet:
        """Join sets; only columns that all of them have are kept."""
        parts = list(sets)
        if not parts:
            return cls(np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3, 3)))

        def join(columns: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
            common = set.intersection(*(set(c) for c in columns))
            return {k: np.concatenate([c[k] for c in columns]) for k in columns[0] if k in common}

        return cls(
            np.concatenate([p.n_atoms for p in parts]),
            np.concatenate([p.numbers for p in parts]),
            np.concatenate([p.fractional for p in parts]),
            np.concatenate([p.lattices for p in parts]),
            join([p.crystal_columns for p in parts]),
            join([p.atom_columns for p in parts]),
        )

    # --- files ------------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "n_atoms": self.n_atoms,
            "numbers": self.numbers,
            "fractional": self.fractional,
            "lattices": self.lattices,
            **{f"crystal:{k}": v for k, v in self.crystal_columns.items()},
            **{f"atom:{k}": v for k, v in self.atom_columns.items()},
        }

    def save(self, path: str | Path | BinaryIO, **header: Any) -> None:
        """Write an ``npz`` without pickles; further header entries must be JSON."""
        save_arrays(path, {**header, "format": _FORMAT, "version": _VERSION}, self._arrays())

    @classmethod
    def load(cls, path: str | Path | BinaryIO) -> CrystalSet:
        """Read what :meth:`save` wrote.

        :raises ContentError: for a truncated, foreign or inconsistent file.
        """
        return cls.load_with_header(path)[0]

    @classmethod
    def load_with_header(cls, path: str | Path | BinaryIO) -> tuple[CrystalSet, dict[str, Any]]:
        """Read what :meth:`save` wrote, with its header.

        :raises ContentError: for a truncated, foreign or inconsistent file.
        """
        header, arrays = load_arrays(path, _FORMAT, _VERSION)
        try:
            fields = {k: arrays.pop(k) for k in ("n_atoms", "numbers", "fractional", "lattices")}
        except KeyError as exception:
            raise ContentError(f"{path} lacks the array {exception}") from None
        crystals = cls(
            **fields,
            crystal_columns=current_columns({k[8:]: v for k, v in arrays.items() if k.startswith("crystal:")}),
            atom_columns={k[5:]: v for k, v in arrays.items() if k.startswith("atom:")},
        )
        return crystals, header

    # --- structures of other libraries ----------------------------------------------------------------------------------

    @classmethod
    def from_ase(cls, atoms: ase.Atoms | Iterable[ase.Atoms]) -> CrystalSet:
        """Make a set from ASE atoms (one or many); without columns.

        :raises ContentError: naming the first crystal that has no volume, is not finite or not periodic in three dimensions,
            and for what :meth:`check` refuses.
        """
        frames: list[ase.Atoms] = [atoms] if hasattr(atoms, "get_scaled_positions") else list(atoms)  # type: ignore[list-item]
        for i, frame in enumerate(frames):
            if not np.isfinite(frame.cell.array).all():
                raise ContentError(f"crystal {i}: the lattice has NaN or infinite entries")
            if not abs(frame.cell.volume) >= _SMALLEST_VOLUME:
                raise ContentError(f"crystal {i}: the cell has volume {frame.cell.volume:.3g} Å^3; give three lattice vectors")
            if frame.pbc.any() and not frame.pbc.all():
                raise ContentError(f"crystal {i} is not periodic in three dimensions (pbc {frame.pbc}); slabs are no crystals")
        return cls.concatenate(
            cls(np.array([len(f)]), f.numbers, f.cell.scaled_positions(f.positions), f.cell.array[None]) for f in frames
        ).check()

    def to_ase(self) -> list[ase.Atoms]:
        """Return one periodic ASE ``Atoms`` for each crystal."""
        from ase import Atoms

        return [Atoms(c.numbers, scaled_positions=c.fractional, cell=c.lattices[0], pbc=True) for c in self]

    @classmethod
    def from_pymatgen(cls, structures: pymatgen.core.Structure | Iterable[pymatgen.core.Structure]) -> CrystalSet:
        """Make a set from pymatgen structures (one or many), ordered ones only; without columns.

        :raises ContentError: naming the first crystal that has partial occupancies or a site that is no element, and for what
            :meth:`check` refuses.
        """
        many: list[pymatgen.core.Structure] = (
            [structures] if hasattr(structures, "frac_coords") else list(structures)  # type: ignore[list-item]
        )
        for i, s in enumerate(many):
            if not s.is_ordered:
                raise ContentError(f"crystal {i}: {s.formula} has partial occupancies; give an ordered structure")
            for site in s:
                if site.species_string.rstrip("0123456789+-") not in SYMBOLS[1:]:
                    raise ContentError(f"crystal {i}: {site.species_string} is no element")
        return cls.concatenate(
            cls(np.array([len(s)]), np.array(s.atomic_numbers), s.frac_coords, s.lattice.matrix[None]) for s in many
        ).check()

    def to_pymatgen(self) -> list[pymatgen.core.Structure]:
        """Return one pymatgen ``Structure`` for each crystal."""
        from pymatgen.core import Structure

        return [Structure(c.lattices[0], c.numbers.tolist(), c.fractional) for c in self]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    both_text = a.dtype.kind == b.dtype.kind == "U"  # whose dtype is the length of its longest entry
    if a.shape != b.shape or (a.dtype != b.dtype and not both_text):
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
