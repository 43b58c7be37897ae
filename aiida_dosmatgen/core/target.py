"""The density of states that is asked for."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from .archive import load_arrays, save_arrays
from .dos import DEFAULT_GRID, EnergyGrid, mean_absolute_error, resample, wasserstein
from .errors import ContentError

_FORMAT = "dosmatgen-target"
_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class DosTarget:
    """One curve for each site, or one total curve, in states/eV/atom relative to the highest occupied level.

    :param curves: shape (n_sites, grid.n) if ``kind`` is ``sites``, (1, grid.n) if ``total``.
    :param n_atoms: atoms of a candidate; the number of sites, or None if a total curve comes without it.
    :param complete_below: energy in eV up to which the curves are to be trusted and compared.
    :raises ContentError: for NaN, negative or all-zero curves, and wrong lengths.
    """

    curves: np.ndarray
    kind: Literal["sites", "total"] = "sites"
    n_atoms: int | None = None
    complete_below: float = math.inf
    grid: EnergyGrid = DEFAULT_GRID

    def __post_init__(self) -> None:
        curves = np.atleast_2d(np.asarray(self.curves, dtype=np.float64))
        object.__setattr__(self, "curves", curves)
        if self.kind not in ("sites", "total"):
            raise ContentError(f"a target is of kind 'sites' or 'total', not {self.kind!r}")
        if curves.ndim != 2 or curves.shape[1] != self.grid.n or not len(curves):
            raise ContentError(f"the curves have shape {curves.shape}, expected (number of sites, {self.grid.n})")
        if self.kind == "total" and len(curves) != 1:
            raise ContentError(f"a total DOS is one curve, not {len(curves)}; call them sites if there is one for each atom")
        if not np.isfinite(curves).all():
            raise ContentError("the DOS has NaN or infinite values")
        if curves.min() < -1e-6 * max(curves.max(), 1e-300):
            site, point = np.unravel_index(curves.argmin(), curves.shape)
            raise ContentError(
                f"the DOS is negative ({curves.min():.3g} states/eV at {self.grid.points[point]:.2f} eV, curve {site}); "
                "a DOS is ≥ 0"
            )
        object.__setattr__(self, "curves", np.clip(curves, 0, None))
        if curves.max() <= 0:
            raise ContentError(
                f"the DOS is zero everywhere between {self.grid.emin:g} and {self.grid.emax:g} eV; "
                "are the energies in eV, relative to the highest occupied level?"
            )
        if self.kind == "sites":
            if self.n_atoms not in (None, len(curves)):
                raise ContentError(f"{len(curves)} site curves but {self.n_atoms} atoms")
            object.__setattr__(self, "n_atoms", len(curves))
        if self.n_atoms is not None and self.n_atoms < 1:
            raise ContentError(f"a crystal cannot have {self.n_atoms} atoms")
        if self.complete_below <= self.grid.emin:
            raise ContentError(f"the curve is complete below {self.complete_below:g} eV only, left of the grid")

    @property
    def total(self) -> np.ndarray:
        """The DOS per atom, averaged over sites, shape (grid.n,)."""
        return self.curves.mean(0)

    # --- distances ------------------------------------------------------------------------------------------------

    def match(self, dos: np.ndarray) -> np.ndarray:
        """Return the order of a crystal's atoms that fits the sites best (least summed |difference|), shape (n_sites,).

        :param dos: shape (n_sites, grid.n).
        """
        cost = np.abs(self.curves[:, None] - np.asarray(dos)[None]).sum(-1)
        return linear_sum_assignment(cost)[1]

    def distances(
        self, dos: np.ndarray, complete_below: float = math.inf, window: tuple[float, float] | None = None
    ) -> dict[str, float]:
        """Compare a crystal's per-atom DOS with the target.

        :param dos: states/eV, shape (n_atoms, grid.n).
        :param complete_below: up to where the crystal's bands are complete, in eV.
        :return: ``mae`` of the per-site curves under the best assignment of atoms to sites (of the totals if the target is
            a total curve or has another number of atoms), ``mae_total``, ``wasserstein`` of the totals, and ``mae_window``
            like ``mae`` but within ±3 eV; states/eV/atom and eV.
        """
        dos = np.asarray(dos, dtype=np.float64)
        limit = min(self.complete_below, complete_below)
        total = dos.mean(0)
        if self.kind == "sites" and len(dos) == len(self.curves):
            wanted, got = self.curves, dos[self.match(dos)]
        else:
            wanted, got = self.total[None], total[None]
        near = window or (-3.0, 3.0)
        return {
            "mae": mean_absolute_error(got, wanted, self.grid, limit, window),
            "mae_window": mean_absolute_error(got, wanted, self.grid, limit, near),
            "mae_total": mean_absolute_error(total, self.total, self.grid, limit, window),
            "wasserstein": wasserstein(total, self.total, self.grid, limit, window),
        }

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path | BinaryIO, **header: Any) -> None:
        """Write as ``npz`` without pickles."""
        grid = dataclasses.asdict(self.grid)
        complete = None if math.isinf(self.complete_below) else self.complete_below
        save_arrays(
            path,
            {
                **header,
                "format": _FORMAT,
                "version": _VERSION,
                "kind": self.kind,
                "n_atoms": self.n_atoms,
                "grid": grid,
                "complete_below": complete,
            },
            {"curves": self.curves},
        )

    @classmethod
    def load(cls, path: str | Path | BinaryIO) -> DosTarget:
        """Read what :meth:`save` wrote.

        :raises ContentError: for a truncated or foreign file.
        """
        header, arrays = load_arrays(path, _FORMAT, _VERSION)
        if "curves" not in arrays:
            raise ContentError(f"{path} lacks the array 'curves'")
        complete = header["complete_below"]
        return cls(
            arrays["curves"],
            header["kind"],
            header["n_atoms"],
            math.inf if complete is None else complete,
            EnergyGrid(**header["grid"]),
        )

    @classmethod
    def from_curves(
        cls,
        energies: np.ndarray,
        values: np.ndarray,
        *,
        n_atoms: int | None = None,
        per_atom: bool = False,
        complete_below: float | None = None,
        grid: EnergyGrid = DEFAULT_GRID,
    ) -> DosTarget:
        """Make a target from curves on any energies.

        :param energies: eV relative to the highest occupied level, strictly increasing, shape (m,).
        :param values: states/eV; (m,) is a total curve, (n_sites, m) one curve for each site.
        :param n_atoms: for a total curve: the number of atoms of the cell it belongs to.
        :param per_atom: for a total curve: whether it is divided by the number of atoms already.
        :param complete_below: defaults to the end of ``energies``.
        :raises ContentError: naming what is wrong.
        """
        if n_atoms is not None and (isinstance(n_atoms, bool) or not isinstance(n_atoms, int | np.integer) or n_atoms < 1):
            raise ContentError(f"n_atoms must be a whole number of atoms, not {n_atoms!r}")
        if complete_below is not None and not isinstance(complete_below, float | int):
            raise ContentError(f"complete_below must be an energy in eV, not {complete_below!r}")
        values = np.asarray(values, float)
        curves = resample(energies, values, grid)
        end = float(np.asarray(energies, float)[-1])
        limit = end if complete_below is None else min(complete_below, end)
        limit = math.inf if limit >= grid.emax else limit
        if values.ndim == 2:
            return cls(curves, "sites", n_atoms, limit, grid)
        if not per_atom:
            if n_atoms is None:
                raise ContentError("a total DOS needs n_atoms (the atoms of the cell it belongs to), or per_atom=True")
            curves = curves / n_atoms
        return cls(curves, "total", n_atoms, limit, grid)

    @classmethod
    def from_text(cls, text: str, name: str = "the file", **options: Any) -> DosTarget:
        """Make a target from the text of a CSV or JSON file.

        CSV: energies in eV in the first column; one further column is a total curve, several are sites; a heading line and
        comments (``#``) are skipped. JSON: an object with ``energies`` and either ``total`` or ``sites``, and optionally
        ``n_atoms``, ``per_atom``, ``complete_below``.

        :param options: as in :meth:`from_curves`; they go before what the file says.
        :raises ContentError: naming the line or key.
        """
        if text.lstrip().startswith("{"):
            try:
                record = json.loads(text)
            except json.JSONDecodeError as exception:
                raise ContentError(f"{name} is not valid JSON: {exception}") from None
            unknown = set(record) - {"energies", "total", "sites", "n_atoms", "per_atom", "complete_below"}
            if unknown or "energies" not in record or ("total" in record) == ("sites" in record):
                raise ContentError(
                    f"{name} must have the keys energies and one of total, sites"
                    + (f"; unknown: {sorted(unknown)}" if unknown else "")
                )
            try:
                energies = np.array(record["energies"], float)
                values = np.array(record["total"] if "total" in record else record["sites"], float)
            except (TypeError, ValueError):
                raise ContentError(f"{name}: energies and curves must be lists of numbers, all of one length") from None
            if values.ndim != (1 if "total" in record else 2):
                raise ContentError(f"{name}: total is one list of numbers, sites a list of such lists")
            stated = {k: record[k] for k in ("n_atoms", "per_atom", "complete_below") if k in record}
            return cls.from_curves(energies, values, **{**stated, **options})
        rows: list[list[float]] = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            cells = next(csv.reader(io.StringIO(line))) if "," in line else line.replace(";", " ").split()
            try:
                rows.append([float(cell) for cell in cells])
            except ValueError:
                if rows:
                    raise ContentError(f"{name}, line {number}: {line!r} are not numbers") from None
                continue  # a heading
            if len(rows[-1]) != len(rows[0]) or len(rows[-1]) < 2:
                raise ContentError(f"{name}, line {number}: {len(rows[-1])} columns, expected {max(len(rows[0]), 2)}")
        if len(rows) < 2:
            raise ContentError(f"{name} has no table of numbers; the first column is the energy in eV, the others the DOS")
        table = np.array(rows)
        values = table[:, 1] if table.shape[1] == 2 else table[:, 1:].T
        return cls.from_curves(table[:, 0], values, **options)
