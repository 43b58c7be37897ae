"""From what a reader found in a file to curves, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..curves import Curves, Zero
from ..errors import ContentError
from .electrons import check_electrons, expected_electrons
from .found import Found, Parts, ReadCurves, Total, Unknown
from .order import check_values, put_in_order, put_on_a_grid
from .zero import zero_of

_NOTED = 2e-3  # of the states; a difference of less between sites and total is not worth a word


def curves_from(found: Found, name: str, zero: float | None = None, sigma: float | None = None) -> ReadCurves:
    """Return the curves of what was found.

    :param name: of the file, for errors.
    :param zero: the energy in eV, as in the file, that becomes zero; by default what the file tells.
    :param sigma: broadening in eV; by default what the file states.
    :raises ContentError: for what is no density of states.
    """
    put_in_order(found, name)
    check_values(found, name)
    put_on_a_grid(found)
    if sigma is not None:
        found.sigma = sigma
    if found.sigma is not None:
        found.notes.append(f"broadening {found.sigma:g} eV")
    shift, kind_of_zero, gap = zero_of(found, name, zero)
    unknown = set[Unknown]()
    if kind_of_zero is None and zero is None:
        unknown.add("zero")
    if found.sigma is None:
        unknown.add("sigma")
    if not found.scaled or (isinstance(found.states, Parts) and found.states.total is None and not found.states.whole):
        unknown.add("scale")
    if kind_of_zero is not None:
        found.n_electrons = expected_electrons(found, shift)
    curves = _curves(found, shift, kind_of_zero, gap if found.gap is None else found.gap)
    enough, more = check_electrons(found, curves, name)
    warnings = [*found.warnings, *more]
    if not enough:
        unknown.add("scale")
    n_atoms = found.n_atoms
    if n_atoms is None and curves.resolved and found.sites is None and found.rows == "sites":
        n_atoms = len(curves)
    what = [_shape(found, curves), *found.notes, *(f"warning: {warning}" for warning in warnings)]
    problem = found.lacks or (found.absolute if "zero" in unknown else None)
    return ReadCurves(
        curves=curves,
        said=" ".join(f"{name}: {found.kind}, {'; '.join(what)}".split()),
        kind=found.kind,
        unknown=frozenset(unknown),
        warnings=tuple(warnings),
        n_atoms=n_atoms,
        per_atom=found.per_atom,
        rows=found.rows,
        elements=found.elements,
        sites=found.sites,
        fermi=None if found.fermi is None else found.fermi - shift,
        unit=found.unit,
        problem=None if problem is None else f"{name} is a {found.kind}: {problem}",
    )


def settled(read: ReadCurves, n_atoms: int | None = None, sites: Sequence[int] | None = None) -> ReadCurves:
    """Return what was read when it is known of how many atoms: curves of elements are of one atom each, or are summed.

    :param n_atoms: atoms of the cell; by default what the file tells.
    :param sites: the atoms that the curves are for, if they are chosen ones.
    :raises ContentError: if the curves are of some atoms only, or the number of atoms is needed, or less than that of elements.
    """
    if read.rows == "sites" or sites is not None:
        return dataclasses.replace(read, rows="sites")
    name = read.said.partition(": ")[0]
    n_atoms = read.n_atoms if n_atoms is None else n_atoms
    if read.rows == "some sites":
        raise ContentError(
            f"{name}: its curves are not of all atoms of a cell; say which atoms of a candidate they are for: "
            "--sites 0,4 --n-atoms N (atoms count from 0), or give a total"
        )
    if n_atoms is None:
        raise ContentError(
            f"{name}: a curve of an element may be that of one atom, or the sum over all of its atoms; "
            f"give the atoms of the cell, --n-atoms N ({len(read.curves)} if it is one each)"
        )
    if n_atoms < len(read.curves):
        raise ContentError(f"{name}: curves of {len(read.curves)} elements, but {n_atoms} atoms; give the atoms of the cell")
    if n_atoms == len(read.curves):
        return dataclasses.replace(read, rows="sites", n_atoms=n_atoms)
    total = read.curves.summed(spins=False, channels=False, sites=True)
    said = f"{read.said}; curves of elements added to the total"
    return dataclasses.replace(read, rows="sites", curves=total, said=said, elements=None, n_atoms=n_atoms)


def _curves(found: Found, shift: float, zero: Zero | None, gap: float | None) -> Curves:
    energies, states = found.energies - shift, found.states
    first, last = float(energies[0]), float(energies[-1])
    curves = Curves(
        values=states.values[None, :, None] if isinstance(states, Total) else states.values,
        energies=energies,
        sigma=found.sigma or 0.0,
        low=first if found.low is None else max(found.low - shift, first),
        high=last if found.high is None else min(found.high - shift, last),
        zero=zero,
        gap=gap,
        n_electrons=found.n_electrons,
        channels=("all",) if isinstance(states, Total) else states.channels,
        resolved=isinstance(states, Parts) and states.resolved,
        meaning=found.meaning or "partition",
    )
    if isinstance(states, Total) or states.total is None:
        return curves
    total = states.total.values
    there_are = np.flatnonzero(curves.values.any((0, 1, 3)))  # an orbital that no site has gets no share of the rest
    if not there_are.size:
        there_are = np.arange(len(curves.channels))
    names = tuple(curves.channels[i] for i in there_are)
    whole = np.zeros_like(curves.values)
    for spin in range(whole.shape[1]):
        one = dataclasses.replace(curves, values=curves.values[:, [spin]][:, :, there_are], channels=names)
        whole[:, spin, there_are] = one.scaled_to(total[spin]).values[:, 0]
    occupied = energies <= 0 if zero is not None and (energies <= 0).any() else np.ones(energies.size, bool)
    there = float(total[:, occupied].sum())
    held = float(curves.total[occupied].sum()) / there if there > 0 else None
    if held is not None and abs(held - 1) > _NOTED:
        what = "sites" if curves.resolved else "orbitals"
        found.notes.append(f"{what} held {100 * held:.1f} % of the {'occupied ' if zero else ''}states, scaled to the total")
    return dataclasses.replace(curves, values=whole, projected=held, meaning="partition")


def _shape(found: Found, curves: Curves) -> str:
    word = "element" if found.rows == "elements" else "site"
    rows = f"{len(curves)} {word}{'s' * (len(curves) > 1)}" if curves.resolved else "total"
    if found.elements and curves.resolved:
        rows += f" ({_grouped(found.elements)})"
    if curves.channels != ("all",):
        rows += " with " + " ".join(c for i, c in enumerate(curves.channels) if curves.values[:, :, i].any())
    spins = ", both spins (added)" if curves.values.shape[1] == 2 else ""
    low, high = found.energies[[0, -1]]
    return f"{rows}{spins}, {found.number or len(curves.energies)} energies from {low:g} to {high:g} eV in the file"


def _grouped(symbols: Sequence[str]) -> str:
    """Write symbols in order, neighbours counted: ``Li4 Fe4``."""
    groups: list[list] = []
    for symbol in symbols:
        if groups and groups[-1][0] == symbol:
            groups[-1][1] += 1
        else:
            groups.append([symbol, 1])
    return " ".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in groups)
