"""Targets from files, whatever they are, and what is made of each in one line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..curve_files import ReadCurves, read_content, read_curves
from ..curve_files.likeness import most_sigma
from ..curve_files.made import curves_from, settled
from ..curve_files.readers.records import found_in_dos
from ..curves import LEAST_HELD, Curves
from ..dos import DEFAULT_SIGMA, EnergyGrid
from ..errors import ContentError
from ..files.archive import is_of_others
from ..paths import user_path
from .checks import check_options
from .points import averaged, energies_for, resampled
from .target import DosTarget, of_a_cell

if TYPE_CHECKING:
    import pymatgen.electronic_structure.dos

_SHARP = 0.3  # of the models' broadening; a curve with features narrower than that is as good as not broadened
_NARROWEST = 2.0  # eV; two standard deviations of a broadening at each end are not known any more, and something has to be left
_FEWEST, _MOST = 0.5, 36.0  # electrons per atom; hydrogen has one, and no pseudopotential has more
_MANY = 20  # energies of a curve that may be judged
_NEXT_TO_NONE = 1e-3  # of all states; a curve with fewer below zero, as one of phonons, has no occupied ones
_VALENCE = -6.0  # eV; a curve that begins below should hold the valence electrons


@dataclasses.dataclass(frozen=True, eq=False)
class TargetFile:
    """A target from a file.

    :param target: the target.
    :param said: what was made of the file, in one line.
    :param warnings: what looks wrong, also part of ``said``.
    """

    target: DosTarget
    said: str
    warnings: tuple[str, ...] = ()


def read_target(path: str | Path, **options: Any) -> TargetFile:
    """Make a target from a file or a folder of any kind that :func:`~..curve_files.read_curves` reads, or from an ``npz``.

    :param options: ``n_atoms``, ``per_atom``, ``low``, ``high``, ``sigma``, ``gap``, ``meaning``, ``site_indices`` and ``grid``
        as in :meth:`.DosTarget.from_curves`; they take precedence over the file. ``zero`` is the energy in eV, as in the file,
        that becomes zero, or says what zero is.
    :raises ContentError: one line, if it cannot be read or is no target.
    """
    path = user_path(path)
    if path.suffix == ".npz" and not is_of_others(path):
        if options:
            raise ContentError(f"{path} is a whole target; leave out {min(options)}")
        target = DosTarget.load(path)
        return TargetFile(target, f"{path.name}: target, {_shape(target)}")
    zero, sigma = _reading_options(options)
    return target_from(read_curves(path, zero=zero, sigma=sigma), **options)


def target_from_text(text: str | bytes, name: str, **options: Any) -> TargetFile:
    """Make a target from the content of a file; arguments as of :func:`read_target`.

    :raises ContentError: naming the line, column or key.
    """
    zero, sigma = _reading_options(options)
    return target_from(read_content(text, name, zero=zero, sigma=sigma), **options)


def target_from(
    read: ReadCurves,
    *,
    n_atoms: int | None = None,
    per_atom: bool = False,
    low: float | None = None,
    high: float | None = None,
    complete_below: float | None = None,
    sigma: float | None = None,
    zero: float | str | None = None,
    gap: float | None = None,
    meaning: str | None = None,
    site_indices: Sequence[int] | None = None,
    grid: EnergyGrid | None = None,
) -> TargetFile:
    """Make a target of what was read, on energies for models; arguments as of :func:`read_target`.

    :raises ContentError: if it is a piece of a density of states, or something is missing that only its owner knows.
    """
    name = read.said.partition(": ")[0]
    if read.problem is not None:
        raise ContentError(read.problem)
    read = settled(read, n_atoms, site_indices)
    try:
        warnings = list[str]()
        curves = _limited(read, low, complete_below if high is None else high)
        _check_zero(read, curves, zero)
        known_sigma, notes = _sigma(read)
        if "zero" in read.unknown and zero is None:
            notes.append("0 eV taken for the highest occupied level (--zero)")
        about: dict[str, Any] = {"sigma": known_sigma}
        about |= {"zero": zero} if isinstance(zero, str) else {}
        about |= {} if gap is None else {"gap": gap}
        about |= {} if meaning is None else {"meaning": meaning}
        points = energies_for(curves.low, curves.high, known_sigma, curves.spacing) if grid is None else grid
        put = averaged if curves.spacing < 0.5 * points.spacing else resampled
        curves = dataclasses.replace(
            curves, values=put(curves.energies, curves.values, points), energies=points.points, **about
        )
        target = _of_kind(read, curves, n_atoms, per_atom, site_indices)
        if target.sigma is not None and target.sigma < DEFAULT_SIGMA and target.high - target.low < _NARROWEST:
            raise ContentError(
                f"only {target.high - target.low:.1f} eV are known, too few for a broadening by {DEFAULT_SIGMA:g} eV; "
                "if the energies are not in eV, write the unit into their heading"
            )
        if target.kind == "total" and site_indices is None:
            warnings += _wrong_number(read, target, n_atoms)
    except ContentError as exception:
        raise ContentError(f"{name}: {exception}") from None
    said = "; ".join([read.said, _shape(target), *notes, *(f"warning: {warning}" for warning in warnings)])
    return TargetFile(target, said, (*read.warnings, *warnings))


def target_of_complete_dos(
    dos: pymatgen.electronic_structure.dos.CompleteDos,
    sigma: float = DEFAULT_SIGMA,
    grid: EnergyGrid | None = None,
    n_electrons: float | None = None,
) -> TargetFile:
    """Return the target that pymatgen's projected density of states makes; arguments as of
    :meth:`.DosTargetData.from_complete_dos`.

    :raises ContentError: if there are no projections on sites, the curves are no DOS, or hold too few electrons.
    """
    if not getattr(dos, "pdos", None):
        raise ContentError("the CompleteDos has no site projections; compute it with a projected DOS")
    name = dos.structure.composition.reduced_formula
    found = found_in_dos(dos.as_dict(), name)
    found.n_electrons = n_electrons
    read = curves_from(found, name, sigma=0.0)
    electrons = read.curves.electrons
    if n_electrons is not None and electrons < LEAST_HELD * n_electrons:
        raise ContentError(
            f"the total DOS holds {electrons:.2f} of {n_electrons:g} electrons below its Fermi energy; is it in states/eV, and "
            "is the mesh of energies fine enough?"
        )
    made = target_from(read)
    dos_ = made.target.dos
    dos_ = dos_.broadened(sigma) if sigma > 0 else dataclasses.replace(dos_, sigma=None)
    target = dataclasses.replace(made.target, dos=dos_)
    return dataclasses.replace(made, target=target if grid is None else target.on(grid))


# --- parts ----------------------------------------------------------------------------------------------------------------


def _reading_options(options: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return the zero in eV and the broadening that are asked for.

    :raises ContentError: for an option of another type.
    """
    zero = options.get("zero")
    check_options(**{key: value for key, value in options.items() if key not in ("zero", "per_atom", "site_indices", "grid")})
    if isinstance(zero, str) and zero not in ("vbm", "fermi"):
        raise ContentError(f"zero must be an energy in eV, or one of vbm, fermi, not {zero!r}")
    if isinstance(zero, float | int) and not math.isfinite(zero):
        raise ContentError(f"zero must be an energy in eV, not {zero}")
    return None if zero is None or isinstance(zero, str) else float(zero), options.get("sigma")


def _limited(read: ReadCurves, low: float | None, high: float | None) -> Curves:
    return read.curves.cut(-math.inf if low is None else low, math.inf if high is None else high)


def _check_zero(read: ReadCurves, curves: Curves, zero: float | str | None) -> None:
    if "zero" not in read.unknown or zero is not None:
        return
    below = curves.total[curves.energies <= 1e-6]
    few = curves.energies.size >= _MANY and below.sum() < _NEXT_TO_NONE * curves.total.sum()
    if few or not (below > 0).any():
        raise ContentError(
            "there are no states below 0 eV, where the occupied ones should be; "
            "give the energy that is to be zero, as --zero 5.6, if it is a density of states of electrons in eV"
        )


def _sigma(read: ReadCurves) -> tuple[float | None, list[str]]:
    """Return the broadening, None if nobody knows."""
    if "sigma" not in read.unknown:
        return read.curves.sigma, []
    if most_sigma(read.curves) < _SHARP * DEFAULT_SIGMA:
        return 0.0, ["no broadening to be seen"]
    return None, ["broadening not stated, taken for that of the models (--sigma)"]


def _of_kind(
    read: ReadCurves, curves: Curves, n_atoms: int | None, per_atom: bool, site_indices: Sequence[int] | None
) -> DosTarget:
    if curves.resolved and per_atom:
        raise ContentError(f"per_atom is for a total, and there are curves of {len(curves)} sites; leave it out")
    sites = read.sites if site_indices is None else site_indices
    if sites is not None:
        of_site = dataclasses.replace(curves, resolved=True)
        return DosTarget(of_site, "sites", len(of_site)).at(sites, read.n_atoms if n_atoms is None else n_atoms)
    if curves.resolved:
        return DosTarget(curves, "sites", read.n_atoms if n_atoms is None else n_atoms)
    if per_atom or read.per_atom:
        return DosTarget(curves, "total", n_atoms)
    return of_a_cell(curves, read.n_atoms if n_atoms is None else n_atoms)


def _wrong_number(read: ReadCurves, target: DosTarget, n_atoms: int | None) -> list[str]:
    """Return what looks wrong about the electrons for each atom."""
    warnings = []
    if None not in (n_atoms, read.n_atoms) and n_atoms != read.n_atoms and not read.per_atom:
        warnings.append(f"the file is of {read.n_atoms} atoms, and {n_atoms} are taken, as asked for")
    electrons = target.dos.electrons
    if target.low < _VALENCE and electrons < _FEWEST:
        warnings.append(f"{electrons:.2g} electrons per atom, fewer than any element has; is it in states/eV?")
    if electrons > _MOST:
        warnings.append(f"{electrons:.0f} electrons per atom, more than any element has; how many atoms has the cell?")
    return warnings


def _shape(target: DosTarget) -> str:
    if target.kind == "total":
        return "total per atom" + ("" if target.n_atoms is None else f" of {target.n_atoms} atoms")
    if target.sites is not None:
        return f"for the atoms {', '.join(map(str, target.sites))}"
    return f"one curve for each of {target.n_atoms} atoms"
