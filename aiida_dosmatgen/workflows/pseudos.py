"""Pseudopotentials of many elements at once: structures are not known when a campaign is set up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common import MultipleObjectsError, NotExistent
from aiida_pseudo.data.pseudo.upf import UpfData
from aiida_pseudo.groups.family.pseudo import PseudoPotentialFamily

from ..core.dft.upf import Upf, parse_upf
from ..core.errors import ContentError

_READ: dict[str, Upf] = {}
"""Headers that were read, by the uuids of stored nodes, whose files do not change."""


def load_family(label: str) -> PseudoPotentialFamily:
    """Return the pseudopotential family of a label.

    :raises ValueError: if there is none, or more than one.
    """
    query = orm.QueryBuilder().append(PseudoPotentialFamily, filters={"label": label})
    try:
        return query.one()[0]
    except NotExistent:
        raise ValueError(
            f"there is no pseudopotential family {label!r}; see aiida-pseudo list and aiida-pseudo install, "
            "or aiida-dosmatgen setup localhost for the default"
        ) from None
    except MultipleObjectsError:
        raise ValueError(f"{query.count()} pseudopotential families are called {label!r}; relabel all but one") from None


def pseudos_of(label: str, elements: Iterable[str] | None = None) -> dict[str, UpfData]:
    """Return the pseudopotentials of a family by element.

    :param elements: chemical symbols; those that the family does not have are left out, None takes all it has.
    :raises ValueError: if the family does not exist, or has none of the elements.
    """
    family = load_family(label)
    chosen = sorted(set(family.elements) if elements is None else set(family.elements) & set(elements))
    if not chosen:
        raise ValueError(f"the family {label!r} has no pseudopotential for {' '.join(sorted(elements or []))}")
    return {symbol: family.get_pseudo(symbol) for symbol in chosen}


def headers(pseudos: Mapping[str, UpfData]) -> dict[str, Upf]:
    """Return what the files of pseudopotentials say of themselves.

    :raises ContentError: for a file whose header is of no known format.
    """
    return {symbol: _header(pseudo) for symbol, pseudo in pseudos.items()}


def missing_pseudo(symbols: Iterable[str], pseudos: Mapping[str, UpfData]) -> str | None:
    """Say which elements have no pseudopotential, or one on which nothing can be projected; or None."""
    wanted = sorted(set(symbols))
    missing = [symbol for symbol in wanted if symbol not in pseudos]
    if missing:
        return f"no pseudopotential for {' '.join(missing)}; there are some for {' '.join(sorted(pseudos))}"
    try:
        found = headers({symbol: pseudos[symbol] for symbol in wanted})
    except ContentError as exception:
        return str(exception)
    blind = [symbol for symbol, upf in found.items() if not upf.wavefunctions]
    if blind:
        return f"the pseudopotential of {blind[0]} has no atomic wavefunctions, so that nothing can be projected"
    return None


def validate_pseudos(pseudos: Mapping[str, UpfData] | None, _: Any) -> str | None:
    """Refuse pseudopotentials under another element's name."""
    for symbol, pseudo in (pseudos or {}).items():
        if pseudo.element != symbol:
            return f"the pseudopotential given for {symbol} is one of {pseudo.element}"
    return None


def _header(pseudo: UpfData) -> Upf:
    if pseudo.uuid not in _READ:
        with pseudo.open(mode="rb") as stream:
            found = parse_upf(stream.read(), Path(pseudo.filename))
        if not pseudo.is_stored:
            return found
        _READ[pseudo.uuid] = found
    return _READ[pseudo.uuid]
