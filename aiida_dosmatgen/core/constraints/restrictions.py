"""The elements that each atom of a crystal may be. Each restriction names its origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..elements import SYMBOLS
from .assignment import shortage
from .sites import SiteConstraint

ALL = frozenset(SYMBOLS[1:])


class Restriction(NamedTuple):
    """One reason why an atom is only some elements.

    :param source: who asks for it, as it is called in a job: ``sites[0]``, ``composition``.
    :param text: what it asks for, as a clause.
    :param symbols: what the atom may be.
    """

    source: str
    text: str
    symbols: frozenset[str]


def listed(names: Iterable[object]) -> str:
    """Return names as text: ``As, Ga``."""
    return ", ".join(str(name) for name in names)


def atoms_of(constraint: SiteConstraint, n_atoms: int) -> Sequence[int]:
    """Return the atoms that a constraint speaks of."""
    return range(n_atoms) if constraint.sites == "all" else constraint.sites


def of_sites(sites: Sequence[SiteConstraint], n_atoms: int, template: Sequence[str] | None) -> list[list[Restriction]]:
    """Return the restrictions on each of N atoms.

    :param template: symbols of the template's atoms; None leaves out what is taken from there.
    """
    restrictions: list[list[Restriction]] = [[] for _ in range(n_atoms)]
    for i, constraint in enumerate(sites):
        for atom in atoms_of(constraint, n_atoms):
            restrictions[atom] += _of_one(constraint, f"sites[{i}]", atom, template)
    return restrictions


def _of_one(constraint: SiteConstraint, source: str, atom: int, template: Sequence[str] | None) -> Iterator[Restriction]:
    if constraint.element == "template":
        if template is not None:
            symbol = template[atom]
            yield Restriction(source, f"{source} fixes atom {atom} to {symbol} as in the template", frozenset([symbol]))
    elif constraint.element is not None:
        yield Restriction(source, f"{source} fixes atom {atom} to {constraint.element}", frozenset([constraint.element]))
    if constraint.allowed is not None:
        text = f"{source} allows atom {atom} only {listed(constraint.allowed)}"
        yield Restriction(source, text, frozenset(constraint.allowed))
    if constraint.forbidden is not None:
        text = f"{source} forbids atom {atom} {listed(constraint.forbidden)}"
        yield Restriction(source, text, ALL - frozenset(constraint.forbidden))


def of_counts(source: str, counts: Iterable[str]) -> Restriction:
    """Return the restriction to the elements of a composition."""
    return Restriction(source, f"{source} has only {listed(counts)}", frozenset(counts))


def conflict(restrictions: Sequence[Restriction]) -> str | None:
    """Say which of the restrictions on one atom exclude each other, or None if something is left."""
    left = ALL
    for n, later in enumerate(restrictions):
        if left & later.symbols:
            left &= later.symbols
            continue
        for earlier in restrictions[:n]:
            if not earlier.symbols & later.symbols:
                lacks = later.source in ("composition", "formula") and len(earlier.symbols) == 1
                text = f"{later.source} has no {listed(earlier.symbols)}" if lacks else later.text
                return f"{earlier.text}, but {text}"
        return ", ".join(r.text for r in restrictions[: n + 1]) + ": no element is left"
    return None


def table(restrictions: Sequence[Sequence[Restriction]], elements: Sequence[str]) -> np.ndarray:
    """Return which of the elements each atom may be, shape (N, K) bool."""
    return np.array([[all(symbol in r.symbols for r in many) for symbol in elements] for many in restrictions], dtype=bool)


def lacking(restrictions: Sequence[Sequence[Restriction]], counts: Mapping[str, int], source: str) -> str | None:
    """Say why no assignment gives an exact composition, naming the elements and who restricts the atoms; None if one does."""
    symbols = list(counts)
    found = shortage(table(restrictions, symbols), np.array(list(counts.values())))
    if found is None:
        return None
    short, atoms = [symbols[e] for e in found[0]], found[1].tolist()
    wanted = " and ".join(f"{counts[s]} {s}" for s in short)
    others = [many for atom, many in enumerate(restrictions) if atom not in atoms]
    sources = dict.fromkeys(r.source for many in others for r in many if not r.symbols.issuperset(short) and r.source != source)
    where = f"only atom{'s' * (len(atoms) > 1)} {listed(atoms)}" if atoms else "no atom"
    return f"{source} has {wanted}, but {listed(sources)} leave{'s' * (len(sources) == 1)} {where} for {' or '.join(short)}"
