"""Target curves, for the sites of a crystal or for the whole crystal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ..dos import DEFAULT_GRID, EnergyGrid, resample
from ..errors import ContentError
from ..files.archive import load_arrays, save_arrays
from .distances import best_atoms, distances
from .text import read_text

_FORMAT = "dosmatgen-target"
_VERSION = 2  # 1 had no chosen sites


@dataclasses.dataclass(frozen=True, eq=False)
class DosTarget:
    """Curves for all sites or for chosen ones, or one total curve, in states/eV/atom relative to the highest occupied level.

    Chosen sites are kept in increasing order; if they are all the atoms there are, ``sites`` is None.

    :param curves: shape (n_curves, grid.n) if ``kind`` is ``sites``, (1, grid.n) if ``total``.
    :param n_atoms: atoms of a candidate; the number of curves if they are for all sites. None leaves it open, which curves of
        chosen sites and total curves may.
    :param complete_below: energy in eV up to which the curves are to be trusted and compared.
    :param sites: the atom, from 0, that each curve is for; the others are free. None: all atoms, in order.
    :raises ContentError: for NaN, negative or all-zero curves, wrong lengths, and sites that are none or given twice.
    """

    curves: np.ndarray
    kind: Literal["sites", "total"] = "sites"
    n_atoms: int | None = None
    complete_below: float = math.inf
    grid: EnergyGrid = DEFAULT_GRID
    sites: tuple[int, ...] | None = None

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
        if self.n_atoms is not None and self.n_atoms < 1:
            raise ContentError(f"a crystal cannot have {self.n_atoms} atoms")
        if self.sites is not None:
            self._place(self.sites)
        elif self.kind == "sites":
            if self.n_atoms not in (None, len(curves)):
                raise ContentError(
                    f"{len(curves)} site curves but {self.n_atoms} atoms; say which sites the curves are for, "
                    "if the others are to be free"
                )
            object.__setattr__(self, "n_atoms", len(curves))
        if self.complete_below <= self.grid.emin:
            raise ContentError(f"the curve is complete below {self.complete_below:g} eV only, left of the grid")

    def _place(self, given: Sequence[int]) -> None:
        """Check the chosen sites, and put them and their curves in order."""
        if self.kind == "total":
            raise ContentError("a total DOS belongs to no site; give the curve as one for sites if it is meant for them")
        sites = _indices(given)
        if len(sites) != len(self.curves):
            raise ContentError(f"{len(self.curves)} site curves but {len(sites)} sites {list(sites)}")
        twice = sorted({site for site in sites if sites.count(site) > 1})
        if twice:
            raise ContentError(f"site {twice[0]} is given {sites.count(twice[0])} times; each site has one curve")
        if self.n_atoms is not None and max(sites) >= self.n_atoms:
            raise ContentError(f"there is no site {max(sites)}: the crystal has {self.n_atoms} atoms, counted from 0")
        order = np.argsort(sites)
        object.__setattr__(self, "curves", self.curves[order])
        object.__setattr__(self, "sites", None if self.n_atoms == len(sites) else tuple(sorted(sites)))

    @property
    def atoms(self) -> tuple[int, ...]:
        """The atoms that have a curve of their own; none if the target is a total curve."""
        if self.kind == "total":
            return ()
        return tuple(range(len(self.curves))) if self.sites is None else self.sites

    @property
    def least_atoms(self) -> int:
        """The smallest number of atoms of a crystal that has all the sites."""
        return max(self.atoms, default=0) + 1

    @property
    def total(self) -> np.ndarray:
        """The DOS per atom, averaged over the given curves, shape (grid.n,)."""
        return self.curves.mean(0)

    def at(self, sites: Sequence[int], n_atoms: int | None = None) -> DosTarget:
        """Return the target for chosen sites, the other ones free. One curve, total or not, goes to each of the sites.

        :param n_atoms: atoms of a candidate, if that is known.
        :raises ContentError: for a wrong number of sites, and sites that are none or given twice.
        """
        sites, curves = _indices(sites), self.curves
        if len(curves) == 1:
            curves = np.repeat(curves, len(sites), axis=0)
        return DosTarget(curves, "sites", n_atoms, self.complete_below, self.grid, sites)

    @classmethod
    def combine(
        cls,
        parts: Iterable[tuple[DosTarget, Sequence[int] | None]],
        n_atoms: int | None = None,
        names: Sequence[str] | None = None,
    ) -> DosTarget:
        """Join targets for different sites into one, on the energies of the first and up to the lowest of their limits.

        :param parts: targets, each with the sites it is for, as in :meth:`at`. None keeps a target's own chosen sites.
        :param n_atoms: atoms of a candidate, if that is known; it may be more than the sites that have a target.
        :param names: what errors call the parts; by default their numbers, from 0.
        :raises ContentError: if two targets are for one site, or a site is not among the atoms.
        """
        placed: list[DosTarget] = []
        owner: dict[int, str] = {}
        for i, (target, sites) in enumerate(parts):
            name = str(i) if names is None else names[i]
            if sites is None and target.sites is None:
                raise ContentError(f"target {name} of those to combine does not say for which sites it is; give them")
            if placed and target.grid != placed[0].grid:
                target = target.on(placed[0].grid)
            try:
                placed.append(target.at(target.atoms if sites is None else sites, n_atoms))
            except ContentError as exception:
                raise ContentError(f"target {name} of those to combine: {exception}") from None
            for site in placed[-1].atoms:
                if site in owner:
                    raise ContentError(f"targets {owner[site]} and {name} of those to combine are both for site {site}")
                owner[site] = name
        if not placed:
            raise ContentError("there are no targets to combine; give at least one, with its sites")
        return cls(
            np.concatenate([target.curves for target in placed]),
            "sites",
            n_atoms,
            min(target.complete_below for target in placed),
            placed[0].grid,
            tuple(owner),
        )

    def on(self, grid: EnergyGrid) -> DosTarget:
        """Return the target on other energies; where the grid goes beyond this target's, nothing is compared."""
        limit = min(self.complete_below, self.grid.emax)
        return dataclasses.replace(
            self,
            curves=resample(self.grid.points, self.curves, grid),
            grid=grid,
            complete_below=math.inf if limit >= grid.emax else limit,
        )

    # --- distances ------------------------------------------------------------------------------------------------

    def match(self, dos: np.ndarray, complete_below: float = math.inf, window: tuple[float, float] | None = None) -> np.ndarray:
        """Return the atom of a crystal for each curve, such that they fit best (least summed |difference|), shape (n_curves,).

        :param dos: of at least as many atoms as there are curves, shape (n_atoms, grid.n).
        :param complete_below: up to where the crystal's bands are complete, in eV; nothing beyond is looked at.
        :raises ContentError: if there are fewer atoms.
        """
        return best_atoms(self.curves, np.asarray(dos), self.grid, min(self.complete_below, complete_below), window)

    def distances(
        self, dos: np.ndarray, complete_below: float = math.inf, window: tuple[float, float] | None = None
    ) -> dict[str, float]:
        """Compare a crystal's per-atom DOS with the target.

        Curves for chosen sites are compared with the atoms that fit them best, and the other atoms count for nothing: the
        totals are then those of the chosen sites. Curves for all sites of another number of atoms, and total curves, are
        compared with the crystal's total.

        :param dos: states/eV, shape (n_atoms, grid.n).
        :param complete_below: up to where the crystal's bands are complete, in eV.
        :return: ``mae`` of the per-site curves under the best assignment of atoms to sites (of the totals if there are none to
            compare), ``mae_total``, ``wasserstein`` of the totals, and ``mae_window`` like ``mae`` but within ±3 eV;
            states/eV/atom and eV.
        """
        dos = np.asarray(dos, dtype=np.float64)
        limit = min(self.complete_below, complete_below)
        fits = len(dos) == len(self.curves) if self.sites is None else len(dos) >= len(self.curves)
        if self.kind == "sites" and fits:
            wanted, got = self.curves, dos[self.match(dos, limit, window)]
        else:
            wanted, got = self.total[None], dos.mean(0)[None]
        return distances(wanted, got, self.total, self.grid, limit, window)

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
                "sites": None if self.sites is None else list(self.sites),
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
        try:
            complete, sites, grid = header["complete_below"], header.get("sites"), EnergyGrid(**header["grid"])
            return cls(
                arrays["curves"],
                header["kind"],
                header["n_atoms"],
                math.inf if complete is None else complete,
                grid,
                None if sites is None else tuple(sites),
            )
        except (KeyError, TypeError) as exception:
            raise ContentError(f"{path} has a header that is not a target's: {exception}") from None

    @classmethod
    def from_curves(
        cls,
        energies: np.ndarray,
        values: np.ndarray,
        *,
        n_atoms: int | None = None,
        per_atom: bool = False,
        complete_below: float | None = None,
        site_indices: Sequence[int] | None = None,
        grid: EnergyGrid = DEFAULT_GRID,
    ) -> DosTarget:
        """Make a target from curves on any energies.

        :param energies: eV relative to the highest occupied level, strictly increasing, shape (m,).
        :param values: states/eV; (m,) is a total curve, (n_sites, m) one curve for each site.
        :param n_atoms: for a total curve: the number of atoms of the cell it belongs to; for curves of chosen sites: the
            number of atoms of a candidate, None if that is open.
        :param per_atom: for a total curve: whether it is divided by the number of atoms already.
        :param complete_below: defaults to the end of ``energies``.
        :param site_indices: for curves of chosen sites: the atom, from 0, that each is for. A single curve, (m,) too, is for
            each of them.
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
        if site_indices is not None:
            return cls(np.atleast_2d(curves), "sites", len(np.atleast_2d(curves)), limit, grid).at(site_indices, n_atoms)
        if values.ndim == 2:
            return cls(curves, "sites", n_atoms, limit, grid)
        if not per_atom:
            if n_atoms is None:
                raise ContentError(
                    "a total DOS needs n_atoms (the atoms of the cell it belongs to), or per_atom=True; on the command line: "
                    "aiida-dosmatgen target import FILE --n-atoms N, or --per-atom"
                )
            curves = curves / n_atoms
        return cls(curves, "total", n_atoms, limit, grid)

    @classmethod
    def from_text(cls, text: str, name: str = "the file", **options: Any) -> DosTarget:
        """Make a target from the text of a CSV or JSON file.

        CSV: energies in eV in the first column; one further column is a total curve, several are sites; a heading line and
        comments (``#``) are skipped. JSON: an object with ``energies`` and either ``total`` or ``sites``, and optionally
        ``n_atoms``, ``per_atom``, ``complete_below``, and with ``sites`` also ``site_indices``.

        :param options: as in :meth:`from_curves`; they take precedence over the file.
        :raises ContentError: naming the line or key.
        """
        energies, values, stated = read_text(text, name)
        try:
            return cls.from_curves(energies, values, **{**stated, **options})
        except ContentError as exception:
            raise ContentError(f"{name}: {exception}") from None


def _indices(given: Any) -> tuple[int, ...]:
    """Return indices of atoms as whole numbers.

    :raises ContentError: if they are none.
    """
    listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) and len(given) > 0
    if listed and all(isinstance(i, int | np.integer) and not isinstance(i, bool) and i >= 0 for i in given):
        return tuple(int(i) for i in given)
    raise ContentError(f"the sites {given!r} are not a list of indices of atoms, which count from 0")
