"""Pseudopotentials of many elements at once, with their cutoffs: structures are not known when a campaign is set up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily
from aiida_pseudo.groups.mixins import RecommendedCutoffMixin


def load_family(label: str) -> PseudoPotentialFamily:
    """Return the pseudopotential family of a label.

    :raises ValueError: if there is none, or more than one, or it recommends no cutoffs.
    """
    query = orm.QueryBuilder().append(PseudoPotentialFamily, filters={"label": label})
    try:
        family = query.one()[0]
    except NotExistent:
        raise ValueError(
            f"there is no pseudopotential family {label!r}; see aiida-pseudo list and aiida-pseudo install"
        ) from None
    except MultipleObjectsError:
        raise ValueError(f"{query.count()} pseudopotential families are called {label!r}; relabel all but one") from None
    if not isinstance(family, RecommendedCutoffMixin):
        raise ValueError(f"the family {label!r} recommends no cutoffs; install it as pseudo.family.cutoffs and set them")
    return family


def pseudos_and_cutoffs(
    label: str, elements: Iterable[str] | None = None, stringency: str | None = None
) -> tuple[dict[str, UpfData], dict[str, list[float]]]:
    """Return the pseudopotentials of a family and their (ecutwfc, ecutrho) in Ry, for each element.

    :param elements: chemical symbols; those that the family does not have are left out, None takes all it has.
    :param stringency: which of the family's cutoffs; None takes its default.
    :raises ValueError: if the family does not exist, has no cutoffs, or has none of the elements.
    """
    family = load_family(label)
    chosen = sorted(set(family.elements) if elements is None else set(family.elements) & set(elements))
    if not chosen:
        raise ValueError(f"the family {label!r} has no pseudopotential for {' '.join(sorted(elements or []))}")
    try:
        cutoffs = {
            symbol: list(family.get_recommended_cutoffs(elements=symbol, stringency=stringency, unit="Ry")) for symbol in chosen
        }
    except ValueError as exception:
        raise ValueError(f"the family {label!r}: {exception}") from None
    return {symbol: family.get_pseudo(symbol) for symbol in chosen}, cutoffs


def valence_electrons(symbols: Iterable[str], pseudos: Mapping[str, UpfData]) -> float:
    """Return how many electrons the pseudopotentials of these atoms have together."""
    return float(sum(pseudos[symbol].z_valence for symbol in symbols))


def validate_pseudos(pseudos: Mapping[str, UpfData] | None, _: Any) -> str | None:
    """Refuse pseudopotentials under another element's name."""
    for symbol, pseudo in (pseudos or {}).items():
        if pseudo.element != symbol:
            return f"the pseudopotential given for {symbol} is one of {pseudo.element}"
    return None
