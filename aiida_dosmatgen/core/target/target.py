"""Target curves, for the sites of a crystal or for the whole crystal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ..curves import Curves, Distance, best_sites, compare
from ..dos import DEFAULT_GRID, DEFAULT_SIGMA, EnergyGrid
from ..errors import ContentError
from .checks import check_options, check_values, check_window, indices_of, placed_curves
from .distances import measured_wishes, with_distance
from .points import checked, energies_for, resampled
from .wish_curve import made_curve, spoken_of
from .wish_text import wishes_of
from .wishes import Wish

_OF_A_CURVE = ("mae", "mae_window", "mae_total", "wasserstein", "r2")


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class DosTarget:
    """Curves for all sites or for chosen ones, or one total curve, in states/eV/atom; and wishes, or wishes alone.

    Chosen sites are kept in increasing order; if they are all the atoms there are, ``sites`` is None.

    :param dos: the curves, of one site each if ``kind`` is ``sites``, of an average atom if ``total``; or their values alone,
        shape (n_curves, n), which are then sums of projections as models before 0.3 learnt them.
    :param n_atoms: atoms of a candidate; the number of curves if they are for all sites. None leaves it open, which curves of
        chosen sites and total curves may.
    :param complete_below: energy in eV up to which values are known; this and the following are not used with curves.
    :param grid: the energies of values.
    :param sites: the atom, from 0, that each curve is for; the others are free. None: all atoms, in order.
    :param low: energy in eV from which values are known; by default all are.
    :param sigma: broadening of values in eV, None if unknown.
    :param zero: what energy zero of values is, and so on with ``gap`` and ``meaning``; see :class:`.Curves`.
    :param wishes: what is asked for of the whole crystal besides the curves (``wishes.py``).
    :param only_wishes: whether the curve was made from the wishes (:meth:`from_wishes`): candidates are sampled by it, and it
        counts for nothing in a comparison.
    :raises ContentError: for NaN, negative or all-zero curves, wrong lengths, and sites that are none or given twice.
    """

    dos: Curves
    kind: Literal["sites", "total"]
    n_atoms: int | None
    sites: tuple[int, ...] | None
    wishes: tuple[Wish, ...] = ()
    only_wishes: bool = False

    def __init__(
        self,
        dos: Curves | np.ndarray,
        kind: Literal["sites", "total"] = "sites",
        n_atoms: int | None = None,
        complete_below: float = math.inf,
        grid: EnergyGrid = DEFAULT_GRID,
        sites: Sequence[int] | None = None,
        *,
        low: float = -math.inf,
        sigma: float | None = DEFAULT_SIGMA,
        zero: Literal["vbm", "fermi"] | None = None,
        gap: float | None = None,
        meaning: Literal["partition", "projections"] = "projections",
        wishes: Iterable[Wish | str] = (),
        only_wishes: bool = False,
    ) -> None:
        if kind not in ("sites", "total"):
            raise ContentError(f"a target is of kind 'sites' or 'total', not {kind!r}")
        if not isinstance(dos, Curves):
            values = check_values(np.atleast_2d(np.asarray(dos, dtype=np.float64)), grid)
            check_window(low, complete_below, grid)
            about = {"zero": zero, "gap": gap, "meaning": meaning}
            dos = Curves(values[:, None, None], grid.points, sigma, low, complete_below, **about)  # type: ignore[arg-type]
        curves = dos.sites
        if kind == "total" and len(curves) != 1:
            raise ContentError(f"a total DOS is one curve, not {len(curves)}; call them sites if there is one for each atom")
        if curves.min() < -1e-6 * max(curves.max(), 1e-300):
            site, point = np.unravel_index(curves.argmin(), curves.shape)
            raise ContentError(
                f"the DOS is negative ({curves.min():.3g} states/eV at {dos.energies[point]:.2f} eV, curve {site}); "
                "a DOS is ≥ 0"
            )
        known = (dos.energies >= dos.low) & (dos.energies <= dos.high)
        if not known.any() or curves[:, known].max() <= 0:
            raise ContentError(
                f"the DOS is zero everywhere between {dos.low:g} and {dos.high:g} eV; "
                "are the energies in eV, relative to the highest occupied level?"
            )
        if n_atoms is not None and n_atoms < 1:
            raise ContentError(f"a crystal cannot have {n_atoms} atoms")
        if sites is not None:
            dos, sites = placed_curves(dos, kind, n_atoms, sites)
        elif kind == "sites":
            if n_atoms not in (None, len(curves)):
                raise ContentError(
                    f"{len(curves)} site curves but {n_atoms} atoms; say which sites the curves are for, "
                    "if the others are to be free"
                )
            n_atoms = len(curves)
        resolved = kind == "sites"
        if dos.values.min() < 0 or dos.resolved != resolved:
            dos = dataclasses.replace(dos, values=np.clip(dos.values, 0, None), resolved=resolved)
        wishes = wishes_of(given) if (given := tuple(wishes)) else ()
        if only_wishes and not (wishes and kind == "total"):
            raise ContentError("a curve that was made from wishes is a total curve, and has its wishes")
        about_wishes = (("wishes", wishes), ("only_wishes", only_wishes))
        for name, value in (("dos", dos), ("kind", kind), ("n_atoms", n_atoms), ("sites", sites), *about_wishes):
            object.__setattr__(self, name, value)

    @property
    def curves(self) -> np.ndarray:
        """States/eV/atom, spins and channels summed, shape (n_curves, n)."""
        return self.dos.sites

    @property
    def grid(self) -> EnergyGrid:
        """The energies of the curves."""
        energies = self.dos.energies
        return EnergyGrid(float(energies[0]), float(energies[-1]), len(energies))

    @property
    def low(self) -> float:
        """Energy in eV from which the curves are known."""
        return self.dos.low

    @property
    def high(self) -> float:
        """Energy in eV up to which the curves are known."""
        return self.dos.high

    @property
    def complete_below(self) -> float:
        """The former name of :attr:`high`; infinite if the curves are known up to the end of their energies."""
        return self.high if self.high < self.dos.energies[-1] else math.inf

    @property
    def sigma(self) -> float | None:
        """Broadening of the curves in eV; None if nobody says."""
        return self.dos.sigma

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

    # --- wishes ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_wishes(
        cls, wishes: Iterable[Wish | str], n_atoms: int | None = None, grid: EnergyGrid = DEFAULT_GRID
    ) -> DosTarget:
        """Return the target that wishes make without a curve of their own.

        Candidates are sampled by a curve that grants them (``wish_curve.py``), and ranked by the wishes themselves.

        :param n_atoms: atoms of a candidate; None leaves it open.
        :param grid: the energies of the curve.
        """
        given = wishes_of(tuple(wishes))
        return cls(made_curve(given, grid), "total", n_atoms, wishes=given, only_wishes=True)

    def wishing(self, wishes: Iterable[Wish | str]) -> DosTarget:
        """Return the target with further wishes; a curve that was made from wishes is made again from all of them."""
        joined = (*self.wishes, *wishes_of(tuple(wishes)))
        if self.only_wishes:
            return DosTarget.from_wishes(joined, self.n_atoms, self.grid)
        return dataclasses.replace(self, wishes=joined)

    def spoken(self, energies: np.ndarray) -> np.ndarray:
        """Tell at which energies the curves say something, shape (n,): where they are known, or wishes speak.

        :param energies: eV, shape (n,).
        """
        known = (energies >= self.low) & (energies <= self.high)
        return known & spoken_of(self.wishes, energies) if self.only_wishes else known

    # --- sites ----------------------------------------------------------------------------------------------------

    def at(self, sites: Sequence[int], n_atoms: int | None = None) -> DosTarget:
        """Return the target for chosen sites, the other ones free. One curve, total or not, goes to each of the sites.

        :param n_atoms: atoms of a candidate, if that is known.
        :raises ContentError: for a wrong number of sites, and sites that are none or given twice.
        """
        sites, dos = indices_of(sites), self.dos
        if self.only_wishes:
            raise ContentError("wishes are for the whole crystal; a target without a curve cannot be for chosen sites")
        if len(dos) == 1:
            dos = dataclasses.replace(dos, values=np.repeat(dos.values, len(sites), axis=0), resolved=True)
        return DosTarget(dos, "sites", n_atoms, sites=sites, wishes=self.wishes)

    @classmethod
    def combine(
        cls,
        parts: Iterable[tuple[DosTarget, Sequence[int] | None]],
        n_atoms: int | None = None,
        names: Sequence[str] | None = None,
    ) -> DosTarget:
        """Join targets for different sites into one, on the energies of the first and over what all of them are known at.

        Spins and channels are summed, and sharper curves are broadened to the broadest. If one holds sums of projections, so
        does the whole.

        :param parts: targets, each with the sites it is for, as in :meth:`at`. None keeps a target's own chosen sites.
        :param n_atoms: atoms of a candidate, if that is known; it may be more than the sites that have a target.
        :param names: what errors call the parts; by default their numbers, from 0.
        :raises ContentError: if two targets are for one site, or a site is not among the atoms.
        """
        from .combining import combined

        return combined(parts, n_atoms, names)

    def on(self, grid: EnergyGrid) -> DosTarget:
        """Return the target on other energies; where they go beyond this target's, nothing is known."""
        return dataclasses.replace(self, dos=self.dos.on(grid.points))

    def for_model(self, grid: EnergyGrid, sigma: float) -> DosTarget:
        """Return the target as a model takes it: on its energies, a sharper one broadened to its σ, a broader one as it is.

        Where the target says no broadening, it is taken for the model's.
        """
        dos = self.dos.summed()
        if dos.sigma is None or dos.sigma < sigma:
            dos = dos.broadened(sigma)
        return dataclasses.replace(self, dos=dos.on(grid.points))

    def beside(self, sigma: float = DEFAULT_SIGMA) -> DosTarget:
        """Return the target as it looks beside curves of a broadening: a sharper one is broadened, on energies for that."""
        if self.sigma is None or self.sigma >= sigma - 1e-3:
            return self
        return self.for_model(energies_for(self.low, self.high, sigma), sigma)

    # --- distances ------------------------------------------------------------------------------------------------

    def match(
        self, dos: Curves | np.ndarray, complete_below: float = math.inf, window: tuple[float, float] | None = None
    ) -> np.ndarray:
        """Return the atom of a crystal for each curve, such that they fit best (least summed |difference|), shape (n_curves,).

        :param dos: of at least as many atoms as there are curves: curves, or their values on the grid of the target, shape
            (n_atoms, n).
        :param complete_below: up to where such values are known, in eV; nothing beyond is looked at.
        :raises ContentError: if there are fewer atoms.
        """
        if len(dos) < len(self.dos):
            raise ContentError(f"a crystal of {len(dos)} atoms cannot have the {len(self.dos)} sites of the target")
        got = self._curves_of(dos, complete_below)
        low, high = max(got.low, self.low), min(got.high, self.high)
        if window is not None:
            low, high = max(low, window[0]), min(high, window[1])
        points = self.dos.energies[(self.dos.energies >= low) & (self.dos.energies <= high)]
        rows, columns = best_sites(got.on(points), self.dos.on(points))
        return rows[np.argsort(columns)]

    def compared(self, dos: Curves, window: tuple[float, float] | None = None) -> Distance:
        """Compare the density of states of a crystal with the target by :func:`.compare`.

        Curves for chosen sites are compared with the atoms that fit them best, and the other atoms count for nothing: the
        totals are then those of the chosen sites. Curves for all sites of another number of atoms, and total curves, are
        compared with the crystal's total.

        :param dos: of each of its atoms.
        :param window: further limits (low, high) in eV.
        :raises ContentError: if nothing is known of both over a window that is worth it.
        """
        return compare(dos, self.dos, (len(dos), len(self.dos)), window, chosen=self.sites is not None)

    def distances(
        self,
        dos: Curves | np.ndarray,
        complete_below: float = math.inf,
        window: tuple[float, float] | None = None,
        resolved: Curves | None = None,
    ) -> dict[str, Any]:
        """Return :meth:`compared` by the names that scores and rankings have, and what became of the wishes.

        :param dos: of each atom of a crystal: curves, or their values on the grid of the target, shape (n_atoms, n).
        :param complete_below: up to where such values are known, in eV.
        :param window: further limits (low, high) in eV of the comparison with the curve; wishes have their own.
        :param resolved: what the wishes are measured on, if that is not ``dos``: with channels, and a partition of the total.
        :return: ``mae`` of the per-site curves under the best assignment of atoms to sites (of the totals if there are none to
            compare), ``mae_window`` the same within ±3 eV (None if the window has none of them), ``mae_total`` of the totals,
            in states/eV/atom; ``wasserstein`` of the totals in eV; their ``r2``; the window ``low``, ``high`` and the
            broadening ``sigma`` of the comparison in eV. With wishes also what :func:`.distances.measured_wishes` returns, and
            ``distance``, by which crystals are ranked (:func:`.distances.distance_of`). With wishes alone there is no
            difference from a curve, and the former are None.
        """
        curves = self._curves_of(dos, complete_below)
        if not self.wishes:
            return named(self.compared(curves, window))
        found = measured_wishes(self.wishes, curves if resolved is None else resolved)
        if self.only_wishes:
            nothing = dict.fromkeys(_OF_A_CURVE)
            values = {**nothing, "low": curves.low, "high": curves.high, "sigma": curves.sigma}
        else:
            values = named(self.compared(curves, window))
        return with_distance({**values, **found})

    def _curves_of(self, dos: Curves | np.ndarray, complete_below: float) -> Curves:
        if isinstance(dos, Curves):
            return dos
        values = np.asarray(dos, dtype=np.float64)[:, None, None]
        return Curves(values, self.dos.energies, self.sigma, -math.inf, complete_below, meaning=self.dos.meaning)

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path | BinaryIO, **header: Any) -> None:
        """Write as ``npz`` without pickles."""
        from .archive import save

        save(self, path, header)

    @classmethod
    def load(cls, path: str | Path | BinaryIO) -> DosTarget:
        """Read what :meth:`save` wrote, and what earlier versions wrote.

        :raises ContentError: for a truncated or foreign file.
        """
        from .archive import load

        return load(path)

    @classmethod
    def from_curves(
        cls,
        energies: np.ndarray,
        values: np.ndarray,
        *,
        n_atoms: int | None = None,
        per_atom: bool = False,
        high: float | None = None,
        low: float | None = None,
        sigma: float | None = None,
        zero: Literal["vbm", "fermi"] | None = None,
        gap: float | None = None,
        meaning: Literal["partition", "projections"] = "partition",
        complete_below: float | None = None,
        site_indices: Sequence[int] | None = None,
        grid: EnergyGrid | None = None,
    ) -> DosTarget:
        """Make a target from curves on any energies.

        :param energies: eV relative to the highest occupied level, strictly increasing, shape (m,).
        :param values: states/eV; (m,) is a total curve, (n_sites, m) one curve for each site.
        :param n_atoms: for a total curve: the number of atoms of the cell it belongs to; for curves of chosen sites: the
            number of atoms of a candidate, None if that is open.
        :param per_atom: for a total curve: whether it is divided by the number of atoms already.
        :param high: energy in eV up to which the curves are to be trusted; at most, and by default, the end of ``energies``.
        :param low: energy from which they are; at least, and by default, the beginning of ``energies``.
        :param sigma: standard deviation of their Gaussian broadening in eV; None if it is not known.
        :param zero: what energy zero is, ``vbm`` or ``fermi``; None if it is not known.
        :param gap: the band gap in eV; None if it is not known.
        :param meaning: of site curves: ``partition`` if they add up to the total, ``projections`` if they are what projectors
            saw, see :class:`.Curves`.
        :param complete_below: the former name of ``high``.
        :param site_indices: for curves of chosen sites: the atom, from 0, that each is for. A single curve, (m,) too, is for
            each of them.
        :param grid: the energies to keep; by default those of models, or more where the curves go further or are sharper.
        :raises ContentError: naming what is wrong.
        """
        check_options(n_atoms, low, high, complete_below, sigma, gap, meaning, zero)
        energies, values = checked(energies, values)
        low = max(float(energies[0]), -math.inf if low is None else low)
        high = complete_below if high is None else high
        high = min(float(energies[-1]), math.inf if high is None else high)
        grid = energies_for(low, high, sigma) if grid is None else grid
        curves = resampled(energies, values, grid)
        about: dict[str, Any] = {"low": low, "sigma": sigma, "zero": zero, "gap": gap, "meaning": meaning}
        if site_indices is not None:
            curves = np.atleast_2d(curves)
            return cls(curves, "sites", len(curves), high, grid, **about).at(site_indices, n_atoms)
        if values.ndim == 2:
            return cls(curves, "sites", n_atoms, high, grid, **about)
        total = cls(curves, "total", None, high, grid, **{**about, "meaning": "partition"})
        return dataclasses.replace(total, n_atoms=n_atoms) if per_atom else of_a_cell(total.dos, n_atoms)

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> DosTarget:
        """Make a target from a file or folder of any kind, by :func:`.files.read_target`, which says what it made of it."""
        from .files import read_target

        return read_target(path, **options).target

    @classmethod
    def from_text(cls, text: str, name: str = "the file", **options: Any) -> DosTarget:
        """Make a target from the text of a file, by :func:`.files.target_from_text`."""
        from .files import target_from_text

        return target_from_text(text, name, **options).target


def of_a_cell(curves: Curves, n_atoms: int | None) -> DosTarget:
    """Return the target of the total of a cell.

    :param curves: of the whole cell.
    :raises ContentError: without a number of atoms.
    """
    if n_atoms is None:
        raise ContentError(
            "a total DOS needs n_atoms (the atoms of the cell it belongs to), or per_atom=True; on the command line: "
            "aiida-dosmatgen target import FILE --n-atoms N, or --per-atom"
        )
    electrons = None if curves.n_electrons is None else curves.n_electrons / n_atoms
    per_atom = dataclasses.replace(curves, values=curves.values / n_atoms, n_electrons=electrons)
    return DosTarget(per_atom, "total", n_atoms)


def named(distance: Distance) -> dict[str, Any]:
    """Return a distance by the names that scores and rankings have."""
    values = dataclasses.asdict(distance)
    values["r2"] = values["r2"] if math.isfinite(values["r2"]) else None
    return {"mae_window" if name == "mae_near_zero" else name: value for name, value in values.items()}
